package host

import (
	"context"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// verdict is what a BatchError says of one span, by event: which ones to try again, and which ones can never be written.
type verdict struct{ again, never map[int]error }

// reduce keeps what a BatchError says is not durable, with what follows of the same keys: order per key holds also in a
// target without a guard. What can never be written is buried. It says whether the rest goes on without a pause.
func (w *writer) reduce(ctx context.Context, jobs []*job, failed *sink.BatchError) bool {
	verdicts := map[int]*verdict{}
	for _, f := range failed.Failed {
		if f.Span < 0 || f.Span >= len(jobs) || f.Event < 0 || f.Event >= len(jobs[f.Span].span.Events) {
			continue // the handler names what is not there: the batch is tried again as it is
		}
		if sink.IsHalt(f.Err) {
			finish(jobs, haltError{f.Err})
			return true
		}
		v := verdicts[f.Span]
		if v == nil {
			v = &verdict{map[int]error{}, map[int]error{}}
			verdicts[f.Span] = v
		}
		if sink.IsPermanent(f.Err) {
			v.never[f.Event] = f.Err
		} else {
			v.again[f.Event] = f.Err
		}
	}
	if len(verdicts) == 0 {
		return false
	}
	progress := false
	for i, j := range jobs {
		switch v := verdicts[i]; {
		case v == nil:
			j.durable()
		case len(v.never) == 0:
			j.span.Events = v.remaining(j.span.Events, false)
		default:
			w.refuse(ctx, j, v)
			progress = true
		}
	}
	return progress
}

// remaining are the events to try again, and all later ones of their keys; with those that can never be written, or without.
func (v *verdict) remaining(events []event.Event, refused bool) []event.Event {
	var kept []event.Event
	keys := map[string]bool{}
	var all bool // a row without a readable key: everything after it
	var key []byte
	for i := range events {
		e := &events[i]
		if v.never[i] != nil {
			if refused {
				kept = append(kept, *e)
			}
			continue
		}
		var err error
		key, err = e.Schema.AppendKey(append(append(key[:0], e.Table.String()...), 0), e.Key())
		bad := v.again[i] != nil
		if bad {
			all = all || err != nil
			keys[string(key)] = true
		}
		if bad || all || err == nil && keys[string(key)] {
			kept = append(kept, *e)
		}
	}
	return kept
}

// halve writes the jobs in two parts, one after the other: to find the event that cannot be written (refused), or because the
// whole takes too long.
func (w *writer) halve(ctx context.Context, jobs []*job, refused bool) {
	if len(jobs) > 1 {
		middle := len(jobs) / 2
		first, second := append([]*job(nil), jobs[:middle]...), append([]*job(nil), jobs[middle:]...)
		w.deliver(ctx, append([]*job(nil), first...))
		for _, j := range first {
			refused = refused && j.err == nil && j.refusals == 0
		}
		w.second(ctx, second, refused)
		return
	}
	j := jobs[0]
	whole, attempts, refusals, trailing := j.span, j.attempts, j.refusals, j.trailing
	middle := len(whole.Events) / 2
	j.span.Events = whole.Events[:middle:middle]
	j.span.To = between(&whole.Events[middle-1], &whole.Events[middle], whole.After)
	to := j.span.To
	j.trailing = 0
	if w.deliver(ctx, []*job{j}); j.err != nil {
		return
	}
	j.over, j.attempts, j.trailing = false, attempts, trailing
	j.span = sink.Span{Partition: whole.Partition, After: to, To: whole.To, Events: whole.Events[middle:]}
	w.second(ctx, []*job{j}, refused && j.refusals == refusals)
}

// second writes the second half. Where the whole was refused and the first half was not, this one would be: it is halved at once,
// so that the search takes at most two tries for each halving. What is buried was always refused by itself.
func (w *writer) second(ctx context.Context, jobs []*job, refused bool) {
	if refused && count(jobs) > 1 {
		w.halve(ctx, jobs, true)
		return
	}
	w.deliver(ctx, jobs)
}

// between is the place after one event and before the next: in the midst of a message the message is read again from there.
func between(a, b *event.Event, after sink.Point) sink.Point {
	p := sink.Point{Sequence: a.Sequence, Version: a.Version}
	if a.Sequence == b.Sequence {
		p.Sequence = max(a.Sequence-1, after.Sequence)
	}
	return p
}

// named says which event it is, and what an operator may do where it halts its function.
func named(e *event.Event, err error) error {
	var key []byte
	for _, c := range e.Schema.KeyColumns() {
		name := e.Schema.Columns[c].Name
		v, _ := e.Key().Column(name)
		key = fmt.Appendf(key, " %s=%.80s", name, v)
	}
	return fmt.Errorf("event %s of %s with key%s at sequence %d (position %s) cannot be written to the target: %w; nothing is lost: correct the target or the function, then `runnel resume` goes on with this event",
		e.Op, e.Table, key, e.Sequence, e.Position, err)
}
