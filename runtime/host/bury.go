package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// mostRefused is how many events of a partition in a row, without a success in between, halt a function: then it is not the events that
// are wrong.
const mostRefused = 100

// refused is an event that can never be written.
type refused struct {
	event    *event.Event
	why      error
	attempts int
}

// bury returns nil once the event lies in RUNNEL_DLQ, whole, and so counts as done. It insists, as a write does: the function is
// stalled meanwhile. Who dies between the two buries it again, under the same ID. The last of too many in a row halts instead.
func (w *writer) bury(ctx context.Context, l *lane, r refused) error {
	row := l.refused + 1
	if row >= mostRefused {
		return haltError{fmt.Errorf("%d events in a row can never be written; those before this one are dead letters, see `runnel dlq list %s`: %w", row, w.g.f.name, named(r.event, r.why))}
	}
	letter, err := l.letter(r)
	if err != nil {
		return haltError{named(r.event, fmt.Errorf("%w (and it cannot become a dead letter: %w)", r.why, err))}
	}
	err = w.insistElsewhere(ctx, l, func(ctx context.Context) error {
		err := l.host.cfg.World.Bury(ctx, letter)
		if errors.Is(err, stream.ErrLetterTooLarge) {
			return sink.Halt(named(r.event, fmt.Errorf("%w (and it cannot become a dead letter: %w)", r.why, err)))
		}
		if err != nil {
			// Retention may pass what is held here in full while this waits. What it says of that is found again when the floor moves.
			_ = l.prove(ctx, l.got[len(l.got)-1].Message.Sequence)
		}
		return err
	})
	if err != nil {
		return err
	}
	l.refused++
	l.log.WarnContext(ctx, "event is a dead letter: it can never be written", "table", r.event.Table.String(), "sequence", r.event.Sequence,
		"version", int64(r.event.Version), "attempts", r.attempts, "reason", r.why)
	if observe := l.host.cfg.Observer.Buried; observe != nil {
		observe(w.g.f.name)
	}
	return nil
}

// letter is the event as it stands in the stream: what the function made of it may lack columns, or hide them.
func (l *lane) letter(r refused) (*event.DeadLetter, error) {
	at := slices.IndexFunc(l.got, func(d Delivery) bool { return d.Message.Sequence == r.event.Sequence })
	if at < 0 {
		return nil, fmt.Errorf("message %d is not at hand", r.event.Sequence)
	}
	m := l.got[at].Message
	line, ok := m.Line(r.event.Version)
	if !ok {
		return nil, fmt.Errorf("message %d has no event of version %d", m.Sequence, r.event.Version)
	}
	return &event.DeadLetter{
		Function: l.g.f.name, Generation: l.g.record.Generation, Original: m.Subject, Sequence: m.Sequence, Version: r.event.Version,
		Attempts: r.attempts, Time: time.Now(), Reason: r.why.Error(), Line: line,
	}, nil
}

// poison buries the only event of the jobs.
func (w *writer) poison(ctx context.Context, jobs []*job, why error) {
	for _, j := range jobs {
		if len(j.span.Events) > 0 {
			w.refuse(ctx, j, &verdict{never: map[int]error{0: why}})
			return
		}
	}
	finish(jobs, haltError{why})
}

// refuse buries what can never be written of a span. The rest of it is tried again, and the target's checkpoint moves past all
// of it at once.
func (w *writer) refuse(ctx context.Context, j *job, v *verdict) {
	events := j.span.Events
	j.refusals += len(v.never)
	if len(v.again) > 0 && j.lane.refused+len(v.never) >= mostRefused {
		// Perhaps the others are not durable only because these are in their transaction, and come between them: two parts tell.
		j.span.Events = v.remaining(events, true)
		w.halve(ctx, []*job{j}, false)
		return
	}
	for i := len(events); i > 0 && v.never[i-1] != nil; i-- {
		j.trailing++
	}
	for i := range events {
		switch {
		case v.never[i] != nil:
			if err := w.bury(ctx, j.lane, refused{&events[i], v.never[i], j.attempts}); err != nil {
				w.stop(ctx, j, v, i, err)
				return
			}
		case v.again[i] == nil:
			j.lane.refused = 0
		}
	}
	j.span.Events = v.remaining(events, false)
	if len(j.span.Events) == 0 && w.g.points == nil {
		j.durable()
	}
}

// stop ends a job at an event that cannot be buried. Where all before it is done, a halted function goes on with it.
func (w *writer) stop(ctx context.Context, j *job, v *verdict, at int, why error) {
	var h haltError
	if errors.As(why, &h) && at > 0 && len(v.again) == 0 {
		s := sink.Span{Partition: j.span.Partition, After: j.span.After}
		s.To = between(&j.span.Events[at-1], &j.span.Events[at], s.After)
		done := &job{lane: j.lane, span: s}
		if w.g.points == nil {
			done.durable()
		} else {
			w.deliver(ctx, []*job{done})
		}
	}
	j.finish(why)
}
