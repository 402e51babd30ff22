package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/shop"
)

// SourceSampler looks at the shop's PostgreSQL, and then at the stream's end.
type SourceSampler struct {
	Recorder *Recorder
	URL      string
	Slot     string
	End      func(ctx context.Context) (reached, sequence uint64, err error) // of the stream; nil: the slot is not held against it
	Every    time.Duration                                                   // default 250ms

	c *pgx.Conn
}

// Run looks until ctx ends, and then gives the error of the last look that failed, if none succeeded.
func (s *SourceSampler) Run(ctx context.Context) error {
	defer s.Close()
	return looks(ctx, s.Every, s.Look)
}

// Close ends the connection that looks have left open; Run does that by itself.
func (s *SourceSampler) Close() {
	if s.c != nil {
		s.c.Close(context.Background())
		s.c = nil
	}
}

// Look looks once. Without an answer of the stream the rest is recorded all the same.
func (s *SourceSampler) Look(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if s.c == nil {
		if s.c, err = pgx.Connect(ctx, s.URL); err != nil {
			return fmt.Errorf("look at the source: %w", err)
		}
	}
	newest := make([]string, len(shop.Tables))
	for i, t := range shop.Tables {
		newest[i] = "(select coalesce(max(" + shop.Change + "), 0) from public." + pgx.Identifier{t.Name}.Sanitize() + ")"
	}
	sample := SourceSample{At: time.Now()}
	var log, confirmed int64
	err = s.c.QueryRow(ctx, "select greatest("+strings.Join(newest, ", ")+`), pg_current_wal_lsn() - '0/0'::pg_lsn,
		coalesce((select confirmed_flush_lsn - '0/0'::pg_lsn from pg_replication_slots where slot_name = $1), 0)`, s.Slot).Scan(&sample.Newest, &log, &confirmed)
	if err != nil {
		s.Close()
		return fmt.Errorf("look at the source: %w", err)
	}
	sample.Log, sample.Confirmed = uint64(log), uint64(confirmed)
	var unread error
	if s.End != nil { // after the slot: the stream may only be ahead of it
		sample.Reached, sample.Sequence, unread = s.End(ctx)
	}
	s.Recorder.Add(Record{Source: &sample})
	return errors.Join(unread)
}
