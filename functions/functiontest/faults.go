package functiontest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// Fault is what happens to one call of Handle instead of it: it calls the handler, or not, with all or less, and says something.
type Fault func(ctx context.Context, h functions.Handler, b functions.Batch) error

// Faults happen to the next calls of Handle that have events, one to each.
func (f *Flow) Faults(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, faults...)
}

func (f *Flow) next() Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.faults) == 0 {
		return nil
	}
	fault := f.faults[0]
	f.faults = f.faults[1:]
	return fault
}

// Busy is a target that takes nothing and asks for a pause, as with 429 and Retry-After.
func Busy(after time.Duration) Fault {
	return func(context.Context, functions.Handler, functions.Batch) error {
		return functions.RetryAfter(after, errors.New("the target is busy (429)"))
	}
}

// Away is a target that cannot be reached.
func Away() Fault {
	return func(context.Context, functions.Handler, functions.Batch) error {
		return errors.New("the target cannot be reached")
	}
}

// Timeout is a target that writes, and whose answer does not come before the deadline.
func Timeout() Fault {
	return func(ctx context.Context, h functions.Handler, b functions.Batch) error {
		if err := h.Handle(ctx, b); err != nil {
			return err
		}
		return fmt.Errorf("the target's answer did not come: %w", context.DeadlineExceeded)
	}
}

// Partly is a target that writes every other event, and says so.
func Partly() Fault {
	return func(ctx context.Context, h functions.Handler, b functions.Batch) error {
		some := b
		some.Spans = nil
		var failed functions.BatchError
		n := 0
		for i, s := range b.Spans {
			half := s
			half.Events = nil
			for j, e := range s.Events {
				if n++; n%2 == 1 {
					half.Events = append(half.Events, e)
					continue
				}
				failed.Failed = append(failed.Failed, functions.Failure{Span: i, Event: j, Err: errors.New("the target did not take this one")})
			}
			some.Spans = append(some.Spans, half)
		}
		if err := h.Handle(ctx, some); err != nil || len(failed.Failed) == 0 {
			return err
		}
		return &failed
	}
}

var errDies = errors.New("the worker is dead")

// Death is a worker that dies after its handler has written, before it can note that: another one gets the same events again.
func Death() Fault {
	return func(ctx context.Context, h functions.Handler, b functions.Batch) error {
		if err := h.Handle(ctx, b); err != nil {
			return err
		}
		return errDies
	}
}

// faulty puts handle before a handler, which keeps its other abilities.
func faulty(h functions.Handler, handle func(context.Context, functions.Batch) error) functions.Handler {
	w := wrapped{h, handle}
	_, combines := h.(functions.Combiner)
	sweeper, sweeps := h.(functions.Sweeper)
	if s, ok := h.(sink.Sequencer); ok {
		return struct {
			wrapped
			sink.Sequencer
		}{w, s}
	}
	if c, ok := h.(functions.Checkpointer); ok {
		return struct {
			wrapped
			functions.Checkpointer
		}{w, c}
	}
	switch {
	case combines && sweeps:
		return struct {
			wrapped
			combiner
			functions.Sweeper
		}{w, combiner{}, sweeper}
	case combines:
		return struct {
			wrapped
			combiner
		}{w, combiner{}}
	case sweeps:
		return struct {
			wrapped
			functions.Sweeper
		}{w, sweeper}
	}
	return w
}

type combiner struct{}

func (combiner) Combine() {}

type wrapped struct {
	inner  functions.Handler
	handle func(context.Context, functions.Batch) error
}

func (w wrapped) Handle(ctx context.Context, b functions.Batch) error { return w.handle(ctx, b) }

func (w wrapped) Check(ctx context.Context, schemas []*event.Schema) error {
	if c, ok := w.inner.(functions.Checker); ok {
		return c.Check(ctx, schemas)
	}
	return nil
}

func (w wrapped) Close() {
	if c, ok := w.inner.(functions.Closer); ok {
		c.Close()
	}
}
