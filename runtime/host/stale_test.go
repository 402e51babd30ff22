package host_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// stale is a world in which a server that led before answers the first questions for what follows the end of its stream.
type stale struct {
	host.World
	last  atomic.Uint64 // of that server's stream; 0 while there is none
	asked atomic.Int64
}

func (w *stale) Stream(ctx context.Context, source string) (host.Stream, error) {
	s, err := w.World.Stream(ctx, source)
	return staleStream{s, w}, err
}

type staleStream struct {
	host.Stream
	w *stale
}

func (s staleStream) Next(ctx context.Context, subject string, from uint64) (*event.Message, error) {
	m, err := s.Stream.Next(ctx, subject, from)
	if last := s.w.last.Load(); last > 0 && err == nil && m.Sequence > last && s.w.asked.Add(1) <= 20 {
		return nil, stream.ErrNoMessage
	}
	return m, err
}

// A t is executed although some answers say that the stream ends before it: nothing was lost there.
func TestTruncateBesideAStaleLeader(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	name := newFunction(t, f, "$.public.orders", "")
	f.put(f.schema, keys(0, 50)...)
	w := &stale{World: realWorld()}
	w.last.Store(f.chain.Sent())
	f.truncate(f.schema)
	f.put(f.schema, keys(100, 50)...)
	p := newTransactional(t)
	start(t, name, only(p), func(c *host.Config) { c.World = w })
	p.want(t, once(keys(100, 50)), 1)
	if w.asked.Load() <= 20 {
		t.Error("a stale server was not asked until the end")
	}
}

// late is a stale world whose consumers are late too, until open is closed.
type late struct {
	stale
	open chan struct{}
}

func (w *late) Stream(ctx context.Context, source string) (host.Stream, error) {
	s, err := w.stale.Stream(ctx, source)
	return lateStream{s, w}, err
}

type lateStream struct {
	host.Stream
	w *late
}

func (s lateStream) Consume(ctx context.Context, t host.Tap) (host.Feed, error) {
	receive := t.Receive
	t.Receive = func(p host.Packet) {
		if p.Status == host.Sent {
			<-s.w.open
		}
		receive(p)
	}
	return s.Stream.Consume(ctx, t)
}

// A partition for which nothing comes is not passed on the word of a server that led the stream a moment ago.
func TestIdleBesideAStaleLeader(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	w := &late{stale: stale{World: realWorld()}, open: make(chan struct{})}
	w.last.Store(f.chain.Sent())
	name := newFunction(t, f, "$.public.orders", "")
	f.put(f.schema, keys(0, 50)...)
	h := newTarget(t)
	start(t, name, only(h), func(c *host.Config) {
		c.World, c.Lease, c.IdleEvery, c.Heartbeat = w, 10*time.Second, 120*time.Millisecond, 4*time.Second
	})
	waitFor(t, "the stale server is asked", func() bool { return w.asked.Load() > 5 })
	close(w.open)
	h.complete(t, f.events)
}
