package stream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// freePort is a port that a server can use again after a restart.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func over(t testing.TB, url string) *stream.Conn {
	t.Helper()
	c, err := stream.Connect(deadline(t, *patience), stream.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// The server is stopped and started again on its store, again and again, under load.
func TestChainSurvivesRestarts(t *testing.T) {
	t.Parallel()
	e := stream.Embedded{Dir: t.TempDir(), Listen: freePort(t)}
	server := start(t, e)
	c := over(t, server.ClientURL())
	s := create(t, c, "shop")
	ch := chain(t, s, 1, stream.ChainOptions{})
	const messages = 12_000
	done := make(chan error, 1)
	go func() { done <- publish(t.Context(), ch, "shop", "a", 0, messages, make([]byte, 300)) }()
	for i := range uint64(3) {
		if err := ch.Wait(deadline(t, *patience), min(ch.Sent(), (i+1)*2500)); err != nil {
			t.Fatal(err)
		}
		server.Stop()
		server = start(t, e)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(*patience):
		t.Fatalf("stored %d, sent %d", ch.Stored(), ch.Sent())
	}
	verify(t, c, s, map[string]uint64{"a": messages})
}

// A store that is replaced by an older copy of itself holds less than was acknowledged.
func TestChainFindsThatTheStreamWentBack(t *testing.T) {
	t.Parallel()
	e := stream.Embedded{Dir: filepath.Join(t.TempDir(), "now"), Listen: freePort(t)}
	server := start(t, e)
	c := over(t, server.ClientURL())
	s := create(t, c, "shop")
	ch := chain(t, s, 1, stream.ChainOptions{})
	ctx := deadline(t, *patience)
	if err := publish(ctx, ch, "shop", "a", 0, 100, nil); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	backup := filepath.Join(t.TempDir(), "then")
	if err := os.CopyFS(backup, os.DirFS(e.Dir)); err != nil {
		t.Fatal(err)
	}
	server = start(t, e)
	if err := publish(ctx, ch, "shop", "a", 100, 200, nil); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	e.Dir = backup
	start(t, e)
	select {
	case <-ch.Failed():
	case <-ctx.Done():
		t.Fatal("the chain goes on")
	}
	if err := ch.Err(); !errors.Is(err, stream.ErrRewound) {
		t.Errorf("got %v", err)
	}
	// The successor goes on from what is there.
	next := takeOver(t, s, 2)
	if err := publish(ctx, next, "shop", "b", 0, 100, nil); err != nil {
		t.Fatal(err)
	}
	verify(t, c, s, map[string]uint64{"a": 100, "b": 100})
}

// The disk becomes full under load: everything waits, the reason is told, and nothing is lost once there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		if os.Getenv("CI") != "" && os.Getuid() == 0 {
			t.Fatalf("mount a small tmpfs: %v", err)
		}
		t.Skipf("needs the right to mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	// Something else fills the disk, and goes away.
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 14<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	server := start(t, stream.Embedded{Dir: filepath.Join(dir, "store")})
	c := within(t, server)
	s := create(t, c, "shop")
	stalls := make(chan error, 100)
	ch := chain(t, s, 1, stream.ChainOptions{Stalled: func(err error) { stalls <- err }})
	const messages = 25_000
	done := make(chan error, 1)
	go func() { done <- publish(t.Context(), ch, "shop", "a", 0, messages, make([]byte, 300)) }()
	for full := false; !full; {
		select {
		case err := <-stalls:
			// JetStream may refuse for want of room a moment before the server finds out why.
			full = errors.Is(err, stream.ErrDiskFull) && strings.Contains(err.Error(), "make room in "+dir)
		case err := <-done:
			t.Fatalf("publishing ended: %v", err)
		case <-time.After(*patience):
			t.Fatalf("nobody says that the disk is full, and where to make room; stored %d", ch.Stored())
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ch.Wait(short, ch.Sent()); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, stream.ErrDiskFull) {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(*patience):
		t.Fatalf("it does not go on; stored %d, %v", ch.Stored(), server.Trouble())
	}
	if err := server.Trouble(); err != nil {
		t.Errorf("got %v", err)
	}
	verify(t, c, s, map[string]uint64{"a": messages})
}

func TestFenceContention(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	s := create(t, c, "shop")
	ctx := deadline(t, *patience)
	for round := range uint64(5) {
		after := round * event.FenceMarkers
		var won, moved atomic.Int64
		var g = make(chan struct{}, 4)
		for i := range cap(g) {
			go func() {
				w, err := s.Fence(ctx, after, uint32(round+1), event.Group{K: 2, N: 3}, fmt.Sprintf("i%d-%d", round, i))
				switch {
				case err == nil && w == (event.Writer{Epoch: uint32(round + 1), Base: after + event.FenceMarkers}):
					won.Add(1)
				case errors.Is(err, stream.ErrMoved):
					moved.Add(1)
				default:
					t.Errorf("got %v, %v", w, err)
				}
				g <- struct{}{}
			}()
		}
		for range cap(g) {
			<-g
		}
		if won.Load() != 1 || moved.Load() != 3 {
			t.Errorf("round %d: %d won, %d moved", round, won.Load(), moved.Load())
		}
	}
	verify(t, c, s, nil)
	m, err := s.Message(ctx, 1)
	if err != nil || !m.Marker() || m.Group.K != 2 || m.Group.N != 3 || m.Writer.Base != event.FenceMarkers {
		t.Errorf("got %+v, %v", m, err)
	}
}

// A fence whose answer is lost is stored once and found.
func TestFenceWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	server := start(t, stream.Embedded{Listen: "127.0.0.1:0"})
	p := newProxy(t, server.ClientURL())
	c := over(t, p.url())
	s := create(t, c, "shop")
	for round := range uint64(6) {
		fault := make(chan struct{})
		go func() {
			defer close(fault)
			await(t, time.Duration(round)*time.Millisecond)
			p.mute.Store(true)
			await(t, 30*time.Millisecond)
			p.cut()
			p.mute.Store(false)
		}()
		w, err := s.Fence(deadline(t, *patience), round*event.FenceMarkers, uint32(round+1), event.Group{K: 1, N: 1}, fmt.Sprintf("i%d", round))
		if err != nil || w.Base != (round+1)*event.FenceMarkers {
			t.Fatalf("got %v, %v", w, err)
		}
		<-fault
	}
	if got, want := len(verify(t, c, s, nil)), 6*event.FenceMarkers; got != want {
		t.Errorf("got %d markers, want %d", got, want)
	}
}

func TestFenceOfAnOldEndIsRefused(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	s := create(t, c, "shop")
	fence(t, s, 1)
	for _, after := range []uint64{0, 100, 511, 513, 5000} {
		if _, err := s.Fence(deadline(t, *patience), after, 2, event.Group{K: 1, N: 1}, "late"); !errors.Is(err, stream.ErrMoved) {
			t.Errorf("after %d: got %v", after, err)
		}
	}
}
