package stream

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// others are connections that end with the one they stand beside, if not before.
type others struct {
	mu     sync.Mutex
	closed bool
	open   map[*nats.Conn]bool
}

// add closes a connection that comes too late, and says that it did.
func (o *others) add(nc *nats.Conn) (late bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		nc.Close()
		return true
	}
	if o.open == nil {
		o.open = map[*nats.Conn]bool{}
	}
	o.open[nc] = true
	return false
}

func (o *others) remove(nc *nats.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, nc)
}

func (o *others) close() {
	o.mu.Lock()
	open := o.open
	o.closed, o.open = true, nil
	o.mu.Unlock()
	for nc := range open {
		nc.Close()
	}
}

// Beside opens another connection to the same servers, for one that reads a lot: on a connection whatever comes waits for what came before.
// It reconnects by itself, and its owner closes it; at the latest it ends with this one.
func (c *Conn) Beside(ctx context.Context) (*nats.Conn, error) {
	nc, err := c.dial(ctx, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond), nats.IgnoreAuthErrorAbort(),
		nats.ClosedHandler(c.beside.remove))
	if err != nil {
		return nil, explainDial(err, c.urls)
	}
	if c.beside.add(nc) {
		return nil, nats.ErrConnectionClosed
	}
	return nc, nil
}
