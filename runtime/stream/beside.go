package stream

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// Beside opens another connection to the same servers, for one that reads a lot: on a connection whatever comes waits for what came before.
// It reconnects by itself, and its owner closes it.
func (c *Conn) Beside(ctx context.Context) (*nats.Conn, error) {
	nc, err := c.dial(ctx, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond), nats.IgnoreAuthErrorAbort())
	if err != nil {
		return nil, explainDial(err, c.urls)
	}
	return nc, nil
}
