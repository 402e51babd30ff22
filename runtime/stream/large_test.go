package stream_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// A payload that the store does not have is told apart from a store that does not answer.
func TestPayloadIsLost(t *testing.T) {
	t.Parallel()
	server := start(t, stream.Embedded{})
	c := within(t, server)
	s := create(t, c, "shop")
	resolve := func(wait time.Duration) error {
		short, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		return s.Resolve(short, &event.Message{Large: "missing"})
	}
	for wait := 100 * time.Millisecond; ; wait *= 2 { // a busy machine may not answer so soon
		err := resolve(wait)
		if errors.Is(err, stream.ErrPayloadLost) {
			break
		}
		if wait > time.Minute {
			t.Fatalf("got %v, want ErrPayloadLost", err)
		}
	}
	server.Stop()
	if err := resolve(300 * time.Millisecond); err == nil || errors.Is(err, stream.ErrPayloadLost) {
		t.Errorf("got %v, want that nothing answers", err)
	}
}
