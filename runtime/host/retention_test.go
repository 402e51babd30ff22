package host_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Retention passes a function that cannot write: it halts, and says how many messages it lost.
func TestFallsOutOfRetention(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1, MaxBytes: 1 << 20})
	f.put(f.schema, 1)
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 10}")
	h := newTarget(t)
	start(t, name, only(h), func(c *host.Config) { c.Memory = 1 })
	h.complete(t, f.events)
	h.mu.Lock()
	h.fail = func(sink.Batch) error { return errors.New("down") }
	h.mu.Unlock()
	for i := range 20 {
		f.put(f.schema, keys(i*500, 500)...)
	}
	h.mu.Lock()
	h.fail = nil
	h.mu.Unlock()
	waitFor(t, "halted", func() bool { return record(t, name).State == registry.Halted })
	r := record(t, name).Reason
	for _, want := range []string{"fell out of retention", "partition 0", "stop the process that captures " + f.name, "`runnel resume " + name + "`"} {
		if !strings.Contains(r, want) {
			t.Errorf("the reason %q lacks %q", r, want)
		}
	}
	// The floor stands before the hole.
	end, err := f.stream.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if o := owner(t, name, 1, 0); o.Floor.Sequence+1 >= end.First {
		t.Errorf("floor %d, the stream begins at %d", o.Floor.Sequence, end.First)
	}
	// Without a load of all tables since, it halts again; with one it goes on.
	resume := func() {
		deploy(t, name, func(r *registry.FunctionRecord) { r.State, r.Reason = registry.Running, "" })
	}
	resume()
	waitFor(t, "halted again", func() bool { return record(t, name).State == registry.Halted })
	goesOn := func() {
		waitFor(t, "goes on", func() bool {
			got := h.got()
			return got[len(got)-1] == f.events[len(f.events)-1]
		})
	}
	f.capture(registry.Load{ID: "2", Sequence: end.First + 100, Sweep: true, Done: true})
	f.put(f.schema, keys(1, 10)...)
	resume()
	goesOn()
}

// TestBackfillHeals: what halted because retention had passed it goes on once its tables are read again for it; one of some rows, or one
// that lies before what it lacks, does not heal.
func TestBackfillHeals(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1, MaxBytes: 1 << 20})
	f.put(f.schema, 1)
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 10}")
	h := newTarget(t)
	stop := start(t, name, only(h), nil)
	h.complete(t, f.events)
	stop()
	for i := range 8 {
		f.put(f.schema, keys(i*500, 500)...)
	}
	halted := func() { waitFor(t, "halted", func() bool { return record(t, name).State == registry.Halted }) }
	order := func(b registry.Backfill) {
		if _, err := shared.registry.OrderBackfill(t.Context(), name, b); err != nil {
			t.Fatal(err)
		}
	}
	end, err := f.stream.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start(t, name, only(h), nil)
	halted()
	if r := record(t, name).Reason; !strings.Contains(r, "`runnel backfill "+name+"` reads its tables again") {
		t.Error(r)
	}
	order(registry.Backfill{Start: sink.Point{Sequence: end.Last}, Where: "id > 7"})
	halted()
	order(registry.Backfill{Start: sink.Point{Sequence: end.First - 2}})
	halted()
	order(registry.Backfill{Start: sink.Point{Sequence: end.Last}})
	f.put(f.schema, keys(1, 10)...)
	waitFor(t, "goes on", func() bool {
		got := h.got()
		return got[len(got)-1] == f.events[len(f.events)-1]
	})
}

// TestBackfillProves: a partition that has read on, while retention passed what was not yet known to be read in full, goes on from there
// where a backfill stands in for that.
func TestBackfillProves(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1, MaxBytes: 1 << 20})
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	start(t, name, only(h), func(c *host.Config) { c.FloorEvery = 5 * time.Second })
	for i := range 10 {
		f.put(f.schema, keys(i*500, 500)...)
		waitFor(t, "read", func() bool { return len(h.got()) >= len(f.events) || record(t, name).State == registry.Halted })
	}
	end, err := f.stream.End(t.Context())
	if err != nil || end.First == 1 {
		t.Fatal(end, err)
	}
	if _, err := shared.registry.OrderBackfill(t.Context(), name, registry.Backfill{Start: sink.Point{Sequence: end.Last, Version: end.Message.Last()}}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the floor moves", func() bool { return owner(t, name, 1, 0).Floor.Sequence >= end.Last })
	if r := record(t, name); r.State != registry.Running {
		t.Errorf("%s: %s", r.State, r.Reason)
	}
}

func (f *feeder) capture(l registry.Load) {
	f.t.Helper()
	if _, err := shared.registry.Captures.Put(f.t.Context(), f.name, fmt.Appendf(nil, `{"load":{"id":%q,"sequence":%d,"sweep":%v,"done":true}}`, l.ID, l.Sequence, l.Sweep)); err != nil {
		f.t.Fatal(err)
	}
}

// A function that is deployed when the stream no longer holds the first load orders a reading of its tables for itself, once; with the
// load in it, it starts.
func TestStartsWhereTheFirstLoadIs(t *testing.T) {
	t.Parallel()
	for _, held := range []bool{true, false} {
		t.Run(fmt.Sprint("held=", held), func(t *testing.T) {
			t.Parallel()
			f := newFeeder(t, stream.Settings{Partitions: 4, MaxBytes: 1 << 20})
			for i := range 8 {
				f.put(f.schema, keys(i*500, 500)...)
			}
			end, err := f.stream.End(t.Context())
			if err != nil || end.First == 1 {
				t.Fatal(end, err)
			}
			l := registry.Load{ID: "1", Sequence: end.First + 5}
			if !held {
				l.Sequence = end.First - 2
			}
			f.capture(l)
			name := newFunction(t, f, "$.public.orders", "")
			h := newTarget(t)
			start(t, name, only(h), nil)
			h.complete(t, f.events[len(f.events)-int(end.Messages):])
			r := record(t, name)
			if r.State != registry.Running || len(r.Backfills) != map[bool]int{false: 1}[held] {
				t.Fatalf("record %+v", r)
			}
			if !held {
				if b := r.Backfills[0]; !b.Full() || b.Start != (sink.Point{Sequence: end.Last, Version: end.Message.Last()}) {
					t.Errorf("backfill %+v, the stream ended at %d", b, end.Last)
				}
			}
		})
	}
}

// The stream lost its end after the floor was noted, and its sequences were used again by a later writer.
func TestTailLoss(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, 20)...)
	lost := event.Writer{Epoch: f.writer.Epoch, Base: f.writer.Base}
	kept := len(f.events)
	end := f.chain.Sent()
	name := newFunction(t, f, "$.public.orders", "")
	floor := sink.Point{Sequence: end + 2000, Version: lost.Version(end+2000, 1)}
	if _, err := shared.registry.Owners.Put(t.Context(), name+".1.0", fmt.Appendf(nil, `{"turn":3,"floor":{"sequence":%d,"version":%d}}`, floor.Sequence, floor.Version)); err != nil {
		t.Fatal(err)
	}
	f.fence(2, end)
	f.put(f.schema, keys(1, 20)...)
	h := newTarget(t)
	start(t, name, only(h), nil)
	h.complete(t, f.events[kept:])
	f.fence(3, f.chain.Sent()) // an ordinary restart of the agent
	f.put(f.schema, keys(1, 20)...)
	h.complete(t, f.events[kept:])
	if h.back != 0 {
		t.Errorf("%d events came again", h.back)
	}
}

// The same while the function runs and is idle: nothing comes, and only a look at the fences shows it.
func TestTailLossWhileIdle(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, 5)...)
	end := f.chain.Sent()
	name := newFunction(t, f, "$.public.orders", "")
	floor := sink.Point{Sequence: end + 2000, Version: f.writer.Version(end+2000, 1)}
	if _, err := shared.registry.Owners.Put(t.Context(), name+".1.0", fmt.Appendf(nil, `{"turn":3,"floor":{"sequence":%d,"version":%d}}`, floor.Sequence, floor.Version)); err != nil {
		t.Fatal(err)
	}
	h := newTarget(t)
	start(t, name, only(h), nil)
	waitFor(t, "claimed", func() bool { return owner(t, name, 1, 0).Instance != "" })
	kept := len(f.events)
	f.fence(2, end)
	f.put(f.schema, keys(1, 5)...)
	h.complete(t, f.events[kept:])
}

// A partition without events notes up to where there is nothing for it.
func TestIdleFloorMoves(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	name := newFunction(t, f, "$.public.people", "")
	f.table("people")
	h := newTarget(t)
	start(t, name, only(h), nil)
	f.put(f.schema, keys(1, 50)...)
	waitFor(t, "the floor is at the end", func() bool { return owner(t, name, 1, 0).Floor.Sequence == f.chain.Sent() })
	if len(h.got()) > 0 {
		t.Error("events came")
	}
}
