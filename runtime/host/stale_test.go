package host_test

import (
	"context"
	"sync/atomic"
	"testing"

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
