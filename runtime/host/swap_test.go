package host_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// exchanged is a target with a table of the function's and one of its copy's.
type exchanged struct {
	t *testing.T

	mu       sync.Mutex
	tables   map[string]map[event.Version]bool // by name; what is written counts by its version
	made     map[string]string                 // by name: which table it is
	refusals int                               // how often a swap fails before it is done, and how often after
	swaps    int
}

func newExchanged(t *testing.T) *exchanged {
	return &exchanged{t: t, tables: map[string]map[event.Version]bool{"own": {}, "copy": {}}, made: map[string]string{"own": "first", "copy": "second"}}
}

func (x *exchanged) Handle(_ context.Context, b sink.Batch) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	name := "own"
	if strings.HasSuffix(b.Function, "-copy") {
		name = "copy"
	}
	for _, s := range b.Spans {
		for i := range s.Events {
			x.tables[name][s.Events[i].Version] = true
		}
	}
	return nil
}

func (x *exchanged) Taken(context.Context, []*event.Schema) ([]string, error) { return nil, nil }

func (x *exchanged) End(context.Context, int64, int) ([]sink.Point, error) { return nil, nil }

func (x *exchanged) Marks(context.Context, sink.Swap) ([]string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return []string{x.made["copy"]}, nil
}

func (x *exchanged) Swap(_ context.Context, w sink.Swap) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.refusals++; x.refusals < 3 {
		return errors.New("the target is busy")
	}
	if x.made["own"] == w.Marks[0] {
		return nil
	}
	for v := range x.tables["own"] {
		if !x.tables["copy"][v] {
			x.t.Errorf("the copy lacks version %d, which readers have seen", v)
		}
	}
	x.tables["own"], x.tables["copy"] = x.tables["copy"], x.tables["own"]
	x.made["own"], x.made["copy"] = x.made["copy"], x.made["own"]
	if x.swaps++; x.refusals < 6 {
		return errors.New("the answer is lost")
	}
	return nil
}

func (x *exchanged) has(name string, events []written) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !slices.ContainsFunc(events, func(w written) bool { return !x.tables[name][w.version] })
}

// state is how often it was swapped, and which table is the function's.
func (x *exchanged) state() (swaps int, own string, rows int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.swaps, x.made["own"], len(x.tables["own"])
}

// copyOf deploys a copy, which reads everything once more.
func copyOf(t *testing.T, f *feeder, name string) {
	t.Helper()
	deploy(t, name+"-copy", func(r *registry.FunctionRecord) {
		*r = registry.FunctionRecord{Spec: spec(name+"-copy", f.name+".public.orders", "batch: {rows: 20}"), Version: 1, Generation: 5, State: registry.Running,
			Copy: &registry.Copy{Of: name, Into: "copy", Whole: true}}
	})
}

func both(name string) func(*host.Config) {
	return func(c *host.Config) { c.Functions, c.Lease = []string{name, name + "-copy"}, registry.WorkerTTL }
}

// The copy comes in the function's place under load, on workers that come and go: once, when no reader sees less than before, and nothing is lost.
func TestSwapUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 20}")
	x := newExchanged(t)
	for range 2 {
		start(t, name, only(x), both(name))
	}
	stop := start(t, name, only(x), both(name))
	f.put(f.schema, keys(0, 400)...)
	waitFor(t, "the function writes", func() bool { return x.has("own", f.events[:1]) })
	copyOf(t, f, name)
	f.put(f.schema, keys(400, 400)...)
	next(t, name, func(r *registry.FunctionRecord) {
		r.Swap = &registry.Swap{Copy: name + "-copy", Generation: 5, Into: "copy"}
	})
	stop()
	f.put(f.schema, keys(800, 200)...)
	waitFor(t, "the swap is done", func() bool { return !record(t, name).Waits })
	f.put(f.schema, keys(1000, 100)...)
	waitFor(t, "all is in the function's table", func() bool { return x.has("own", f.events) })
	r := record(t, name)
	swaps, own, rows := x.state()
	if r.Swap == nil || !r.Swap.Done || swaps != 1 || own != "second" || rows != len(f.events) {
		t.Errorf("%d swaps, %d rows of %d, record %+v, %+v", swaps, rows, len(f.events), r, r.Swap)
	}
	waitFor(t, "the copy is no function any more", func() bool {
		_, err := shared.registry.Functions.Get(t.Context(), name+"-copy")
		left, all := shared.registry.Owners.All(t.Context(), name+"-copy.*.*")
		return errors.Is(err, stream.ErrNotFound) && all == nil && len(left) == 0
	})
}

// A swap that is withdrawn while the copy is not there yet leaves the function where it stood; and so does one of a function whose own backfill
// is not in its target to the end, since the copy was not shown what that shows.
func TestSwapIsWithdrawn(t *testing.T) {
	t.Parallel()
	for kind, withdraw := range map[string]func(*testing.T, string, *registry.FunctionRecord){
		"Backfill": func(_ *testing.T, _ string, r *registry.FunctionRecord) {
			r.AddBackfill(registry.Backfill{Start: sink.Point{Sequence: 1, Version: 1}, Why: "test"}, time.Now())
		},
		"Operator": nil,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFeeder(t, stream.Settings{Partitions: 2})
			name := newFunction(t, f, "$.public.orders", "")
			x := newExchanged(t)
			start(t, name, only(x), func(c *host.Config) { c.Lease = registry.WorkerTTL }) // the copy runs nowhere
			f.put(f.schema, keys(0, 50)...)
			waitFor(t, "the function writes", func() bool { return x.has("own", f.events) })
			copyOf(t, f, name)
			next(t, name, func(r *registry.FunctionRecord) {
				r.Swap = &registry.Swap{Copy: name + "-copy", Generation: 5, Into: "copy"}
				if withdraw != nil {
					withdraw(t, name, r)
				}
			})
			f.put(f.schema, keys(50, 50)...)
			waitFor(t, "the function has stopped", func() bool { return owner(t, name, 1, 0).Closed && owner(t, name, 1, 1).Closed })
			if withdraw == nil {
				if r := record(t, name); !r.Waits || r.Swap.Marked {
					t.Errorf("it does not wait for its copy: %+v", r)
				}
				if ok, err := shared.registry.CancelSwap(t.Context(), name); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			waitFor(t, "the function goes on", func() bool { return x.has("own", f.events) })
			swaps, _, _ := x.state()
			if r := record(t, name); r.Waits || r.Swap != nil || swaps > 0 {
				t.Errorf("%d swaps, %+v", swaps, r)
			}
			if e, err := shared.registry.Functions.Get(t.Context(), name+"-copy"); err != nil || !strings.Contains(string(e.Value), `"state":"running"`) {
				t.Errorf("the copy: %s, %v", e.Value, err)
			}
		})
	}
}
