package stream_test

import (
	"context"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen sooner or later, on a machine that is busy with something else too.
var patience = flag.Duration("patience", 2*time.Minute, "how long a test waits for what must happen")

// epoch and instances of tests count.
var instances atomic.Uint64

// start runs an embedded server for the test.
func start(t testing.TB, e stream.Embedded) *stream.Server {
	t.Helper()
	if e.Dir == "" {
		e.Dir = t.TempDir()
	}
	s, err := stream.Start(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// embedded runs a server and connects to it.
func embedded(t testing.TB) *stream.Conn {
	t.Helper()
	return within(t, start(t, stream.Embedded{}))
}

func within(t testing.TB, s *stream.Server) *stream.Conn {
	t.Helper()
	c, err := s.Connect(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func create(t testing.TB, c *stream.Conn, source string) *stream.Stream {
	t.Helper()
	s, err := stream.Create(t.Context(), c, source, stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fence takes the stream over at its end.
func fence(t testing.TB, s *stream.Stream, epoch uint32) (event.Writer, uint64) {
	t.Helper()
	e, err := s.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Fence(t.Context(), e.Last, epoch, event.Group{K: 1, N: 1}, fmt.Sprintf("instance-%d", instances.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return w, w.Base
}

func chain(t testing.TB, s *stream.Stream, epoch uint32, o stream.ChainOptions) *stream.Chain {
	t.Helper()
	w, base := fence(t, s, epoch)
	c := s.Chain(w, base, o)
	t.Cleanup(c.Close)
	return c
}

// outgoing is the n-th message of a writer.
func outgoing(source, writer string, n uint64, data []byte) *stream.Outgoing {
	p := event.Position{Commit: 1 << 20, Change: n + 1}
	return &stream.Outgoing{
		Subject: event.Subject(source, event.Table{Schema: "public", Name: "orders"}, int(n%8)),
		ID:      fmt.Sprintf("%s:%s:%d", source, writer, n),
		Group:   event.Group{From: p, To: p, K: 1, N: 1},
		Data:    data,
	}
}

// deadline bounds what a test waits for.
func deadline(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
