package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// generations is a target that wants one generation at a time.
type generations struct {
	*target
	mu      sync.Mutex
	newest  int64
	writing map[int64]int
}

func (g *generations) Handle(ctx context.Context, b sink.Batch) error {
	g.mu.Lock()
	g.newest = max(g.newest, b.Generation)
	g.writing[b.Generation]++
	for gen, n := range g.writing {
		if n > 0 && gen != b.Generation || b.Generation < g.newest {
			g.t.Errorf("generation %d writes beside generation %d", b.Generation, max(gen, g.newest))
		}
	}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.writing[b.Generation]--
		g.mu.Unlock()
	}()
	return g.target.Handle(ctx, b)
}

// next gives a function a new generation, as a deployment does.
func next(t *testing.T, name string, change func(*registry.FunctionRecord)) {
	t.Helper()
	deploy(t, name, func(r *registry.FunctionRecord) {
		r.Replaces, r.Waits, r.Back = &registry.Replaced{Generation: r.Generation, Back: r.Back}, true, false
		r.Generation++
		r.Replay = nil
		if change != nil {
			change(r)
		}
	})
}

// Generations follow each other under load, on three workers: none writes before all of the one before have stopped, and nothing is lost.
func TestGenerationsFollowEachOther(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 20}")
	h := &generations{target: newTarget(t), writing: map[int64]int{}}
	for range 3 {
		start(t, name, only(h), func(c *host.Config) { c.Lease = registry.WorkerTTL }) // whoever is slow is not gone
	}
	for i := range 8 {
		f.put(f.schema, keys(i*100, 100)...)
		waitFor(t, "written in part", func() bool { return len(h.got()) > i*100 })
		next(t, name, func(r *registry.FunctionRecord) {
			if i == 3 {
				r.AddBackfill(registry.Backfill{Why: "test"}, time.Now())
			}
		})
	}
	h.complete(t, f.events)
	waitFor(t, "the last generation has begun", func() bool { return !record(t, name).Waits })
	r := record(t, name)
	if r.Generation != 9 || len(r.Starts) != 4 || r.Back || len(r.Backfills) != 1 || r.Backfills[0].Start.Version == 0 {
		t.Errorf("record %+v", r)
	}
	for p := range 4 {
		if o := owner(t, name, 8, p); !o.Closed || o.Instance != "" || o.Floor != r.Starts[p] {
			t.Errorf("partition %d of the one before: %+v, began at %+v", p, o, r.Starts[p])
		}
	}
}

// A worker that says nothing more is waited for until it is gone; and what it had claimed is closed to it.
func TestGenerationWaitsForASleeper(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "")
	f.put(f.schema, keys(0, 20)...)
	sleeper := "sleeper-" + name
	asleep, stopped := make(chan struct{}), make(chan struct{})
	fallAsleep := sync.OnceFunc(func() {
		close(asleep)
		<-stopped
	})
	t.Cleanup(fallAsleep)
	announced := make(chan struct{})
	go func() {
		defer close(stopped)
		for first := sync.OnceFunc(func() { close(announced) }); ; {
			value, _ := json.Marshal(registry.Worker{Host: "elsewhere", PID: 1, Started: time.Now(), Functions: []string{name}})
			if _, err := shared.registry.Workers.Put(context.WithoutCancel(t.Context()), sleeper, value); err != nil {
				t.Error(err)
			}
			first()
			select {
			case <-asleep:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	<-announced
	floor := sink.Point{Sequence: 512, Version: f.writer.Version(512, 0)}
	value, _ := json.Marshal(registry.Owner{Instance: sleeper, Turn: 1, Floor: floor})
	revision, err := shared.registry.Owners.Swap(t.Context(), name+".1.1", value, 0)
	if err != nil {
		t.Fatal(err)
	}
	left := leaveConsumer(t, f, name, 1, sleeper)
	next(t, name, nil)
	h := newTarget(t)
	start(t, name, only(h), func(c *host.Config) { c.Lease = 5 * time.Second })
	waitFor(t, "the partition that nobody has is closed", func() bool { return owner(t, name, 1, 0).Closed })
	if r := record(t, name); !r.Waits || len(h.got()) > 0 {
		t.Errorf("%d events written while the older one holds a partition: %+v", len(h.got()), r)
	}
	fallAsleep()
	h.complete(t, f.events) // once it is silent for the lease
	if r := record(t, name); r.Starts[1] != floor || r.Starts[0] != (sink.Point{}) {
		t.Errorf("began at %+v", r.Starts)
	}
	left()
	if _, err := shared.registry.Owners.Swap(t.Context(), name+".1.1", value, revision); !errors.Is(err, stream.ErrConflict) {
		t.Errorf("the sleeper moves its floor: %v", err)
	}
}

// A power loss can take the order for a new generation and leave what was closed for it: then the old one goes on where it stood.
func TestOrderForAGenerationIsLost(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "")
	f.put(f.schema, keys(0, 20)...)
	value, _ := json.Marshal(registry.Owner{Turn: 1, Closed: true})
	if _, err := shared.registry.Owners.Swap(t.Context(), name+".1.1", value, 0); err != nil {
		t.Fatal(err)
	}
	h := newTarget(t)
	start(t, name, only(h), nil)
	h.complete(t, f.events)
}

// Where the target says that a newer generation was there, and KV knows none, another one takes the place of both.
func TestGenerationThatKVHasLost(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "")
	f.put(f.schema, keys(0, 20)...)
	h := newTransactional(t)
	h.before = 3
	start(t, name, only(h), nil)
	waitFor(t, "another generation writes", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.rows) == 20
	})
	if r := record(t, name); r.Generation < h.before || r.Replaces == nil || r.Waits {
		t.Errorf("record %+v", r)
	}
}

// A replay reads a part of the stream once more, from before a group.
func TestReplay(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	start(t, name, only(h), nil)
	f.put(f.schema, keys(0, 40)...)
	f.truncate(f.schema)
	f.put(f.schema, keys(40, 40)...)
	h.complete(t, f.events)
	end, err := f.stream.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := end.Last - 40 // the t in partition 1: that in partition 0 is of its group
	from, err := host.Before(t.Context(), f.stream, second)
	if err != nil || from.Sequence != second-2 || from.Version.Epoch() != 1 {
		t.Fatalf("before %d: %+v, %v", second, from, err)
	}
	if p, err := host.Outside(t.Context(), f.stream, sink.Point{Sequence: second - 1, Version: f.writer.Version(second-1, 1)}); err != nil || p != from {
		t.Errorf("outside of the group: %+v, %v, want %+v", p, err, from)
	}
	replayed := func() int { return len(h.got()) - len(f.events) }
	next(t, name, func(r *registry.FunctionRecord) { r.Replay = &registry.Replay{From: from} })
	waitFor(t, "written again", func() bool { return replayed() == 40 })
	r := record(t, name)
	if !r.Back || slices.Contains(r.Starts, sink.Point{}) || r.Starts[0] != from || len(r.Replay.Until) != 2 || r.Replay.Over(0, from) || !r.Replay.Over(0, r.Replay.Until[0]) {
		t.Errorf("record %+v", r)
	}

	next(t, name, func(r *registry.FunctionRecord) { r.Replay = &registry.Replay{From: sink.Point{}} })
	waitFor(t, "everything written again", func() bool { return replayed() == 40+80 })
	next(t, name, nil)
	waitFor(t, "an ordinary one follows", func() bool { return !record(t, name).Waits })
	if r := record(t, name); r.Back {
		t.Errorf("it goes back: %+v", r)
	}
	f.put(f.schema, 80)
	waitFor(t, "goes on", func() bool { return replayed() == 40+80 })
	if got := h.got(); got[len(got)-1].key != 80 {
		t.Error(fmt.Sprint(got[len(got)-3:]))
	}
}

// A part of the stream is written again, no faster than asked for, and what comes behind it is not; a cancelled replay goes on where the
// function was.
func TestReplayEnds(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 10}")
	h := newTarget(t)
	start(t, name, only(h), nil)
	f.put(f.schema, keys(0, 400)...)
	h.complete(t, f.events)
	from, err := host.Before(t.Context(), f.stream, 513)
	if err != nil {
		t.Fatal(err)
	}
	replayed := func() int { return len(h.got()) - len(f.events) }
	next(t, name, func(r *registry.FunctionRecord) { r.Replay = &registry.Replay{From: from, To: 513 + 49, Rate: 1000} })
	waitFor(t, "the part", func() bool { return replayed() >= 50 })
	f.put(f.schema, 400)
	waitFor(t, "goes on", func() bool { got := h.got(); return got[len(got)-1].key == 400 })
	if n := replayed(); n < 50 || n > 50+10 { // the batch in which the end is
		t.Errorf("%d events came again, want 50", n)
	}

	before := replayed()
	next(t, name, func(r *registry.FunctionRecord) { r.Replay = &registry.Replay{From: from, Rate: 5} })
	waitFor(t, "a part of a slow one", func() bool { return replayed() > before })
	until := record(t, name).Replay.Until
	next(t, name, func(r *registry.FunctionRecord) { r.Replay = &registry.Replay{Cancelled: true, Until: until} })
	f.put(f.schema, 401)
	waitFor(t, "goes on again", func() bool { got := h.got(); return got[len(got)-1].key == 401 })
	if n := replayed() - before; n > 300 {
		t.Errorf("%d events came again of a replay that was cancelled", n)
	}
}
