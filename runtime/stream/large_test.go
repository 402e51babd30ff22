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
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Resolve(short, &event.Message{Large: "missing"}); !errors.Is(err, stream.ErrPayloadLost) {
		t.Errorf("got %v, want ErrPayloadLost", err)
	}
	server.Stop()
	short, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Resolve(short, &event.Message{Large: "missing"}); err == nil || errors.Is(err, stream.ErrPayloadLost) {
		t.Errorf("got %v, want that nothing answers", err)
	}
}
