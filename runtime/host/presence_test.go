package host_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// A process of this machine that has ended is gone at once: a restart after a crash does not wait for the lease.
func TestRestartAfterACrashDoesNotWait(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, 1)
	h := newTarget(t)
	start(t, newFunction(t, f, "$.public.orders", ""), only(h), nil)
	h.complete(t, f.events)

	// Its own announcement says where process numbers mean the same.
	var w registry.Worker
	all, err := shared.registry.Workers.All(t.Context(), ">")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		var one registry.Worker
		if json.Unmarshal(e.Value, &one) == nil && one.Space != "" {
			w = one
		}
	}
	if w.Space == "" {
		t.Skip("this system does not tell process namespaces apart")
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	w.PID, w.Started = ended.Process.Pid, time.Now()
	b, _ := json.Marshal(w)
	name := newFunction(t, f, "$.public.orders", "")
	crashed := name + "crashed"
	if _, err := shared.registry.Workers.Put(t.Context(), crashed, b); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.registry.Owners.Put(t.Context(), name+".1.0", fmt.Appendf(nil, `{"instance":%q,"turn":3,"floor":{"sequence":0,"version":0}}`, crashed)); err != nil {
		t.Fatal(err)
	}
	again := newTarget(t)
	const lease = 14 * time.Second
	began := time.Now()
	start(t, name, only(again), func(c *host.Config) { c.Lease = lease })
	again.complete(t, f.events)
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("taken after %v", d)
	}
}
