package stream

import (
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// wire dials for a link and keeps what was dialed, so that a write that is stuck can be cut.
type wire struct {
	inProcess nats.InProcessConnProvider

	mu   sync.Mutex
	conn net.Conn
	dead bool
}

// Dial makes a TCP connection.
func (w *wire) Dial(network, address string) (net.Conn, error) {
	return w.keep((&net.Dialer{Timeout: dialTimeout}).Dial(network, address))
}

// InProcessConn makes a connection to the embedded server.
func (w *wire) InProcessConn() (net.Conn, error) { return w.keep(w.inProcess.InProcessConn()) }

func (w *wire) keep(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	w.conn = conn
	return &steady{Conn: conn}, nil
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	if w.conn != nil {
		_ = w.conn.Close()
	}
}

// steady is a connection whose writes fail when nothing moves for a while, however long the whole write takes.
type steady struct{ net.Conn }

const (
	writeChunk   = 64 << 10
	writeTimeout = 5 * time.Second
)

func (c *steady) Write(b []byte) (int, error) {
	done := 0
	for len(b) > 0 {
		chunk := b[:min(len(b), writeChunk)]
		if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(chunk)
		done += n
		if err != nil {
			return done, err
		}
		b = b[n:]
	}
	return done, nil
}
