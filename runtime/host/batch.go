package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/shape"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// batch writes what was taken, in order: the events up to a t or an m, then that, then the rest.
func (l *lane) batch(ctx context.Context) error {
	for _, d := range l.got {
		if d.Foreign == nil && d.Message.Writer.Epoch != l.read.Version.Epoch() {
			if err := l.fences(ctx); err != nil {
				return err
			}
			break
		}
	}
	l.events = l.events[:0]
	to := l.read
	for i := range l.got {
		var err error
		if to, err = l.message(ctx, &l.got[i], to); err != nil {
			return err
		}
	}
	if err := l.flush(ctx, to); err != nil {
		return err
	}
	l.consumer.ack(l.got[len(l.got)-1])
	failpoint.At(failpoint.ConsumerAcked)
	return nil
}

// message adds a message's events to the batch, which then reaches the place that is returned.
func (l *lane) message(ctx context.Context, d *Delivery, to sink.Point) (sink.Point, error) {
	m := d.Message
	if d.Foreign != nil {
		return to, haltError{d.Foreign}
	}
	wanted, err := l.wants(m)
	if err != nil {
		return to, haltError{err}
	}
	if !wanted {
		return sink.Point{Sequence: max(to.Sequence, m.Sequence), Version: max(to.Version, m.Last())}, nil
	}
	if m.Large != "" { // it travels alone, as its size was not counted
		if err := l.flush(ctx, to); err != nil {
			return to, err
		}
		if err := l.payload(ctx, m); err != nil {
			return to, err
		}
		defer func() { m.Data = nil }()
	}
	first := len(l.events)
	if l.events, err = m.Decode(l.events); err != nil {
		return to, haltError{fmt.Errorf("message %d on %s cannot be read: %w", m.Sequence, m.Subject, err)}
	}
	kept := first
	for i := first; i < len(l.events); i++ {
		e := &l.events[i]
		if e.Version <= l.read.Version {
			continue // read already: it comes again after a fence, or from a message that was written in part
		}
		if err := l.resolve(ctx, e); err != nil {
			return to, err
		}
		wanted, refusal := l.reshape(e)
		if refusal != nil {
			// What stands before it is written first, so that refusals in a row are told from single ones.
			bad, rest := *e, l.events[i+1:]
			l.events = l.events[:kept]
			if err := l.flush(ctx, to); err != nil {
				return to, err
			}
			if err := l.g.writer.bury(ctx, l, refused{&bad, refusal, 0}); err != nil {
				return to, err
			}
			to = sink.Point{Sequence: max(to.Sequence, m.Sequence-1), Version: bad.Version}
			l.events = append(l.events[:0], rest...)
			i, kept = -1, 0
			continue
		}
		if e.Op != event.Truncate && e.Op != event.Mark {
			to = sink.Point{Sequence: max(to.Sequence, m.Sequence-1), Version: e.Version}
			if wanted {
				l.events[kept] = *e
				kept++
			}
			continue
		}
		// What stands before it in the batch is written first; the message's other lines stay where they are.
		turn, rest := *e, l.events[i+1:]
		l.events = l.events[:kept]
		if err := l.flush(ctx, to); err != nil {
			return to, err
		}
		to = sink.Point{Sequence: m.Sequence, Version: turn.Version}
		if len(rest) > 0 {
			to.Sequence = max(l.read.Sequence, m.Sequence-1)
		}
		if err := l.turn(ctx, m, &turn, to); err != nil {
			return to, err
		}
		l.events = append(l.events[:0], rest...)
		i, kept = -1, 0
	}
	clear(l.events[kept:])
	l.events = l.events[:kept]
	to.Sequence = max(to.Sequence, m.Sequence)
	if m.Large != "" {
		return to, l.flush(ctx, to)
	}
	return to, nil
}

// payload fetches what is kept outside the stream until it is there. What the store has not had for long is lost, and the
// function halts: without the message it would skip a change.
func (l *lane) payload(ctx context.Context, m *event.Message) error {
	again := l.host.backoff()
	var missing time.Time // since when the store says so, without another answer in between
	for {
		began := time.Now()
		err := l.g.source.Resolve(ctx, m)
		switch {
		case err == nil:
			l.g.health.works(l.g, l)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, stream.ErrPayloadLost):
			missing = time.Time{}
		case missing.IsZero():
			missing = began
		case time.Since(missing) >= l.host.cfg.PayloadWait:
			way, e := l.readAgain(ctx)
			if e != nil {
				return e
			}
			return haltError{fmt.Errorf("%w; if its store cannot be restored, give the change up with `nats stream rmm %s %d`, and then make the target right: %s", err, event.StreamName(l.g.spec.Source()), m.Sequence, way)}
		}
		l.g.health.failed(l.g, l, err)
		if err := l.prove(ctx, m.Sequence); err != nil {
			return err
		}
		if err := again.wait(ctx, err); err != nil {
			return err
		}
	}
}

// wants says whether a message is for this function.
func (l *lane) wants(m *event.Message) (bool, error) {
	if m.For != "" && m.For != l.g.f.name {
		return false, nil
	}
	wanted, known := l.wanted[m.Subject]
	if !known {
		_, table, _, err := event.ParseSubject(m.Subject)
		if err != nil {
			return false, fmt.Errorf("message %d: %w", m.Sequence, err)
		}
		wanted = l.g.spec.Matches(table)
		l.wanted[m.Subject] = wanted
	}
	return wanted, nil
}

// resolve finds the event's schema.
func (l *lane) resolve(ctx context.Context, e *event.Event) error {
	if s := l.schema; s != nil && s.Table == e.Table && s.Fingerprint() == e.Fingerprint {
		e.Schema = s
		return nil
	}
	s, err := l.host.schemas.find(ctx, l.g.spec.Source(), e.Table, e.Fingerprint)
	if err != nil {
		return err
	}
	if l.shape, err = l.g.shapes.of(s); err != nil {
		return haltError{err}
	}
	l.schema, e.Schema = s, s
	return nil
}

// reshape makes of an event what the function's specification says; false: it is not for the target. An error says that it can
// never be written.
func (l *lane) reshape(e *event.Event) (wanted bool, err error) {
	if l.shape == nil {
		return true, nil
	}
	was := *e
	var result shape.Result
	if l.shaped, result, err = l.shape.Apply(l.shaped, e); err != nil {
		*e = was
		return false, err
	}
	return result != shape.Skipped, nil
}

// flush writes the batch so far.
func (l *lane) flush(ctx context.Context, to sink.Point) error {
	if to == l.read {
		return nil
	}
	err := l.write(ctx, to, l.events)
	clear(l.events) // the messages' memory
	l.events, l.shaped = l.events[:0], l.shaped[:0]
	return err
}

// write makes events durable in the target, and with them that everything up to a place was read.
func (l *lane) write(ctx context.Context, to sink.Point, events []event.Event) error {
	if l.g.points == nil && len(events) == 0 {
		l.read = to
		return nil
	}
	if l.g.points != nil { // the target's checkpoint moves with the write
		if err := l.prove(ctx, to.Sequence); err != nil {
			return err
		}
	}
	if err := l.pace().wait(ctx, len(events), l.g.ownedShare()); err != nil {
		return err
	}
	return l.g.writer.write(ctx, l, sink.Span{Partition: l.place(), After: l.read, To: to, Events: events})
}
