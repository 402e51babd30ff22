package stream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
)

// warned calls f when the server warns of something.
type warned struct {
	slog.Handler
	f func()
}

func (w warned) Handle(context.Context, slog.Record) error { w.f(); return nil }

// The port is ours from before the store is opened, which takes seconds after a crash, until the server stops.
func TestPortIsHeld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Start(Embedded{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := s.Connect(t.Context(), "test")
	if err == nil {
		_, err = Create(t.Context(), conn, "shop", Settings{})
		conn.Close()
	}
	s.Stop()
	if err != nil {
		t.Fatal(err)
	}
	indexes, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "CDC_shop", "msgs", "index.db"))
	if err != nil || len(indexes) != 1 {
		t.Fatal(indexes, err)
	}
	if err := os.WriteFile(indexes[0], []byte("what the server warns of while it opens the store"), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	var tried, taken atomic.Int64
	try := func() {
		tried.Add(1)
		if l, err := net.Listen("tcp", address); err == nil {
			taken.Add(1)
			_ = l.Close()
		}
	}
	s, err = Start(Embedded{Dir: dir, Listen: address, Log: slog.New(warned{slog.NewTextHandler(os.Stderr, nil), try})})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if tried.Load() == 0 || taken.Load() > 0 {
		t.Errorf("the port was free at %d of %d times while the store was opened", taken.Load(), tried.Load())
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("nobody answers: %v", err)
	}
	if _, err := Start(Embedded{Dir: t.TempDir(), Listen: address}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
}
