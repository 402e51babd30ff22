package host

import (
	"context"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// reduce keeps what a BatchError says is not durable, with what follows of the same keys: order per key holds also in a
// target without a guard.
func (w *writer) reduce(jobs []*job, failed *sink.BatchError) bool {
	first := map[int]map[int]error{}
	for _, f := range failed.Failed {
		if f.Span < 0 || f.Span >= len(jobs) || f.Event < 0 || f.Event >= len(jobs[f.Span].span.Events) {
			continue // the handler names what is not there: the batch is tried again as it is
		}
		if sink.IsHalt(f.Err) {
			finish(jobs, haltError{f.Err})
			return true
		}
		if sink.IsPermanent(f.Err) {
			finish(jobs, haltError{named(&jobs[f.Span].span.Events[f.Event], f.Err)})
			return true
		}
		if first[f.Span] == nil {
			first[f.Span] = map[int]error{}
		}
		first[f.Span][f.Event] = f.Err
	}
	if len(first) == 0 {
		return false
	}
	for i, j := range jobs {
		if first[i] == nil {
			j.durable()
			continue
		}
		j.span.Events = remaining(j.span.Events, first[i])
	}
	return false
}

// remaining are the failed events and all later ones of their keys.
func remaining(events []event.Event, failed map[int]error) []event.Event {
	var kept []event.Event
	keys := map[string]bool{}
	var all bool // a row without a readable key: everything after it
	var key []byte
	for i := range events {
		e := &events[i]
		_, bad := failed[i]
		var err error
		key, err = e.Schema.AppendKey(append(append(key[:0], e.Table.String()...), 0), e.Key())
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

// halve writes the jobs in two parts, one after the other: to find the event that cannot be written, or because the whole
// takes too long.
func (w *writer) halve(ctx context.Context, jobs []*job) {
	if len(jobs) > 1 {
		middle := len(jobs) / 2
		w.deliver(ctx, append([]*job(nil), jobs[:middle]...))
		w.deliver(ctx, append([]*job(nil), jobs[middle:]...))
		return
	}
	j := jobs[0]
	whole := j.span
	middle := len(whole.Events) / 2
	j.span.Events = whole.Events[:middle:middle]
	j.span.To = between(&whole.Events[middle-1], &whole.Events[middle], whole.After)
	to := j.span.To
	if w.deliver(ctx, []*job{j}); j.err != nil {
		return
	}
	j.over = false
	j.span = sink.Span{Partition: whole.Partition, After: to, To: whole.To, Events: whole.Events[middle:]}
	w.deliver(ctx, []*job{j})
}

// between is the place after one event and before the next: in the midst of a message the message is read again from there.
func between(a, b *event.Event, after sink.Point) sink.Point {
	p := sink.Point{Sequence: a.Sequence, Version: a.Version}
	if a.Sequence == b.Sequence {
		p.Sequence = max(a.Sequence-1, after.Sequence)
	}
	return p
}

// poison names the event that can never be written.
func (w *writer) poison(jobs []*job, err error) error {
	for _, j := range jobs {
		if len(j.span.Events) > 0 {
			return haltError{named(&j.span.Events[0], err)}
		}
	}
	return haltError{err}
}

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
