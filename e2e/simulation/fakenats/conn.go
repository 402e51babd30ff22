package fakenats

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is a connection: the client's end of it, and what the server knows of it. Writes never wait; what they wrote is under
// way, however much it is.
type conn struct {
	s        *Server
	client   *Client
	id       uint64
	rand     *rand.Rand
	up, down pipe

	// The client's end.
	in      []byte // has arrived
	arrived *sync.Cond
	err     error // of all that follows what has arrived
	readBy  time.Time
	alarm   *time.Timer

	// The server's end.
	ready bool   // the handshake is over
	gone  bool   // the server has closed it
	buf   []byte // an operation that did not arrive whole yet
	out   []byte // of the present event
	dirty bool
	quiet bool // no_responders was not asked for
	sids  map[string]*subscription
	last  string // subject of the last publish: the next one is often on the same
}

func (c *conn) String() string { return fmt.Sprintf("%s#%d", c.client.name, c.id) }

// Read reads what has arrived.
func (c *conn) Read(b []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for len(c.in) == 0 {
		switch {
		case c.err != nil:
			return 0, c.err
		case !c.readBy.IsZero() && !time.Now().Before(c.readBy):
			return 0, os.ErrDeadlineExceeded
		}
		c.arrived.Wait()
	}
	n := copy(b, c.in)
	c.in = c.in[n:]
	return n, nil
}

// Write puts bytes on their way.
func (c *conn) Write(b []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.err != nil {
		if errors.Is(c.err, io.EOF) {
			return 0, syscall.EPIPE
		}
		return 0, c.err
	}
	c.up.send(append([]byte(nil), b...))
	return len(b), nil
}

// Close closes the client's end; what was written still arrives.
func (c *conn) Close() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if errors.Is(c.err, net.ErrClosed) {
		return net.ErrClosed
	}
	c.shut(net.ErrClosed)
	c.up.finish()
	return nil
}

// shut ends the client's end.
func (c *conn) shut(err error) {
	c.err = err
	if errors.Is(err, net.ErrClosed) {
		c.in = nil
		c.down.end, c.down.over, c.down.queue = true, true, nil
	}
	if c.alarm != nil {
		c.alarm.Stop()
		c.alarm = nil
	}
	c.arrived.Broadcast()
}

// SetDeadline sets that of reads; writes never wait.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes never wait.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline makes reads fail from then on.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.readBy = t
	if c.alarm != nil {
		c.alarm.Stop()
		c.alarm = nil
	}
	if !t.IsZero() && c.err == nil {
		c.alarm = time.AfterFunc(time.Until(t), c.arrived.Broadcast)
	}
	c.arrived.Broadcast()
	return nil
}

type address struct{}

func (address) Network() string { return "tcp" }
func (address) String() string  { return "127.0.0.1:4222" }

// LocalAddr is the same for all connections.
func (c *conn) LocalAddr() net.Addr { return address{} }

// RemoteAddr is the same for all connections.
func (c *conn) RemoteAddr() net.Addr { return address{} }

// arrive takes bytes at the client's end.
func (c *conn) arrive(data []byte) {
	if c.err != nil {
		return
	}
	if len(c.in) == 0 {
		c.in = data
	} else {
		c.in = append(c.in, data...)
	}
	c.arrived.Broadcast()
}

func (c *conn) endOfFile() {
	if c.err == nil {
		c.shut(io.EOF)
	}
}

// cut breaks both directions at any byte of what is under way. The client knows at once, the server when the rest of what
// was written has arrived.
func (c *conn) cut() {
	if c.up.end {
		return
	}
	c.s.tracef("%s is cut", c)
	c.s.hit("connection cut")
	if c.up.bytes() > 0 {
		c.s.hit("connection cut with publishes under way")
	}
	c.up.truncate(c.rand.IntN(c.up.bytes() + 1))
	c.up.delay(c.late())
	c.up.finish()
	c.down.truncate(c.rand.IntN(c.down.bytes() + 1))
	c.down.finish()
}

// hangUp is the server's end of a connection: what it had not read yet is lost.
func (c *conn) hangUp() {
	c.up.end, c.up.over, c.up.queue = true, true, nil
	c.down.send(c.out)
	c.out = nil
	c.down.truncate(c.rand.IntN(c.down.bytes() + 1))
	c.down.finish()
	c.leave()
	if c.s.closed { // nobody is left who would let the rest arrive
		c.endOfFile()
	}
}

// leave removes the connection from the server.
func (c *conn) leave() {
	if c.gone {
		return
	}
	c.gone = true
	c.s.conns = without(c.s.conns, c)
	for _, sub := range c.sids {
		c.s.subs.remove(sub.filter, sub)
	}
	clear(c.sids)
	if !c.down.end {
		c.down.finish()
	}
}

// over says that nothing happens on the connection any more.
func (c *conn) over() bool { return c.up.over && c.down.over }
