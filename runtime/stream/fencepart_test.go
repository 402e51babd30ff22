package stream_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runnel-dev/runnel/e2e/simulation/fakenats"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// TestFenceOfWhichPartIsLost fills the disk within a fence, and then takes away what the server would have completed it from: the
// writer must not wait for that for ever.
func TestFenceOfWhichPartIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fakenats.New(fakenats.Options{})
		t.Cleanup(server.Close)
		c, err := stream.Connect(t.Context(), stream.Config{InProcess: server.Client("test"), Replicas: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		s := create(t, c, "shop")
		server.FailAfter(100)
		fenced := make(chan error, 1)
		go func() {
			_, err := s.Fence(t.Context(), 0, 1, event.Group{K: 1, N: 1}, "first")
			fenced <- err
		}()
		time.Sleep(10 * time.Second)
		if _, last := server.Ends(s.Name()); last != 100 {
			t.Fatalf("%d markers are stored, want 100", last)
		}
		select {
		case err := <-fenced:
			t.Fatalf("the fence ended while the server may complete it: %v", err)
		default:
		}
		server.Restore(server.Snapshot(), time.Second)
		select {
		case err := <-fenced:
			if !errors.Is(err, stream.ErrMoved) {
				t.Fatalf("got %v, want ErrMoved", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the fence waits for ever")
		}
		fence(t, s, 2)
	})
}

// TestFenceOfWhichPartIsStored completes it when the server starts again.
func TestFenceOfWhichPartIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fakenats.New(fakenats.Options{})
		t.Cleanup(server.Close)
		c, err := stream.Connect(t.Context(), stream.Config{InProcess: server.Client("test"), Replicas: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		s := create(t, c, "shop")
		server.FailAfter(100)
		time.AfterFunc(10*time.Second, func() { server.Restart(time.Second) })
		w, err := s.Fence(t.Context(), 0, 1, event.Group{K: 1, N: 1}, "first")
		if err != nil || w.Base != event.FenceMarkers {
			t.Fatalf("got %s, %v", w, err)
		}
	})
}
