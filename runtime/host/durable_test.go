package host_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// While a target writes a batch, or tries to again, the floor lies below it: whoever takes over begins before it.
func TestFloorWaitsForTheTarget(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 7}")
	h := newTarget(t)
	var tries atomic.Int64
	h.fail = func(b sink.Batch) error {
		for _, s := range b.Spans {
			if floor := owner(t, name, 1, s.Partition).Floor; len(s.Events) > 0 && floor.Version >= s.Events[0].Version {
				t.Errorf("the floor %d covers %d, which is not written yet", floor.Version, s.Events[0].Version)
			}
		}
		if tries.Add(1)%2 == 0 {
			return fmt.Errorf("try %d fails", tries.Load())
		}
		return nil
	}
	start(t, name, only(h), nil)
	for i := range 5 {
		f.put(f.schema, keys(i*20, 20)...)
	}
	h.complete(t, f.events)
	if tries.Load() < 10 {
		t.Errorf("%d tries", tries.Load())
	}
}

// The last delivery is lost, and no other one follows: a heartbeat tells that more was sent than came.
func TestTheLastDeliveryIsLost(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	var lost atomic.Bool
	w := &faulty{World: realWorld(), lose: func(p host.Packet) bool { return p.Status == host.Sent && lost.CompareAndSwap(false, true) }}
	start(t, name, only(h), func(c *host.Config) { c.World, c.Heartbeat = w, time.Second })
	f.put(f.schema, 1)
	h.complete(t, f.events)
	if !lost.Load() {
		t.Error("nothing was lost")
	}
}

// A worker that hangs in a write for longer than its lease, and is refused in the end, asks whether the partition is still its
// own before it tries again.
func TestWhoHungAsksBeforeItTriesAgain(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	world := &faulty{World: realWorld(), paused: &gate{}}
	hangs := &hanging{owned: &owned{target: h, t: t, name: name}, began: make(chan struct{}), end: make(chan struct{})}
	start(t, name, only(hangs), func(c *host.Config) { c.World, c.Lease = world, time.Second })
	f.put(f.schema, 1)
	<-hangs.began
	first := owner(t, name, 1, 0).Instance
	world.paused.shut() // it is not heard of any more
	start(t, name, only(&owned{target: h, t: t, name: name}), func(c *host.Config) { c.Lease = time.Second })
	h.complete(t, f.events)
	if now := owner(t, name, 1, 0).Instance; now == first {
		t.Fatalf("%s wrote, and owns the partition still", first)
	}
	world.paused.lift()
	close(hangs.end)
	waitFor(t, "the refused write", func() bool { return hangs.over.Load() })
	f.put(f.schema, keys(2, 20)...)
	h.complete(t, f.events)
}

// hanging hangs in its first write, which is then refused.
type hanging struct {
	*owned
	once       sync.Once
	began, end chan struct{}
	over       atomic.Bool
}

func (h *hanging) Handle(ctx context.Context, b sink.Batch) (err error) {
	h.once.Do(func() {
		h.instance = owner(h.t, h.name, b.Generation, b.Spans[0].Partition).Instance
		close(h.began)
		<-h.end
		h.over.Store(true)
		err = errors.New("refused")
	})
	if err != nil {
		return err
	}
	return h.owned.Handle(ctx, b)
}
