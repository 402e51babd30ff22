package host_test

import (
	"sync"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Workers come and go while changes flow: what is moved cleanly is written once, in order.
func TestMovesUnderLoad(t *testing.T) {
	t.Parallel()
	const partitions = 8
	f := newFeeder(t, stream.Settings{Partitions: partitions})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 20}")
	h := newTarget(t)
	owners := func() (n int, all bool) {
		who := map[string]bool{}
		for p := range partitions {
			who[owner(t, name, 1, p).Instance] = true
		}
		return len(who), !who[""]
	}
	flow := func(ok func() bool) {
		t.Helper()
		for i, end := 0, time.Now().Add(*patience); !ok(); i++ {
			if time.Now().After(end) {
				t.Fatal("the workers do not share the partitions")
			}
			f.put(f.schema, keys(i%50*10, 40)...)
			time.Sleep(5 * time.Millisecond) // of traffic
		}
	}
	shared := func(workers int) func() bool {
		return func() bool { n, all := owners(); return all && n == workers }
	}
	worker := func() func() {
		return start(t, name, only(h), func(c *host.Config) { c.Lease = 10 * time.Second })
	}
	first := worker()
	flow(shared(1))
	rest := []func(){worker(), worker(), worker()}
	flow(shared(4))
	var stopping sync.WaitGroup
	for _, stop := range []func(){first, rest[0]} {
		stopping.Go(stop)
	}
	flow(shared(2))
	stopping.Wait()
	h.complete(t, f.events)
	if h.back != 0 {
		t.Errorf("%d events came again", h.back)
	}
}
