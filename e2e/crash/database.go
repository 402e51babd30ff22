package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/runnel-dev/runnel/e2e/check"
)

// slotName is the source's.
const slotName = "runnel_" + SourceName

// settle is how long after its creation the stream holds back what the source may release: a minute in life, shorter here, so
// that the slot moves in nearly all of a run.
const settle = 6 * time.Second

// grown waits until the slot moves with the stream.
func (w *World) grown(ctx context.Context) error {
	return pause(ctx, time.Until(w.born.Add(settle+3*time.Second)))
}

// execute runs statements on a PostgreSQL server, each in a transaction of its own that waits for no standby.
func execute(ctx context.Context, url string, statements ...string) error {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	for _, sql := range append([]string{"set synchronous_commit = local"}, statements...) {
		if _, err := c.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// execute runs statements on the source.
func (w *World) execute(ctx context.Context, statements ...string) error {
	return execute(ctx, w.Source.PostgresURL(), statements...)
}

// SQLSTATE codes, https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	objectInUse     = "55006"
	duplicateObject = "42710"
	deadlock        = "40P01"
	uniqueViolation = "23505"
)

func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// disturbed says that other transactions were in the way.
func disturbed(err error) bool { return codeOf(err) == deadlock || codeOf(err) == uniqueViolation }

// committedBefore is a time up to which all that was committed lies at or below a place in the source's log, as far as the
// samples tell.
func (w *World) committedBefore(place uint64) time.Time {
	before := w.born
	for _, seen := range w.Recorder.Source() {
		if seen.Log <= place {
			before = seen.At
		}
	}
	return before
}

// committedUpTo is a time up to which all that was committed is in the stream.
func (w *World) committedUpTo() time.Time {
	var reached uint64
	for _, seen := range w.Recorder.Source() {
		reached = max(reached, seen.Reached)
	}
	return w.committedBefore(reached)
}

// settled waits until targets hold what the source holds, which nobody changes meanwhile.
func (w *World) settled(ctx context.Context, targets ...*Target) error {
	if err := w.Traffic.Pause(ctx); err != nil {
		return err
	}
	defer w.Traffic.Resume()
	tables, err := w.tables(ctx)
	if err != nil {
		return err
	}
	for _, t := range targets {
		for {
			var now check.Report
			err := t.compare(ctx, tables, &now)
			if err == nil && now.Kept() {
				break
			}
			if p := pause(ctx, 300*time.Millisecond); p != nil {
				return fmt.Errorf("%s does not come to equal the source: %w", t.Function, errors.Join(err, now.Err(), p))
			}
		}
	}
	return nil
}

// allow declares what a fault excuses, from a time until now.
func (w *World) allow(target string, from time.Time, why string, promises ...check.Promise) {
	for _, p := range promises {
		w.Recorder.Allow(check.Allowance{Promise: p, Target: target, From: from, Until: time.Now(), Why: why})
	}
	w.Logf("declared: %s", why)
}

// mend passes a gap as an operator does, and waits until every target equals the source again.
func (w *World) mend(ctx context.Context) error {
	if err := w.passGap(ctx); err != nil {
		return err
	}
	return w.settled(ctx, w.Targets...)
}
