package host_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"sync"
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

	w := announced(t)
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	name := newFunction(t, f, "$.public.orders", "")
	own(t, name, w, ended.Process.Pid)
	again := newTarget(t)
	const lease = 14 * time.Second
	began := time.Now()
	start(t, name, only(again), func(c *host.Config) { c.Lease = lease })
	again.complete(t, f.events)
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("taken after %v", d)
	}
}

// A process of this machine that is killed while another one runs and waits for its partition is gone at once too.
func TestKilledBesideAnother(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, 1)
	h := newTarget(t)
	start(t, newFunction(t, f, "$.public.orders", ""), only(h), nil)
	h.complete(t, f.events)

	w := announced(t)
	lives := exec.Command("sleep", "600")
	if err := lives.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		_ = lives.Process.Kill()
		_ = lives.Wait()
	})
	t.Cleanup(kill)
	name := newFunction(t, f, "$.public.orders", "")
	own(t, name, w, lives.Process.Pid)
	other := newTarget(t)
	const lease = 14 * time.Second
	waits := make(chan struct{})
	tell := sync.OnceFunc(func() { close(waits) })
	start(t, name, only(other), func(c *host.Config) {
		c.Lease = lease
		c.Observer.Lag = func(string, uint64, float64) { tell() } // a second after it has asked for the partition
	})
	<-waits
	if got := len(other.got()); got != 0 {
		t.Fatalf("%d events were written while their owner lived", got)
	}
	kill()
	began := time.Now()
	other.complete(t, f.events)
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("taken after %v", d)
	}
}

// announced is a worker's own announcement: it says where process numbers mean the same.
func announced(t *testing.T) registry.Worker {
	t.Helper()
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
	return w
}

// own makes a process the owner of a function's only partition.
func own(t *testing.T, function string, w registry.Worker, pid int) {
	t.Helper()
	w.PID, w.Started, w.Functions = pid, time.Now(), []string{function}
	b, _ := json.Marshal(w)
	owner := function + "owner"
	if _, err := shared.registry.Workers.Put(t.Context(), owner, b); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.registry.Owners.Put(t.Context(), function+".1.0", fmt.Appendf(nil, `{"instance":%q,"turn":3,"floor":{"sequence":0,"version":0}}`, owner)); err != nil {
		t.Fatal(err)
	}
}
