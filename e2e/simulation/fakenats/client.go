package fakenats

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
)

// Client is a process that talks to the server, by as many connections as it likes. It is a nats.InProcessConnProvider.
type Client struct {
	s      *Server
	name   string
	dialed uint64
	conns  []*conn // also such as the server has left, until the client has seen that
	frozen bool
	dead   bool
	denied bool
}

// Errors of Dial.
var (
	ErrDown   = errors.New("connection refused: the server is down")
	ErrFrozen = errors.New("i/o timeout: the client is frozen")
	ErrDead   = errors.New("the client's process is dead")
)

// Client finds a client by name, or makes it.
func (s *Server) Client(name string) *Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[name]
	if c == nil {
		c = &Client{s: s, name: name}
		s.clients[name] = c
	}
	return c
}

// Dial makes a connection of a client.
func (s *Server) Dial(client string) (net.Conn, error) { return s.Client(client).InProcessConn() }

// Dial is InProcessConn as a nats.CustomDialer; network and address do not matter.
func (c *Client) Dial(_, _ string) (net.Conn, error) { return c.InProcessConn() }

// InProcessConn makes a connection.
func (c *Client) InProcessConn() (net.Conn, error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.dead:
		return nil, ErrDead
	case c.frozen:
		s.hit("dial of a frozen client")
		return nil, ErrFrozen
	case c.denied, s.down, s.closed:
		s.hit("dial refused")
		return nil, ErrDown
	}
	c.dialed++
	s.dialed++
	h := fnv.New64a()
	h.Write([]byte(c.name)) // never fails
	n := &conn{s: s, client: c, id: s.dialed, rand: rand.New(rand.NewPCG(s.seed^h.Sum64(), c.dialed))}
	n.arrived = sync.NewCond(&s.mu)
	n.up = pipe{c: n, deliver: n.receive, ended: n.leave}
	n.down = pipe{c: n, deliver: n.arrive, ended: n.endOfFile}
	n.in = s.info(n)
	n.sids = map[string]*subscription{}
	s.conns = append(s.conns, n)
	c.conns = append(slices.DeleteFunc(c.conns, (*conn).over), n)
	s.tracef("%s dials", n)
	return n, nil
}

// info is the server's greeting.
func (s *Server) info(c *conn) []byte {
	cluster := ""
	if s.options.Cluster != "" {
		cluster = `"cluster":` + strconv.Quote(s.options.Cluster) + `,`
	}
	return fmt.Appendf(nil, `INFO {"server_id":"FAKE","server_name":"fake","version":%q,%s"proto":1,"go":"go","host":"127.0.0.1","port":4222,`+
		`"headers":true,"jetstream":true,"max_payload":%d,"client_id":%d,"client_ip":"127.0.0.1"}`+"\r\n",
		version, cluster, s.options.MaxPayload, c.id)
}

// each calls do for the client's connections.
func (c *Client) each(do func(*conn)) {
	for _, n := range c.conns {
		if !n.over() {
			do(n)
		}
	}
}

// Cut breaks all connections, each direction at any byte of what is under way. What arrives of it does so in its time.
func (c *Client) Cut() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.each((*conn).cut)
}

// Freeze stops the client's traffic: nothing that is written arrives, in neither direction, until Thaw.
func (c *Client) Freeze() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.tracef("%s freezes", c.name)
	c.frozen = true
	c.each(func(n *conn) {
		if !n.ready {
			n.cut() // nats.go waits for the handshake with its mutex held
		}
	})
}

// Thaw lets traffic move again; what was under way arrives now.
func (c *Client) Thaw() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.frozen {
		return
	}
	c.s.tracef("%s thaws", c.name)
	c.frozen = false
	c.each(func(n *conn) {
		n.up.thaw()
		n.down.thaw()
	})
}

// Refuse makes dialing fail, or possible again.
func (c *Client) Refuse(yes bool) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.denied = yes
}

// Crash is the death of the client's process: of what it has written and what did not arrive yet some may arrive, also late.
// It never dials again; a new process is another client.
func (c *Client) Crash() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.tracef("%s dies", c.name)
	c.dead = true
	c.frozen = false
	c.each(func(n *conn) {
		if n.up.bytes() > 0 {
			c.s.hit("crash with bytes under way")
		}
		n.up.truncate(n.rand.IntN(n.up.bytes() + 1))
		n.up.delay(n.late())
		n.up.finish()
		n.shut(net.ErrClosed)
	})
}
