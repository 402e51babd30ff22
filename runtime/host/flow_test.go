package host_test

import (
	"testing"

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
}
