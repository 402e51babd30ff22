package host_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Deploy, pause, resume, a new version and delete are seen without a restart, long before anything else would tell of them. (That it
// takes less than a second is TestResumedIsShared's, in virtual time.)
func TestRecordsAreFollowed(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	const lease = 14 * time.Second
	var state atomic.Value
	state.Store(registry.State(""))
	start(t, name, only(h), func(c *host.Config) {
		c.Lease, c.IdleEvery = lease, time.Hour
		c.Observer.State = func(_ string, s registry.State, _ string) { state.Store(s) }
	})
	f.put(f.schema, keys(1, 10)...)
	h.complete(t, f.events)
	within := func(what string, ok func() bool) {
		t.Helper()
		began := time.Now()
		waitFor(t, what, ok)
		if d := time.Since(began); d > lease/3 {
			t.Errorf("%s takes %v", what, d)
		}
	}
	released := func() bool {
		return owner(t, name, 1, 0).Instance == "" && owner(t, name, 1, 1).Instance == ""
	}

	deploy(t, name, func(r *registry.FunctionRecord) { r.State = registry.Paused })
	within("paused", released)
	f.put(f.schema, keys(1, 10)...)
	deploy(t, name, func(r *registry.FunctionRecord) { r.State = registry.Running })
	within("resumed", func() bool { m, _ := h.compare(f.events); return m == 0 })

	f.put(f.table("people"), keys(1, 10)...)
	deploy(t, name, func(r *registry.FunctionRecord) {
		r.Spec, r.Version, r.Generation = spec(name, f.name+".public.people", ""), 2, 2
	})
	within("deployed again", func() bool { m, _ := h.compare(f.events); return m == 0 })

	e, err := shared.registry.Functions.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.registry.Functions.Delete(t.Context(), name, e.Revision); err != nil {
		t.Fatal(err)
	}
	within("deleted", func() bool {
		return state.Load() == registry.State("") && owner(t, name, 2, 0).Instance == "" && owner(t, name, 2, 1).Instance == ""
	})
	if h.back != 0 {
		t.Errorf("%d events came again", h.back)
	}
}

// The log says what became of a function, and is silent about one that was deleted before the worker came.
func TestDeletedFunctionIsNamedSo(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	name := newFunction(t, f, "$.public.orders", "")
	var log lines
	change := func(c *host.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }
	start(t, name, only(newTarget(t)), change)
	waitFor(t, "running", func() bool { return strings.Contains(log.String(), `msg="function is running"`) })
	e, err := shared.registry.Functions.Get(t.Context(), name)
	if err == nil {
		err = shared.registry.Functions.Delete(t.Context(), name, e.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "deleted", func() bool { return strings.Contains(log.String(), `msg="function is deleted"`) })

	var later lines
	other := newFunction(t, f, "$.public.orders", "")
	start(t, name, only(newTarget(t)), func(c *host.Config) {
		c.Functions, c.Log = []string{name, other}, slog.New(slog.NewTextHandler(&later, nil))
	})
	waitFor(t, "running", func() bool { return strings.Contains(later.String(), "function="+other) })
	if s := later.String(); strings.Contains(s, "function="+name) {
		t.Errorf("it was deleted long ago:\n%s", s)
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A specification that cannot be read halts its function.
func TestBadSpecificationHalts(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	name := newFunction(t, f, "$.public.orders", "nonsense: 1")
	start(t, name, only(newTarget(t)), nil)
	waitFor(t, "halted", func() bool { return record(t, name).State == registry.Halted })
}

// A function waits for the stream of its source.
func TestWaitsForTheSource(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	later := f.name + "later"
	name := newFunction(t, &feeder{name: later}, "$.public.orders", "")
	h := newTarget(t)
	var failed atomic.Int64
	start(t, name, only(h), func(c *host.Config) {
		c.Observer.Retried = func(string, error) { failed.Add(1) }
	})
	waitFor(t, "waiting", func() bool { return failed.Load() > 2 })
	g := &feeder{t: t, name: later}
	var err error
	if g.stream, err = stream.Create(t.Context(), shared.conn, later, stream.Settings{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	g.schema = g.table("orders")
	g.fence(1, 0)
	g.put(g.schema, 1, 2, 3)
	h.complete(t, g.events)
}

// The worker announces itself with what it hosts, and withdraws that when it stops.
func TestAnnounces(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	f.put(f.schema, keys(1, 10)...)
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	stop := start(t, name, only(h), func(c *host.Config) { c.Lease = 1200 * time.Millisecond })
	h.complete(t, f.events)
	instance := owner(t, name, 1, 0).Instance
	var w registry.Worker
	waitFor(t, "announced", func() bool {
		e, err := shared.registry.Workers.Get(t.Context(), instance)
		return err == nil && json.Unmarshal(e.Value, &w) == nil && len(w.Status[name].Partitions) == 2 && w.Status[name].Backlog == 0
	})
	if w.PID == 0 || w.Host == "" || w.Status[name].Stalled {
		t.Errorf("%+v", w)
	}
	stop()
	if _, err := shared.registry.Workers.Get(t.Context(), instance); err == nil {
		t.Error("still announced")
	}
}
