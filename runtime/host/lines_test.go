package host_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// counting takes all that comes, as fast as it comes.
type counting struct{ events atomic.Int64 }

func (c *counting) Handle(_ context.Context, b sink.Batch) error {
	c.events.Add(int64(b.Len()))
	return nil
}

// What a function has asked for does not come on the connection of the worker, on which others would wait behind it.
func TestFunctionsReadOnTheirOwnConnections(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "")
	const events = 10_000
	f.put(f.schema, keys(0, events)...)
	conn, err := shared.server.Connect(t.Context(), "alone")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	r, err := registry.Open(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	all := &counting{}
	start(t, name, only(all), func(c *host.Config) { c.Conn, c.Registry = conn, r })
	waitFor(t, "all is written", func() bool { return all.events.Load() >= events })
	end, err := f.stream.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.NC.Stats().InBytes; got > end.Bytes/2 {
		t.Errorf("%d bytes came on the worker's own connection, of a stream of %d", got, end.Bytes)
	}
}

// JetStream refuses requests whose heartbeat is more than half of their life: a host would never read anything.
func TestHeartbeatIsBounded(t *testing.T) {
	t.Parallel()
	c := host.Config{Conn: shared.conn, Registry: shared.registry, Heartbeat: 16 * time.Second,
		NewHandler: func(context.Context, *registry.Function) (sink.Handler, error) { return &counting{}, nil }}
	if _, err := host.New(c); err == nil || !strings.Contains(err.Error(), "heartbeat") {
		t.Errorf("got %v", err)
	}
}
