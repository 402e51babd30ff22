// Package rehearse plays events through what a function makes of them, down to the requests that its target would get, and stops there:
// nothing is sent, and the target is not looked at.
//
// It does what a worker does with a batch: tables that the function does not read and kinds of events that do not count are passed over,
// rows are filtered, computed, masked and renamed (package shape), and each partition is a batch of its own, or all of them are
// one where the handler wants that. What is not known without the target stays unknown: a table that somebody has altered, a document
// that does not fit.
package rehearse

import (
	"context"
	"errors"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/shape"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// Function is one that can be played.
type Function struct {
	spec       *registry.Function
	shape      shape.Spec
	handler    sink.Handler
	generation int64
	partitions int
	shapes     map[*event.Schema]*shape.Shape
}

// New takes a specification, its handler (nil where there is none here: then nothing is sent), its generation, and the partitions of
// the stream.
func New(spec *registry.Function, h sink.Handler, generation int64, partitions int) (*Function, error) {
	s, err := spec.Shape()
	if err != nil {
		return nil, err
	}
	return &Function{spec: spec, shape: s, handler: h, generation: generation, partitions: partitions, shapes: map[*event.Schema]*shape.Shape{}}, nil
}

// Previews says whether the handler can show what it would send.
func (f *Function) Previews() bool {
	_, ok := f.handler.(sink.Previewer)
	return ok
}

// Result is what the target would get.
type Result struct {
	Steps   []Step
	Dead    []Dead
	Skipped int // events that are not for the target
}

// Step is a batch, or a place in the stream: a t or an m, which stands alone.
type Step struct {
	Events  []event.Event // as the handler gets them
	Place   bool
	Request []byte // what would be sent, if the handler can show it
}

// Dead is an event that can never be written.
type Dead struct {
	Event event.Event // as it stands in the stream
	Err   error
}

// Play plays events in their order. Each has its schema.
func (f *Function) Play(ctx context.Context, events []event.Event) (*Result, error) {
	r := &Result{}
	var batch []event.Event
	origin := map[event.Version]event.Event{}
	flush := func() error {
		err := f.flush(ctx, r, batch, origin)
		batch = nil
		return err
	}
	for i := range events {
		e := events[i]
		if e.Source != f.spec.Source() || !f.spec.Matches(e.Table) {
			r.Skipped++
			continue
		}
		origin[e.Version] = e
		result, err := f.reshape(&e)
		var unfit unfitError
		switch {
		case errors.As(err, &unfit):
			return nil, err
		case err != nil:
			r.Dead = append(r.Dead, Dead{events[i], err})
		case result == shape.Skipped:
			r.Skipped++
		case e.Op == event.Truncate || e.Op == event.Mark:
			if err := flush(); err != nil {
				return nil, err
			}
			r.Steps = append(r.Steps, Step{Events: []event.Event{e}, Place: true})
		default:
			batch = append(batch, e)
		}
	}
	return r, flush()
}

// unfitError: the function halts.
type unfitError struct{ error }

func (e unfitError) Unwrap() error { return e.error }

func (f *Function) reshape(e *event.Event) (shape.Result, error) {
	if f.shape.Zero() {
		return shape.Kept, nil
	}
	s := f.shapes[e.Schema]
	if s == nil {
		var err error
		if s, err = shape.New(f.shape, e.Schema); err != nil {
			return 0, unfitError{fmt.Errorf("the specification of function %s does not fit its source: %w", f.spec.Name, err)}
		}
		f.shapes[e.Schema] = s
	}
	_, result, err := s.Apply(nil, e)
	return result, err
}

// flush makes batches of events as a worker that has all partitions would.
func (f *Function) flush(ctx context.Context, r *Result, events []event.Event, origin map[event.Version]event.Event) error {
	var spans []sink.Span
	at := map[int]int{}
	for _, e := range events {
		p := e.Partition
		if f.spec.Ordering == registry.OrderSource {
			p = sink.All
		}
		i, known := at[p]
		if !known {
			i = len(spans)
			at[p], spans = i, append(spans, sink.Span{Partition: p, After: sink.Point{Sequence: e.Sequence - 1, Version: e.Version - 1}})
		}
		spans[i].Events = append(spans[i].Events, e)
		spans[i].To = sink.Point{Sequence: e.Sequence, Version: e.Version}
	}
	if _, combines := f.handler.(sink.Combiner); combines && len(spans) > 0 {
		return f.preview(ctx, r, spans, origin)
	}
	for i := range spans {
		if err := f.preview(ctx, r, spans[i:i+1], origin); err != nil {
			return err
		}
	}
	return nil
}

func (f *Function) preview(ctx context.Context, r *Result, spans []sink.Span, origin map[event.Version]event.Event) error {
	var step Step
	bad := map[event.Version]bool{}
	if p, ok := f.handler.(sink.Previewer); ok {
		text, err := p.Preview(ctx, sink.Batch{Function: f.spec.Name, Generation: f.generation, Partitions: f.partitions, Spans: spans})
		var failed *sink.BatchError
		if errors.As(err, &failed) {
			for _, x := range failed.Failed {
				e := spans[x.Span].Events[x.Event]
				bad[e.Version] = true
				r.Dead = append(r.Dead, Dead{origin[e.Version], x.Err})
			}
		} else if err != nil {
			return err
		}
		step.Request = text
	}
	for i := range spans {
		for _, e := range spans[i].Events {
			if !bad[e.Version] {
				step.Events = append(step.Events, e)
			}
		}
	}
	if len(step.Events) > 0 {
		r.Steps = append(r.Steps, step)
	}
	return nil
}
