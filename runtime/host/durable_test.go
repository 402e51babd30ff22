package host_test

import (
	"fmt"
	"sync/atomic"
	"testing"

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
	start(t, name, only(h), func(c *host.Config) { c.World = w })
	f.put(f.schema, 1)
	h.complete(t, f.events)
	if !lost.Load() {
		t.Error("nothing was lost")
	}
}
