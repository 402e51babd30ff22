package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Remove deletes the stream of a source for ever. One that is not there is removed.
func Remove(ctx context.Context, c *Conn, source string) error {
	name := event.StreamName(source)
	if err := c.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete stream %s: %w", name, err)
	}
	return nil
}
