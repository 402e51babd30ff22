package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

func TestDelivers(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	f.put(f.schema, keys(1, 100)...)
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	stop := start(t, name, only(h), nil)
	h.complete(t, f.events)
	waitFor(t, "floors at the end", func() bool {
		for p := range 4 {
			if o := owner(t, name, 1, p); o.Floor.Version == 0 || o.Instance == "" {
				return false
			}
		}
		return true
	})
	f.put(f.schema, keys(1, 50)...)
	h.complete(t, f.events)
	stop()
	for p := range 4 {
		if o := owner(t, name, 1, p); o.Instance != "" {
			t.Errorf("partition %d is not released: %+v", p, o)
		}
	}
	if h.back != 0 {
		t.Errorf("%d events came again", h.back)
	}
}

func TestRestartResumesAtTheFloor(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	f.put(f.schema, keys(1, 60)...)
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 7}")
	h := newTarget(t)
	stop := start(t, name, only(h), nil)
	h.complete(t, f.events)
	stop()
	f.put(f.schema, keys(1, 60)...)
	start(t, name, only(h), nil)
	h.complete(t, f.events)
	if h.back != 0 {
		t.Errorf("%d events came again after a clean stop", h.back)
	}
}

func TestReadsExactlyItsTables(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	items, people := f.table("items"), f.table("people")
	name := newFunction(t, f, "[$.public.orders, $.public.items]", "")
	for i := range 20 {
		f.put(f.schema, i)
		f.put(items, i)
		f.put(people, i)
		f.putFor("another", f.schema, i)
		f.putFor(name, items, i)
	}
	var want []written
	n := 0
	for _, w := range f.events {
		if n++; w.table != "people" && n%5 != 4 {
			want = append(want, w)
		}
	}
	h := newTarget(t)
	start(t, name, only(h), nil)
	h.complete(t, want)

	all := newTarget(t)
	start(t, newFunction(t, f, `"$.*.*"`, ""), only(all), nil)
	want = nil
	for i, w := range f.events {
		if i%5 < 3 {
			want = append(want, w)
		}
	}
	all.complete(t, want)
}

func TestIdleLatency(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	start(t, name, only(h), func(c *host.Config) { c.IdleEvery = time.Minute })
	f.put(f.schema, 1)
	h.complete(t, f.events)
	best := time.Hour
	for i, end := 0, time.Now().Add(*patience); best > 20*time.Millisecond && time.Now().Before(end); i++ { // of a busy machine the best counts
		began := time.Now()
		f.put(f.schema, i)
		<-h.changed
		for len(h.got()) < len(f.events) {
			<-h.changed
		}
		best = min(best, time.Since(began))
	}
	if best > 20*time.Millisecond {
		t.Errorf("a change on an idle stream takes %v at best", best)
	}
}

func TestFailuresAreRetriedInPlace(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	f.put(f.schema, keys(1, 80)...)
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 9}")
	h := newTarget(t)
	var n, stalled atomic.Int64
	h.fail = func(sink.Batch) error {
		if n.Add(1)%4 != 0 {
			return errors.New("the target is down")
		}
		return nil
	}
	start(t, name, only(h), func(c *host.Config) {
		c.Observer.Stalled = func(_ string, s bool) {
			if s {
				stalled.Add(1)
			}
		}
	})
	h.complete(t, f.events)
	if h.back != 0 || stalled.Load() == 0 {
		t.Errorf("%d events out of order, stalled %d times", h.back, stalled.Load())
	}
}

// A BatchError keeps what failed, with the later events of the same keys, and only that.
func TestBatchErrorKeepsTheOrderOfKeys(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, 1, 2, 3, 1, 2, 3, 1)
	name := newFunction(t, f, "$.public.orders", "batch: {age: 300ms}")
	h := newTarget(t)
	var tries [][]int
	h.fail = func(b sink.Batch) error {
		var ids []int
		for i := range b.Spans[0].Events {
			v, _ := b.Spans[0].Events[i].Key().Column("id")
			id, _ := v.Int64()
			ids = append(ids, int(id))
		}
		tries = append(tries, ids)
		if len(tries) == 1 {
			return &sink.BatchError{Failed: []sink.Failure{{Event: 1, Err: errors.New("busy")}, {Event: 3, Err: errors.New("busy")}}}
		}
		return nil
	}
	start(t, name, only(h), nil)
	waitFor(t, "the second try", func() bool { return len(h.got()) > 0 })
	if got, want := fmt.Sprint(tries), "[[1 2 3 1 2 3 1] [2 1 2 1]]"; got != want {
		t.Errorf("tries %s, want %s", got, want)
	}
}

func TestHaltErrorHalts(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, 1)
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	h.fail = func(sink.Batch) error { return sink.Halt(errors.New("no column note; run ALTER TABLE")) }
	start(t, name, only(h), nil)
	waitFor(t, "halted", func() bool { return record(t, name).State == registry.Halted })
	if r := record(t, name).Reason; !strings.Contains(r, "ALTER TABLE") {
		t.Error(r)
	}
}

// A write that takes too long is split until it fits its deadline.
func TestSlowWritesAreSplit(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, 64)...)
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	start(t, name, func() sink.Handler { return slow{h} }, func(c *host.Config) { c.WriteDeadline = 100 * time.Millisecond })
	h.complete(t, f.events)
	if h.back != 0 {
		t.Errorf("%d events came again", h.back)
	}
}

type slow struct{ *target }

func (s slow) Handle(ctx context.Context, b sink.Batch) error {
	if b.Len() > 10 {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.target.Handle(ctx, b)
}

// One event may take longer than the deadline: a target that knows what is late gets more and more time for it.
func TestOneSlowEventIsWritten(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, 4)...)
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	start(t, name, func() sink.Handler { return heavy{h} }, func(c *host.Config) { c.WriteDeadline = 50 * time.Millisecond })
	h.complete(t, f.events)
	if h.back != 0 {
		t.Errorf("%d events came again", h.back)
	}
}

// heavy needs longer for each event than a write may take, and is guarded.
type heavy struct{ *target }

func (heavy) Sweep(context.Context, sink.Sweep) error { return nil }

func (s heavy) Handle(ctx context.Context, b sink.Batch) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(b.Len()) * 120 * time.Millisecond):
	}
	return s.target.Handle(ctx, b)
}

func TestAnotherFunctionIsNotDelayed(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	bad, good := newFunction(t, f, "$.public.orders", ""), newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	start(t, bad, nil, func(c *host.Config) {
		c.Functions = []string{bad, good}
		c.NewHandler = func(_ context.Context, fn *registry.Function) (sink.Handler, error) {
			if fn.Name == good {
				return h, nil
			}
			return stuck{}, nil
		}
	})
	for i := range 20 {
		f.put(f.schema, keys(i*100, 100)...)
	}
	h.complete(t, f.events)
}

// One partition that cannot be written stalls the function, whatever the others write, and does not hold them up. A worker
// that waits for the target stops at once.
func TestOnePartitionStalls(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 5}")
	h := newTarget(t)
	var told atomic.Bool // that it stalls; from there on it waits long
	h.fail = func(b sink.Batch) error {
		if b.Spans[0].Partition == 0 {
			wait := 50 * time.Millisecond
			if told.Load() {
				wait = time.Hour
			}
			return sink.RetryAfter(wait, errors.New("shard 0 is down"))
		}
		return nil
	}
	var turns []bool
	stop := start(t, name, only(h), func(c *host.Config) {
		c.RetryMax = time.Hour
		c.Observer.Stalled = func(_ string, s bool) { told.Store(true); h.mu.Lock(); turns = append(turns, s); h.mu.Unlock() }
	})
	stalled := func() string { h.mu.Lock(); defer h.mu.Unlock(); return fmt.Sprint(turns) }
	f.put(f.schema, keys(0, 100)...)
	waitFor(t, "stalled", func() bool { return stalled() == "[true]" })
	f.put(f.schema, keys(0, 100)...)
	var want []written
	for _, w := range f.events {
		if w.partition != 0 {
			want = append(want, w)
		}
	}
	h.complete(t, want)
	if got := stalled(); got != "[true]" {
		t.Errorf("stalled: %s", got)
	}
	stop() // it does not wait for the hour to pass
}

// stuck never ends by itself.
type stuck struct{}

func (stuck) Handle(ctx context.Context, _ sink.Batch) error { <-ctx.Done(); return ctx.Err() }

func TestCombinerGetsTheSpansOfAllPartitions(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 8})
	for i := range 40 {
		f.put(f.schema, keys(i*50, 50)...)
	}
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 20}")
	h := &combining{target: newTarget(t)}
	start(t, name, only(h), nil)
	h.complete(t, f.events)
	most := 0
	for _, spans := range h.spans {
		most = max(most, len(spans))
	}
	if most < 4 || h.overlap.Load() || h.back != 0 {
		t.Errorf("at most %d spans in a batch, overlapping %v, %d events came again", most, h.overlap.Load(), h.back)
	}
}

type combining struct {
	*target
	overlap atomic.Bool
}

func (c *combining) Combine() {}
func (c *combining) Handle(ctx context.Context, b sink.Batch) error {
	if c.handling.Load() > 0 {
		c.overlap.Store(true)
	}
	<-time.After(5 * time.Millisecond)           // of a target; meanwhile spans gather
	if len(c.spans)%3 == 1 && len(b.Spans) > 1 { // one span fails, its neighbours are durable
		ok := b
		ok.Spans = b.Spans[1:]
		c.store(ok)
		fails := make([]sink.Failure, len(b.Spans[0].Events))
		for i := range fails {
			fails[i] = sink.Failure{Event: i, Err: errors.New("busy")}
		}
		return &sink.BatchError{Failed: fails}
	}
	return c.target.Handle(ctx, b)
}

func TestUnknownSchemaHalts(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	unknown := event.NewSchema(f.name, "postgresql", "shop", event.Table{Schema: "public", Name: "late"}, []event.Column{{Name: "id", Type: "integer", Key: 1}})
	f.put(unknown, 1)
	name := newFunction(t, f, "$.public.late", "")
	h := newTarget(t)
	start(t, name, only(h), nil)
	waitFor(t, "halted", func() bool { return record(t, name).State == registry.Halted })
	if r := record(t, name).Reason; !strings.Contains(r, "public.late") || !strings.Contains(r, unknown.Fingerprint()) {
		t.Error(r)
	}
	if _, err := shared.registry.Schemas.Put(t.Context(), unknown.KVKey(), unknown.Marshal()); err != nil {
		t.Fatal(err)
	}
	deploy(t, name, func(r *registry.FunctionRecord) { r.State = registry.Running })
	h.complete(t, f.events)
}
