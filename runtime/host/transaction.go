package host

import (
	"context"
	"errors"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// advance writes the whole transactions that are there, and the beginning of one that is larger than a batch.
func (o *ordered) advance(ctx context.Context) error {
	l := o.l
	if len(l.events) > 0 {
		if err := l.prove(ctx, o.last.Sequence); err != nil {
			return err
		}
	}
	switch {
	case !o.ready:
	case o.whole == 0 && o.open == nil:
		o.passed = o.to
	default:
		if err := o.write(ctx); err != nil {
			return err
		}
	}
	o.drop(o.whole)
	if len(l.events) > 0 && (o.open != nil || o.large || o.full()) {
		return o.stream(ctx)
	}
	return nil
}

// full says whether what is kept in memory is as large as a batch.
func (o *ordered) full() bool {
	limit, bytes := o.l.limits(), int64(0)
	for i := range o.l.got {
		bytes += int64(o.l.got[i].size)
	}
	return len(o.l.events) >= limit.rows || bytes >= limit.bytes
}

// drop forgets the first events, and the messages that nothing is left of.
func (o *ordered) drop(events int) {
	l := o.l
	rest := copy(l.events, l.events[events:])
	clear(l.events[rest:])
	l.events = l.events[:rest]
	o.first -= events
	o.whole, o.ready = 0, false
	if l.shaped = l.shaped[:0]; rest > 0 {
		l.shaped = nil // what is left stands in it
	} else {
		clear(o.refusals)
		o.large = false
	}
	oldest := o.last.Sequence + 1
	for i := range l.events {
		oldest = min(oldest, l.events[i].Sequence)
	}
	n := 0
	for n < len(l.got) && l.got[n].Message.Sequence < oldest {
		n++
	}
	kept := copy(l.got, l.got[n:])
	clear(l.got[kept:])
	l.got = l.got[:kept]
	switch {
	case kept > 0:
		l.oldest.Store(l.got[0].Message.TimeMS)
	case o.open == nil:
		l.oldest.Store(0)
	}
}

// write makes whole transactions durable: those that are in memory, or the end of the one that is streamed with what follows it.
func (o *ordered) write(ctx context.Context) error {
	l := o.l
	events := l.events[:o.whole]
	began, bytes, n := time.Now(), int64(0), len(events)
	for i := range events {
		bytes += int64(len(events[i].Line))
	}
	if o.open != nil {
		if err := o.finish(ctx, events); err != nil {
			return err
		}
	} else if err := o.insist(ctx, events); err != nil {
		return err
	}
	failpoint.At(failpoint.WriteDurable)
	o.patience, l.impatient = 1, 1
	l.read = o.to
	if o.behind.Message != nil {
		l.consumer.ack(o.behind)
	}
	failpoint.At(failpoint.ConsumerAcked)
	l.g.health.works(l.g, l)
	l.g.health.wrote(n)
	if observe := l.host.cfg.Observer.Written; observe != nil && n > 0 {
		observe(l.g.f.name, n, bytes, time.Since(began))
	}
	return nil
}

// insist writes what is in memory in one transaction of the target, however often that must be tried.
func (o *ordered) insist(ctx context.Context, events []event.Event) error {
	l, again := o.l, o.l.host.backoff()
	for tries := 1; ; tries++ {
		var err error
		if events, err = o.try(ctx, events, tries); err == nil {
			return nil
		}
		if err, over := final(ctx, err); over {
			return err
		}
		o.failed(err)
		if err := l.prove(ctx, o.to.Sequence); err != nil {
			var h haltError
			if errors.As(err, &h) {
				return err
			}
		}
		if again.wait(ctx, err) != nil {
			return ctx.Err()
		}
	}
}

func (o *ordered) failed(err error) {
	var slow lateError
	if errors.As(err, &slow) {
		o.patience = min(2*o.patience, mostPatience)
	}
	o.l.g.health.failed(o.l.g, o.l, err)
}

// try is one transaction. It gives back what of the events can be written.
func (o *ordered) try(ctx context.Context, events []event.Event, tries int) ([]event.Event, error) {
	tx, err := o.begin(ctx)
	if err != nil {
		return events, err
	}
	defer tx.Rollback()
	if events, err = o.apply(ctx, tx, events, tries); err != nil {
		return events, err
	}
	return events, o.commit(ctx, tx)
}

func (o *ordered) begin(ctx context.Context) (sink.Transaction, error) {
	var tx sink.Transaction
	err := o.step(ctx, 1, func(ctx context.Context) (err error) {
		tx, err = o.l.g.sequencer.Open(ctx, o.l.claimed(), o.l.read)
		return err
	})
	return tx, err
}

// step does something in the target, once KV has said that the function is still ours, and within some deadlines of a write. It may be
// longer than the lease: who takes the function over meanwhile ends the transaction.
func (o *ordered) step(ctx context.Context, deadlines time.Duration, do func(context.Context) error) error {
	if err := o.l.g.writer.confirm(ctx, o.l); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadlines*o.patience*o.l.host.cfg.WriteDeadline)
	defer cancel()
	if err := caught(func() error { return do(limited) }); err != nil {
		return late(limited, err)
	}
	return nil
}

// apply gives events to the target. Those that can never be written are buried, and it goes on with the others.
func (o *ordered) apply(ctx context.Context, tx sink.Transaction, events []event.Event, tries int) ([]event.Event, error) {
	never := map[int]error{}
	for i := range events {
		if why := o.refusals[events[i].Version]; why != nil {
			never[i] = why
		}
	}
	for {
		var err error
		if events, err = o.bury(ctx, events, never, tries); err != nil || len(events) == 0 {
			return events, err
		}
		if err = o.l.pace().wait(ctx, len(events), 1); err != nil {
			return events, err
		}
		failpoint.At(failpoint.WriteBefore)
		began := time.Now()
		err = o.step(ctx, 1, func(ctx context.Context) error { return tx.Apply(ctx, events) })
		failpoint.At(failpoint.WriteAfter)
		if took := time.Since(began); err == nil || took >= o.l.host.cfg.WriteDeadline {
			o.l.g.size.took(len(events), err == nil && o.l.filled, took)
		}
		var refused *sink.BatchError
		if !errors.As(err, &refused) || len(refused.Failed) == 0 {
			return events, err
		}
		clear(never)
		for _, f := range refused.Failed {
			if sink.IsHalt(f.Err) || !sink.IsPermanent(f.Err) || f.Event < 0 || f.Event >= len(events) {
				return events, f.Err
			}
			never[f.Event] = f.Err
		}
		tries++
	}
}

// bury takes out what can never be written. An event that can be between two others is what ends a row of refusals.
func (o *ordered) bury(ctx context.Context, events []event.Event, never map[int]error, tries int) ([]event.Event, error) {
	if len(never) == 0 {
		return events, nil
	}
	kept := make([]event.Event, 0, len(events))
	for i := range events {
		if never[i] == nil {
			o.l.refused = 0
			kept = append(kept, events[i])
			continue
		}
		if err := o.l.g.writer.bury(ctx, o.l, refused{&events[i], never[i], tries}); err != nil {
			return events, err
		}
		delete(o.refusals, events[i].Version)
	}
	return kept, nil
}

func (o *ordered) commit(ctx context.Context, tx sink.Transaction) error {
	deadlines := time.Duration(1)
	if o.open != nil { // constraints that waited for all of its rows are checked now
		deadlines = mostPatience
	}
	return o.step(ctx, deadlines, func(ctx context.Context) error {
		failpoint.At(failpoint.CommitBefore)
		err := tx.Commit(ctx, o.to)
		failpoint.At(failpoint.CommitAfter)
		return err
	})
}

// stream writes what there is of a transaction that is larger than a batch.
func (o *ordered) stream(ctx context.Context) error {
	l := o.l
	n := len(l.events)
	if o.groups > 0 {
		n = o.first
	}
	if n = held(l.events[:n]); n == 0 {
		return nil
	}
	if o.open == nil {
		tx, err := o.begin(ctx)
		if err != nil {
			return o.interrupted(ctx, err)
		}
		o.open = tx
		l.log.InfoContext(ctx, "a large transaction of the source goes into the target while it is read", "after", l.read.Sequence)
	}
	if _, err := o.apply(ctx, o.open, l.events[:n], 1); err != nil {
		return o.interrupted(ctx, err)
	}
	failpoint.At(failpoint.TransactionStreamed)
	o.drop(n)
	return nil
}

// held leaves the last events to the next step where what follows may belong to them: the delete of a key's change, tables of one
// TRUNCATE.
func held(events []event.Event) int {
	n := len(events)
	if n > 0 && events[n-1].Op == event.Delete && !events[n-1].Last {
		return n - 1
	}
	for n > 0 && events[n-1].Op == event.Truncate && !events[n-1].Snapshot && !events[n-1].Last {
		n--
	}
	return n
}

// finish ends the transaction that was streamed.
func (o *ordered) finish(ctx context.Context, events []event.Event) error {
	if _, err := o.apply(ctx, o.open, events, 1); err != nil {
		return o.interrupted(ctx, err)
	}
	err := o.commit(ctx, o.open)
	if err != nil {
		return o.interrupted(ctx, err)
	}
	o.open = nil
	return nil
}

// interrupted says how it goes on where a transaction was not streamed to its end: all of it is read again.
func (o *ordered) interrupted(ctx context.Context, err error) error {
	err, over := final(ctx, err)
	if !over {
		o.failed(err)
		o.l.impatient = o.patience
	}
	return err
}
