package host_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// explode stands for a fault in a user's code.
func explode(notes map[int]string, key int) { notes[key] = "" }

// An event at which the handler panics is a dead letter that shows where; all others are written, and the function goes on.
func TestPanicIsBuried(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, 40)...)
	function := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	h.fail = func(b sink.Batch) error {
		for _, s := range b.Spans {
			for n := range s.Events {
				if keyOf(&s.Events[n]) == 23 {
					explode(nil, 23)
				}
			}
		}
		return nil
	}
	start(t, function, only(h), nil)
	h.complete(t, without(f.events, is(23)))
	all := letters(t, function)
	if len(all) != 1 || all[0].Version != f.events[22].version {
		t.Fatalf("%d letters", len(all))
	}
	for _, want := range []string{"panicked: assignment to entry in nil map", "host_test.explode (panic_test.go:17)", "called by host_test.(*target).Handle"} {
		if !strings.Contains(all[0].Reason, want) {
			t.Errorf("the reason %q lacks %q", all[0].Reason, want)
		}
	}
	if strings.Contains(all[0].Reason, "writer") {
		t.Errorf("the reason shows what is not the handler's: %q", all[0].Reason)
	}
}

// brittle panics before it has seen an event.
type brittle struct{ *target }

func (brittle) Check(context.Context, []*event.Schema) error { panic("no such server") }

// A handler that panics while it is made, or looks at its target, halts its function and no other one.
func TestPanicAtTheStart(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, 3)...)
	other := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	start(t, other, only(h), nil)
	for name, maker := range map[string]func(context.Context, *registry.Function) (sink.Handler, error){
		"Made":    func(context.Context, *registry.Function) (sink.Handler, error) { panic("no such server") },
		"Checked": func(context.Context, *registry.Function) (sink.Handler, error) { return brittle{h}, nil },
	} {
		function := newFunction(t, f, "$.public.orders", "")
		var made atomic.Int64
		start(t, function, only(h), func(c *host.Config) {
			c.NewHandler = func(ctx context.Context, f *registry.Function) (sink.Handler, error) {
				made.Add(1)
				return maker(ctx, f)
			}
		})
		waitFor(t, "halted", func() bool { return record(t, function).State == registry.Halted })
		if got := record(t, function).Reason; !strings.Contains(got, "panicked: no such server") || made.Load() != 1 {
			t.Errorf("%s: %q after %d attempts", name, got, made.Load())
		}
	}
	h.complete(t, f.events)
}
