package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// transaction is one of the target's, in which transactions of the source are applied row by row. It holds the checkpoint's row from
// its beginning: whoever claims meanwhile ends this session first, so what a worker that lost its lane still sends comes to
// nothing, however late.
//
// Constraints that are deferrable are checked at its end, where the rows are what they were in the source at a commit. All
// others are checked at each row, as they were in the source if it has the same ones.
type transaction struct {
	sink      *Sink
	id        claimed
	conn      *pgxpool.Conn
	tx        pgx.Tx
	w         *writer
	at        sink.Point // of the checkpoint when it began
	p         *partition // as it will be once this has committed
	plans     map[structured]*plan
	unchecked bool // foreign keys are not looked at
}

// streaming is the advisory lock that an open transaction of a function holds, so that a Claim finds it.
const streaming = "hashtextextended('runnel transaction ' || $1, 0)"

// How it begins, and what comes before its end.
const (
	begin    = "BEGIN; SET CONSTRAINTS ALL DEFERRED"
	checkAll = "SET LOCAL statement_timeout = 0; SET CONSTRAINTS ALL IMMEDIATE"
)

// Open begins a transaction.
func (s *Sink) Open(ctx context.Context, c sink.Claim, after sink.Point) (sink.Transaction, error) {
	t := &transaction{sink: s, id: claimed{c.Generation, c.Partition}, plans: map[structured]*plan{}}
	p := s.remembered(t.id)
	if p == nil {
		return nil, fmt.Errorf("the function was not claimed: %w", sink.ErrBehind)
	}
	t.p = &partition{backfills: maps.Clone(p.backfills), covered: p.covered, ahead: p.ahead}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, s.explain(err, ident{})
	}
	t.conn, t.w = conn, s.writers.Get().(*writer)
	if t.tx, err = conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin}); err == nil {
		err = t.lock(ctx, after)
	}
	if err == nil && p.unchecked {
		err = t.uncheck(ctx)
	}
	if err != nil {
		t.Rollback()
		if classOf(err) == structure && s.gone(ctx) {
			return nil, fmt.Errorf("%w: the target knows no checkpoints: %w", sink.ErrBehind, err)
		}
		return nil, s.explain(fmt.Errorf("begin a transaction: %w", err), ident{})
	}
	return t, nil
}

func (t *transaction) lock(ctx context.Context, after sink.Point) (err error) {
	if _, err = t.tx.Exec(ctx, "SELECT pg_advisory_xact_lock("+streaming+")", t.sink.function); err != nil {
		return err
	}
	t.at, err = checkpoint(ctx, t.tx, t.id, t.sink.function, after.Version)
	return err
}

// covers says whether an event is in the target already.
func (t *transaction) covers(e *event.Event) bool {
	return e.Version <= t.at.Version || e.Version <= t.p.covered[e.Partition]
}

// Apply applies events in their order.
func (t *transaction) Apply(ctx context.Context, events []event.Event) error {
	for again := false; ; again = true {
		err := t.apply(ctx, events)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errLookAgain) && !again:
			t.sink.forget()
			clear(t.plans)
			continue
		}
		var be *sink.BatchError
		if errors.As(err, &be) {
			return be
		}
		return t.sink.explain(fmt.Errorf("apply a transaction: %w", err), t.w.at)
	}
}

// errLookAgain: a table is not what it was when it was looked at; nothing of the call is applied.
var errLookAgain = errors.New("a table has changed")

func (t *transaction) apply(ctx context.Context, events []event.Event) error {
	for i := range events { // structures first: what they change stays if rows are refused
		if !t.covers(&events[i]) {
			if _, err := t.plan(ctx, &events[i]); err != nil {
				return err
			}
		}
	}
	if next := nextPlace(events, 0); next == len(events) {
		return t.rows(ctx, events, 0)
	}
	before := t.unchecked
	err := pgx.BeginFunc(ctx, t.tx, func(pgx.Tx) error {
		for from := 0; from < len(events); {
			to := nextPlace(events, from)
			if to > from {
				if err := t.rows(ctx, events[from:to], from); err != nil {
					return err
				}
			}
			var err error
			if from, err = t.place(ctx, events, to); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.unchecked = before
	}
	return err
}

// nextPlace is the next t or m, or the end.
func nextPlace(events []event.Event, from int) int {
	for from < len(events) && events[from].Op != event.Truncate && events[from].Op != event.Mark {
		from++
	}
	return from
}

// plan finds how a version of a table is written. What it changes of the structure is part of the transaction, which holds locks
// that another session would wait for.
func (t *transaction) plan(ctx context.Context, e *event.Event) (*plan, error) {
	if e.Schema == nil {
		return nil, sink.Halt(fmt.Errorf("table %s: event at sequence %d comes without its schema %s", e.Table, e.Sequence, e.Fingerprint))
	}
	id := structured{e.Schema.Source, e.Schema.Fingerprint()}
	if p := t.plans[id]; p != nil {
		return p, nil
	}
	p := t.sink.planned(id)
	if p == nil {
		var err error
		if p, err = t.sink.makePlan(ctx, e.Schema, t.ensure); err != nil {
			return nil, err
		}
	}
	t.plans[id] = p
	return p, nil
}

func (t *transaction) ensure(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, t.tx, func(tx pgx.Tx) error {
		// A table whose constraints wait for the end cannot be altered.
		if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"); err != nil {
			return err
		}
		return do(tx)
	})
}

// rows writes events of rows; first is the place of the first one in the call's.
func (t *transaction) rows(ctx context.Context, events []event.Event, first int) error {
	planOf := func(s *event.Schema) (*plan, error) { return t.plans[structured{s.Source, s.Fingerprint()}], nil }
	bad, err := t.w.inOrder(events, t.p, planOf, t.covers)
	switch {
	case err != nil:
		return err
	case len(bad) > 0:
		return t.refused(events, first, bad)
	case len(t.w.order) == 0:
		return nil
	}
	t.w.again = t.repeats(&events[t.w.items[0].event])
	if t.loading() {
		if err := t.uncheck(ctx); err != nil && codeOf(err) != insufficientPrivilege {
			return err
		}
	}
	t.w.emitRuns(t.w.order)
	err = t.send(ctx)
	if err == nil || classOf(err) == transient {
		return err
	}
	if _, e := t.tx.Exec(ctx, back); e != nil {
		// A statement that cannot even be prepared fails before the savepoint is there: the next try looks at the table again.
		t.sink.forget()
		return fmt.Errorf("%w (%v)", e, err) //nolint:errorlint // its class is that of the first one
	}
	switch {
	case codeOf(err) == foreignKeyViolation && !t.unchecked:
		if e := t.unreferred(ctx, err); e != nil {
			return e
		}
		return t.rows(ctx, events, first)
	case classOf(err) == structure:
		return fmt.Errorf("%w: %w", errLookAgain, err)
	case classOf(err) != data:
		return err
	}
	return pgx.BeginFunc(ctx, t.tx, func(tx pgx.Tx) error {
		i := &isolation{w: t.w, function: t.sink.function, tx: tx, emit: t.w.emitRuns}
		if err := i.try(ctx, t.w.order); err != nil {
			return err
		}
		if len(i.bad) > 0 {
			return t.refused(events, first, i.bad)
		}
		return nil // by halves it went well
	})
}

// back undoes what was sent last, and ends the savepoint.
const back = "ROLLBACK TO SAVEPOINT runnel_rows; RELEASE SAVEPOINT runnel_rows"

// send executes the statements in one round trip, after a savepoint that stays where one fails.
func (t *transaction) send(ctx context.Context) error {
	w := t.w
	w.batch.QueuedQueries = w.batch.QueuedQueries[:0]
	w.batch.Queue("SAVEPOINT runnel_rows")
	for i := range w.statements {
		w.statements[i].queue(&w.batch, w, t.sink.function)
	}
	w.batch.Queue("RELEASE SAVEPOINT runnel_rows")
	br := t.tx.SendBatch(ctx, &w.batch)
	_, err := br.Exec()
	w.at = ident{}
	for i := 0; i < len(w.statements) && err == nil; i++ {
		if _, err = br.Exec(); err != nil {
			w.at = w.statements[i].target
		}
	}
	if end := br.Close(); err == nil {
		err = end
	}
	return err
}

func (t *transaction) refused(events []event.Event, first int, bad []badEvent) error {
	f := &sink.BatchError{}
	for _, b := range bad {
		e := &events[b.event]
		f.Failed = append(f.Failed, sink.Failure{Event: first + int(b.event),
			Err: sink.Permanent(fmt.Errorf("table %s, event %s at sequence %d (version %d) can never be written: %w", e.Table, e.Op, e.Sequence, e.Version, b.err))})
	}
	return f
}

// loading says whether rows of a load are among those to be written, which may refer to others that are not loaded yet; or rows that
// may displace others, which are referred to.
func (t *transaction) loading() bool {
	for i := range t.w.items {
		it := &t.w.items[i]
		g := &t.w.groups[it.group]
		if t.w.events[it.event].Snapshot && g.plan.table.foreign || (g.seen || t.w.again) && g.plan.table.referenced && len(g.plan.displace) > 0 {
			return true
		}
	}
	return false
}

// repeats says whether the target was further on already: a replay, or a stream that lost its end, whose sequences are used again. There
// newer rows may hold what older states of others need.
func (t *transaction) repeats(e *event.Event) bool {
	if e.Sequence <= t.at.Sequence && e.Version > t.at.Version && t.p.ahead < e.Version {
		t.p.ahead = e.Version + event.Version(t.at.Sequence-e.Sequence+2*event.FenceMarkers)<<10
		t.sink.log.Warn("the stream lost its end: what the target had of it comes again", "checkpoint", t.at.Sequence, "sequence", e.Sequence)
	}
	return e.Version <= t.p.ahead
}

// uncheck makes PostgreSQL neither look at foreign keys nor follow them (ON DELETE CASCADE) from here to the end, as it does itself
// where it replicates: what the source followed comes as events of its own.
func (t *transaction) uncheck(ctx context.Context) error {
	if t.unchecked {
		return nil
	}
	err := pgx.BeginFunc(ctx, t.tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SET LOCAL session_replication_role = replica")
		return err
	})
	t.unchecked = err == nil
	return err
}

// unreferred is called where a row refers to one that is not there.
func (t *transaction) unreferred(ctx context.Context, why error) error {
	err := t.uncheck(ctx)
	if codeOf(err) == insufficientPrivilege {
		return sink.Halt(fmt.Errorf("a row refers to another one that the target does not have: %w (%s). While tables are loaded, rows come before those that they refer to; so that role %s may leave the foreign keys unchecked in such transactions, as a superuser of PostgreSQL 15 or newer run: GRANT SET ON PARAMETER session_replication_role TO %s; or drop the foreign key until the load has ended; where no load is going on, the function may lack a table, or filter its rows",
			why, detailOf(why), t.sink.role, quote(t.sink.role)))
	}
	if err == nil {
		t.sink.log.Warn("a row refers to another one that the target does not have: while tables are loaded it is on its way, else the function lacks a table; foreign keys are not checked in this transaction",
			"error", why, "detail", detailOf(why))
	}
	return err
}

// Commit ends the transaction.
func (t *transaction) Commit(ctx context.Context, to sink.Point) error {
	defer t.Rollback()
	if to.Version <= t.at.Version {
		return nil
	}
	// The check of constraints that waited for all rows takes as long as these are many.
	if _, err := t.tx.Exec(ctx, checkAll); err != nil {
		return t.broken(err)
	}
	if err := moveCheckpoint(ctx, t.tx, t.id, t.sink.function, to); err != nil {
		return t.sink.explain(err, ident{})
	}
	if err := t.tx.Commit(ctx); err != nil {
		return t.sink.explain(fmt.Errorf("commit: %w", err), ident{})
	}
	t.sink.committed(t, to)
	return nil
}

// broken says what it means that constraints do not hold at the end.
func (t *transaction) broken(err error) error {
	if codeOf(err) == foreignKeyViolation && !t.unchecked {
		if e := t.canUncheck(); e != nil {
			return e
		}
		t.sink.uncheckNext(t.id)
		return fmt.Errorf("tried again without looking at foreign keys: %w", err)
	}
	if classOf(err) == data {
		return sink.Halt(fmt.Errorf("the source's transaction breaks a constraint of the target: %w (%s); drop the constraint, or make it what the source has, then `runnel resume %s`", err, detailOf(err), t.sink.function))
	}
	return t.sink.explain(err, ident{})
}

// canUncheck asks in a transaction of its own, as this one has failed.
func (t *transaction) canUncheck() error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	return pgx.BeginFunc(ctx, t.sink.pool, func(tx pgx.Tx) error {
		probe := &transaction{sink: t.sink, tx: tx, w: t.w}
		return probe.unreferred(ctx, errors.New("a foreign key does not hold at the end of a transaction"))
	})
}

// Rollback ends it.
func (t *transaction) Rollback() {
	if t.conn == nil {
		return
	}
	if t.tx != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_ = t.tx.Rollback(ctx) // a connection that fails here is closed, and the server ends the transaction
		cancel()
	}
	t.conn.Release()
	t.conn = nil
	t.sink.putWriter(t.w)
}
