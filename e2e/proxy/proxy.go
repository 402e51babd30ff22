// Package proxy is a TCP proxy for tests: it stands between a client and a server and does to their connections what networks do.
//
// What is forwarded is forwarded in order, each byte at most once, to the side that it is meant for. A connection of which something
// was lost carries nothing more that way: as with TCP itself, what comes after a hole is not delivered. Heal resets it.
package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// TB is what a proxy needs of a test; *testing.T is one, and programs bring their own.
type TB interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
}

// Direction is a way through the proxy.
type Direction uint8

// The ways; Both is each of them.
const (
	ToServer Direction = iota
	ToClient
	Both
)

func (d Direction) String() string { return [...]string{"to server", "to client", "both"}[d] }

// each calls f for the one way, or for both.
func (d Direction) each(f func(Direction)) {
	if d == Both {
		f(ToServer)
		f(ToClient)
		return
	}
	f(d)
}

// dialTimeout bounds how long a client waits for a server that does not answer.
const dialTimeout = 5 * time.Second

// Proxy forwards connections to its target. All methods may be called at any time, from any goroutine.
type Proxy struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	target  string
	rules   rules
	budget  [2]int        // bytes until the cut of CutAfter; < 0: none
	changed chan struct{} // closed at each change of the rules
	links   map[*link]struct{}
	cuts    int // how often Cut was called: a connection that is being made is cut too
	closed  bool
}

// New makes a proxy to the target, host:port with or without a scheme, and closes it with the test.
func New(t TB, target string) *Proxy {
	t.Helper()
	p, err := Listen(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Listen makes a proxy on a free port of 127.0.0.1. Close ends it.
func Listen(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for a proxy: %w", err)
	}
	p := &Proxy{listener: l, target: address(target), changed: make(chan struct{}), links: map[*link]struct{}{}, budget: [2]int{-1, -1}}
	p.wg.Go(p.accept)
	return p, nil
}

func address(target string) string {
	if _, rest, ok := strings.Cut(target, "://"); ok {
		target = rest
	}
	return target
}

// Addr is host:port, where clients connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL is the address with a scheme.
func (p *Proxy) URL(scheme string) string { return scheme + "://" + p.Addr() }

// Close resets all connections and returns when nothing of the proxy is left.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Cut()
	p.wg.Wait()
}

// Connections is the number of those that stand.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	p.mu.Lock()
	target, refuse, cuts := p.target, p.rules.refuse, p.cuts
	p.mu.Unlock()
	if refuse {
		reset(client)
		return
	}
	c, err := net.DialTimeout("tcp", target, dialTimeout)
	if err != nil {
		reset(client)
		return
	}
	l := &link{proxy: p, client: client, server: c.(*net.TCPConn), done: make(chan struct{})}
	p.mu.Lock()
	if p.closed || p.cuts != cuts {
		p.mu.Unlock()
		l.reset()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// reset closes a connection with RST, whatever is still on its way.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // an error means that it is closed
	_ = c.Close()
}

// link is one client's connection and the server's.
type link struct {
	proxy          *Proxy
	client, server *net.TCPConn
	once           sync.Once
	done           chan struct{} // closed when it was reset
	lost           [2]bool       // under the proxy's lock: something that went this way was lost
	stranded       bool          // under the proxy's lock: it stays so
}

func (l *link) reset() {
	l.once.Do(func() {
		close(l.done)
		reset(l.client)
		reset(l.server)
	})
}

func (l *link) run() {
	var flows sync.WaitGroup
	for _, f := range []*flow{
		{link: l, way: ToServer, from: l.client, to: l.server, queue: make(chan chunk, queueLength)},
		{link: l, way: ToClient, from: l.server, to: l.client, queue: make(chan chunk, queueLength)},
	} {
		flows.Go(f.read)
		flows.Go(f.write)
	}
	flows.Wait()
	l.once.Do(func() { close(l.done) })
	_ = l.client.Close()
	_ = l.server.Close()
}

// What is on its way in one direction: at most queueLength reads of at most readSize.
const (
	queueLength = 64
	readSize    = 32 << 10
)

// flow is one way of a link.
type flow struct {
	link     *link
	way      Direction
	from, to *net.TCPConn
	queue    chan chunk
}

// chunk is what one read gave, and when the other side may have it at the earliest.
type chunk struct {
	data []byte
	err  error // the end of the flow
	due  time.Time
}

func (f *flow) read() {
	defer close(f.queue)
	buf := make([]byte, readSize)
	var due time.Time
	for {
		n, err := f.from.Read(buf)
		due = f.link.proxy.due(due)
		select {
		case f.queue <- chunk{data: append([]byte(nil), buf[:n]...), err: err, due: due}:
		case <-f.link.done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (f *flow) write() {
	for c := range f.queue {
		if !f.wait(c.due) {
			return
		}
		if f.lost() {
			continue
		}
		if !f.send(c.data) {
			return
		}
		switch {
		case c.err == nil:
		case errors.Is(c.err, io.EOF):
			_ = f.to.CloseWrite() // an error means that the other side is gone
		default:
			f.link.reset()
		}
	}
	if f.lost() {
		// The other side does not learn that this one is gone: it stays open until it is reset.
		<-f.link.done
	}
}
