package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Reader is a stream that is read back. *stream.Stream is one.
type Reader interface {
	Next(ctx context.Context, subject string, from uint64) (*event.Message, error)
}

// Messages yields a stream from its beginning, markers too, each time it is called: no checker needs it in memory.
type Messages func(yield func(*event.Message) error) error

// From reads the source's stream.
func From(ctx context.Context, s Reader, source string) Messages {
	return func(yield func(*event.Message) error) error {
		subject := "cdc." + event.EscapeToken(source) + ".>"
		for from := uint64(1); ; {
			m, err := s.Next(ctx, subject, from)
			if errors.Is(err, stream.ErrNoMessage) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read the stream of %s after message %d: %w", source, from-1, err)
			}
			if err := yield(m); err != nil {
				return err
			}
			from = m.Sequence + 1
		}
	}
}

// Of yields messages that are in memory.
func Of(all []*event.Message) Messages {
	return func(yield func(*event.Message) error) error {
		for _, m := range all {
			if err := yield(m); err != nil {
				return err
			}
		}
		return nil
	}
}

// Read gives all messages of the source's tables, markers left out.
func Read(ctx context.Context, s Reader, source string) ([]*event.Message, error) {
	var all []*event.Message
	err := From(ctx, s, source)(func(m *event.Message) error {
		if !m.Marker() {
			all = append(all, m)
		}
		return nil
	})
	return all, err
}

// pass is a checker that sees each message of a stream once, with its events.
type pass interface {
	message(m *event.Message, events []event.Event)
	end()
}

// walk shows the stream to all checkers at once. A message that cannot be decoded counts as one that is not there.
func (r *Report) walk(messages Messages, passes ...pass) error {
	var events []event.Event
	err := messages(func(m *event.Message) error {
		events = events[:0]
		if !m.Marker() {
			var err error
			if events, err = m.Decode(events); err != nil {
				r.Found(Lost, "message %d cannot be decoded: %v", m.Sequence, err)
				return nil
			}
		}
		for _, p := range passes {
			p.message(m, events)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range passes {
		p.end()
	}
	return nil
}
