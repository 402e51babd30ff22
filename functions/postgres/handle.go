package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/sink"
)

// guard moves the checkpoint from exactly where the span continues, or fails by dividing by zero, and everything that was
// sent behind it fails with it. So a span is one round trip: the statements need not wait for the checkpoint's answer.
const guard = `WITH moved AS (UPDATE runnel.checkpoints SET version = $5, sequence = $6
	WHERE function = $1 AND generation = $2 AND partition = $3 AND version = $4 AND NOT closed RETURNING 1)
SELECT 1 / count(*) FROM moved -- runnel: a division by zero here says that the checkpoint stands elsewhere`

// errElsewhere: the checkpoint is not where the span continues; or it is closed, or gone.
var errElsewhere = errors.New("the checkpoint stands elsewhere")

// Handle writes each span in a transaction of its own. A permanent failure of an event leaves nothing of its span durable,
// since the checkpoint could not say which ones are missing: the *sink.BatchError names the events that can never be written
// first, and then the others of their spans, which are fine and come again.
func (s *Sink) Handle(ctx context.Context, b sink.Batch) error {
	var failed sink.BatchError
	for i := range b.Spans {
		err := s.span(ctx, &b, i)
		var be *sink.BatchError
		switch {
		case errors.As(err, &be):
			failed.Failed = append(failed.Failed, be.Failed...)
		case err != nil:
			return err
		}
	}
	if len(failed.Failed) > 0 {
		return permanentFirst(&failed)
	}
	return nil
}

func permanentFirst(b *sink.BatchError) *sink.BatchError {
	var first, rest []sink.Failure
	for _, f := range b.Failed {
		if sink.IsPermanent(f.Err) {
			first = append(first, f)
		} else {
			rest = append(rest, f)
		}
	}
	return &sink.BatchError{Failed: append(first, rest...)}
}

func (s *Sink) span(ctx context.Context, b *sink.Batch, i int) error {
	sp := &b.Spans[i]
	c := claimed{b.Generation, sp.Partition}
	w := s.writers.Get().(*writer)
	defer s.putWriter(w)

	// A table that was altered behind our back is looked at once more before its misfit counts.
	for again := false; ; again = true {
		err := s.write(ctx, w, c, sp, i)
		if err == nil {
			s.reached(c, sp.To.Version)
			return nil
		}
		if classOf(err) == structure && !again {
			if s.gone(ctx) {
				return fmt.Errorf("%w: the target knows no checkpoints: %w", sink.ErrBehind, err)
			}
			s.forget()
			continue
		}
		var be *sink.BatchError
		if errors.As(err, &be) {
			return be
		}
		return s.explain(fmt.Errorf("write partition %d: %w", sp.Partition, err), w.at)
	}
}

func (s *Sink) write(ctx context.Context, w *writer, c claimed, sp *sink.Span, index int) error {
	p := s.remembered(c)
	if p == nil {
		return fmt.Errorf("partition %d was not claimed: %w", c.partition, sink.ErrBehind)
	}
	bad, err := w.collect(p, sp, sp.After.Version, s.planner(ctx))
	switch {
	case err != nil:
		return err
	case len(bad) > 0: // unless the checkpoint covers them
		return s.careful(ctx, w, c, sp, index)
	}
	err = s.pipeline(ctx, w, c, sp)
	if errors.Is(err, errElsewhere) || err != nil && classOf(err) != transient {
		return s.careful(ctx, w, c, sp, index)
	}
	return err
}

// pipeline sends checkpoint and statements in one go; they are one transaction, because the extended protocol commits at its
// Sync message, and only one is sent (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING).
// If the connection breaks, nobody knows whether it committed; the next try learns it from the checkpoint.
func (s *Sink) pipeline(ctx context.Context, w *writer, c claimed, sp *sink.Span) error {
	w.at = ident{}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	w.emit(w.order) // not before: who waits for a connection holds no buffers
	w.batch.QueuedQueries = w.batch.QueuedQueries[:0]
	w.batch.Queue(guard, s.function, c.generation, c.partition, sp.After.Version, sp.To.Version, sp.To.Sequence)
	for i := range w.statements {
		w.statements[i].queue(&w.batch, w, s.function)
	}
	br := conn.SendBatch(ctx, &w.batch)
	_, err = br.Exec()
	if codeOf(err) == divisionByZero {
		_ = br.Close() // says the same again
		return errElsewhere
	}
	for i := 0; i < len(w.statements) && err == nil; i++ {
		if _, err = br.Exec(); err != nil {
			w.at = w.statements[i].target
		}
	}
	if end := br.Close(); err == nil {
		err = end // the commit's: a deferred constraint, for example
	}
	return err
}

// careful is the way for what is not ordinary: a span that the checkpoint covers in part, or that something refused. It goes
// step by step, so that it knows which checkpoint, table or row is at fault.
func (s *Sink) careful(ctx context.Context, w *writer, c claimed, sp *sink.Span, index int) error {
	w.at = ident{}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		at, err := checkpoint(ctx, tx, c, s.function, sp.After.Version)
		if err != nil || at.Version >= sp.To.Version {
			return err
		}
		// A constraint that waits for the commit would not tell which row is at fault.
		if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
			return err
		}
		p := s.remembered(c)
		bad, err := w.collect(p, sp, at.Version, s.planner(ctx))
		if err != nil {
			return err
		}
		i := &isolation{w: w, function: s.function, tx: tx, emit: w.emit, bad: bad}
		if err := i.try(ctx, w.order); err != nil {
			return err
		}
		if len(i.bad) > 0 {
			return w.failure(sp, index, i.bad) // rolls back
		}
		return moveCheckpoint(ctx, tx, c, s.function, sp.To)
	})
}

// failure names the bad events, then the others of the span.
func (w *writer) failure(sp *sink.Span, index int, bad []badEvent) *sink.BatchError {
	f := &sink.BatchError{Failed: make([]sink.Failure, 0, len(sp.Events))}
	is := make(map[int32]bool, len(bad))
	for _, b := range bad {
		is[b.event] = true
		e := &sp.Events[b.event]
		f.Failed = append(f.Failed, sink.Failure{Span: index, Event: int(b.event),
			Err: sink.Permanent(fmt.Errorf("table %s, event %s at sequence %d (version %d) can never be written: %w", e.Table, e.Op, e.Sequence, e.Version, b.err))})
	}
	rolledBack := errors.New("not written, because another event of its transaction failed")
	for i := range sp.Events {
		if !is[int32(i)] {
			f.Failed = append(f.Failed, sink.Failure{Span: index, Event: i, Err: rolledBack})
		}
	}
	return f
}

// badEvent can never be written.
type badEvent struct {
	event int32
	err   error
}

// maxBad ends a search: a target that refuses so much is not a matter of single rows.
const maxBad = 100

// isolation finds the rows that PostgreSQL refuses, by halves, each try inside a savepoint.
type isolation struct {
	w        *writer
	function string
	tx       pgx.Tx
	emit     func(items []int32) // makes the statements of some of them
	bad      []badEvent
}

func (i *isolation) try(ctx context.Context, items []int32) error {
	if len(items) == 0 || len(i.bad) >= maxBad {
		return nil
	}
	i.emit(items)
	err := pgx.BeginFunc(ctx, i.tx, func(sp pgx.Tx) error { return i.w.run(ctx, sp, i.function) })
	if err == nil || classOf(err) != data {
		return err
	}
	if it := &i.w.items[items[0]]; len(items) == 1 && it.kind == rekey {
		return i.try(ctx, i.w.split(it))
	}
	if len(items) == 1 {
		i.bad = append(i.bad, badEvent{i.w.items[items[0]].event, err})
		return nil
	}
	half := len(items) / 2
	if err := i.try(ctx, items[:half]); err != nil {
		return err
	}
	return i.try(ctx, items[half:])
}

// run executes the statements one by one.
func (w *writer) run(ctx context.Context, tx pgx.Tx, function string) error {
	for i := range w.statements {
		w.batch.QueuedQueries = w.batch.QueuedQueries[:0]
		w.statements[i].queue(&w.batch, w, function)
		if err := tx.SendBatch(ctx, &w.batch).Close(); err != nil {
			w.at = w.statements[i].target
			return err
		}
	}
	w.at = ident{}
	return nil
}

func (s *Sink) putWriter(w *writer) {
	if cap(w.buf) > 64<<20 || cap(w.arena) > 16<<20 {
		return // of an unusually large batch: not worth keeping
	}
	s.writers.Put(w)
}
