package host_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// A target that is away is tried with one batch at a time, of whichever partition; nothing becomes a dead letter; and when it is back
// all goes on with whole batches.
func TestOutage(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 8})
	f.put(f.schema, keys(1, 4000)...)
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 100}")
	h := newTarget(t)
	var away atomic.Bool
	var inside, together, tries, largest atomic.Int64
	away.Store(true)
	h.fail = func(b sink.Batch) error {
		if !away.Load() {
			largest.Store(max(largest.Load(), int64(b.Len())))
			return nil
		}
		// The first ones of all partitions may be under way before one has failed.
		if n := inside.Add(1); tries.Add(1) > 2*8 {
			together.Store(max(together.Load(), n))
		}
		defer inside.Add(-1)
		<-time.After(5 * time.Millisecond) // of a connection that is refused
		return errors.New("the target is away")
	}
	start(t, name, only(h), func(c *host.Config) { c.RetryMin, c.RetryMax = time.Millisecond, 20*time.Millisecond })
	waitFor(t, "sixty tries", func() bool { return tries.Load() >= 60 })
	if n := together.Load(); n != 1 {
		t.Errorf("%d batches at the same time", n)
	}
	away.Store(false)
	h.complete(t, f.events)
	if n := largest.Load(); n != 100 {
		t.Errorf("at most %d rows in a batch after it, want 100", n)
	}
	if n := len(letters(t, name)); n != 0 || h.back != 0 {
		t.Errorf("%d dead letters, %d events out of order", n, h.back)
	}
}

// A throttled target gets batches that it writes in good time, and whole ones when it is quick again.
func TestThrottledTarget(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, 3000)...)
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 1000}")
	h := &throttled{target: newTarget(t)}
	h.perEvent.Store(int64(2 * time.Millisecond))
	start(t, name, func() sink.Handler { return h }, func(c *host.Config) { c.Lease, c.WriteDeadline = 10*time.Second, 600*time.Millisecond })
	waitFor(t, "batches of a tenth of a second", func() bool { n := h.last.Load(); return n > 0 && n <= 50 })
	h.perEvent.Store(0)
	waitFor(t, "whole batches", func() bool {
		f.put(f.schema, keys(1, 1000)...)
		return h.last.Load() >= 500
	})
	h.complete(t, f.events)
	if h.back != 0 {
		t.Errorf("%d events came again", h.back)
	}
}

// throttled takes its time for each event, and gives up at the deadline.
type throttled struct {
	*target
	perEvent, last atomic.Int64
}

func (h *throttled) Handle(ctx context.Context, b sink.Batch) error {
	h.last.Store(int64(b.Len()))
	if per := h.perEvent.Load(); per > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(per) * time.Duration(b.Len())):
		}
	}
	return h.target.Handle(ctx, b)
}

// checked is a target that looks before it writes, and knows whether it was closed.
type checked struct {
	*target
	err    error
	closed *atomic.Int64
}

func (c checked) Check(context.Context, []*event.Schema) error { return c.err }
func (c checked) Close()                                       { c.closed.Add(1) }

// A password that was wrong when the function started is read again at each attempt.
func TestChangedReference(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, 10)...)
	name := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	var wrong atomic.Bool
	var made, closed atomic.Int64
	wrong.Store(true)
	start(t, name, only(h), func(c *host.Config) {
		c.RetryMin, c.RetryMax = time.Millisecond, 20*time.Millisecond
		c.NewHandler = func(context.Context, *registry.Function) (sink.Handler, error) {
			made.Add(1)
			if wrong.Load() {
				return checked{h, errors.New("the target is not there"), &closed}, nil
			}
			return checked{h, nil, &closed}, nil
		}
	})
	waitFor(t, "three attempts", func() bool { return made.Load() >= 3 })
	wrong.Store(false)
	h.complete(t, f.events)
	if m, c := made.Load(), closed.Load(); c != m-1 {
		t.Errorf("%d of %d handlers were closed, want all but the last", c, m)
	}
}
