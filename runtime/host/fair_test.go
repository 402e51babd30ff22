//go:build !race

package host_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// A function that works off a backlog as fast as the processors allow does not make events of another one on the same worker late. Both are
// measured in one run, and what is compared are medians. (Under the race detector processors are what everything waits for; there
// TestFunctionsReadOnTheirOwnConnections holds what this one shows.)
func TestABacklogDelaysNobody(t *testing.T) {
	f := newFeeder(t, stream.Settings{Partitions: 8})
	other := f.table("quick")
	busy, quick := newFunction(t, f, "$.public.orders", ""), newFunction(t, f, "$.public.quick", "")
	deploy(t, busy, func(r *registry.FunctionRecord) { r.State = registry.Paused })
	const backlog = 150_000
	for i := range backlog / 10_000 {
		f.put(f.schema, keys(i*10_000, 10_000)...)
	}
	many, few := &counting{}, &counting{}
	start(t, quick, nil, func(c *host.Config) {
		c.Functions = []string{busy, quick}
		c.NewHandler = func(_ context.Context, fn *registry.Function) (sink.Handler, error) {
			if fn.Name == quick {
				return few, nil
			}
			return many, nil
		}
	})
	sent := 0
	late := func() time.Duration {
		began := time.Now()
		f.put(other, sent)
		f.flush()
		for sent++; few.events.Load() < int64(sent); {
			if time.Since(began) > *patience {
				t.Fatal("an event does not come")
			}
			time.Sleep(100 * time.Microsecond)
		}
		return time.Since(began)
	}
	late() // until it has begun
	measure := func(more func() bool) time.Duration {
		var all []time.Duration
		for more() || len(all) == 0 {
			all = append(all, late())
		}
		slices.Sort(all)
		t.Logf("%d events, median %v, 9 of 10 within %v", len(all), all[len(all)/2], all[len(all)*9/10])
		return all[len(all)/2]
	}
	n := 0
	alone := measure(func() bool { n++; return n <= 200 })
	deploy(t, busy, func(r *registry.FunctionRecord) { r.State = registry.Running })
	waitFor(t, "the backlog is worked off", func() bool { return many.events.Load() > 0 })
	beside := measure(func() bool { return many.events.Load() < backlog })
	if beside > 3*max(alone, time.Millisecond) {
		t.Errorf("beside a backlog an event takes %v, alone %v", beside, alone)
	}
	if len(f.events) != backlog+sent {
		t.Fatal("what was fed is not what was measured")
	}
}
