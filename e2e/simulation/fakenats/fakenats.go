// Package fakenats is a NATS server with JetStream in memory, for simulations: real clients talk its wire protocol over
// connections that are no sockets, and it misbehaves by a seed as the real servers were seen to.
//
// What it promises:
//   - What clients of this project see of it is what nats-server 2.15 answers: a table of conversations is held with both,
//     and the answers are compared (TestConformance).
//   - It runs inside a testing/synctest bubble: whatever waits in it waits durably, it looks at no clock but time.Now, and
//     Close leaves no goroutine. Neither a write nor a handshake ever waits, since nats.go holds a mutex meanwhile, and
//     time stands still while somebody waits for a mutex.
//   - All that is left to chance is drawn from Options.Rand. What is drawn for a connection depends on nothing but the
//     connection's number and what was sent on it.
//
// It stands for one server, or for a cluster that is looked at from outside: a replica that lags, a leader that is gone
// and one that does not know it are faults. What is not there fails loudly: consumers that redeliver (acknowledgements
// that are awaited for less than an hour), mirrors, TTLs of messages, accounts.
package fakenats

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Options of a server; the zero value is one that never misbehaves.
type Options struct {
	Rand   *rand.Rand // of all that is left to chance; default: seed 1
	Faults Faults

	// SyncInterval is how often what is stored becomes durable; 0: at once. It is what PowerLoss may take.
	SyncInterval time.Duration

	Cluster    string // name; makes the order of checks that of a replicated stream
	MaxPayload int    // default 1 MiB
	RealTime   bool   // outside of a bubble of testing/synctest, beside other clients

	// What is told while it happens. These must not wait, nor call the server.
	Trace  func(line string)               // a readable history
	Stored func(stream string, m Message)  // every message that is stored, also those that are lost later
	Lost   func(stream string, to Message) // a stream lost what followed that sequence
}

const (
	version           = "2.15.2"
	defaultMaxPayload = 1 << 20
)

// Server is a NATS server.
type Server struct {
	options Options
	wake    chan struct{}
	quit    chan struct{}
	ended   chan struct{}

	// Everything below, connections and streams included, is guarded by mu, which nobody holds while waiting.
	mu      sync.Mutex
	closed  bool
	rand    *rand.Rand
	seed    uint64
	faults  Faults
	counts  map[string]int
	events  events
	ordered uint64 // events so far
	clients map[string]*Client
	conns   []*conn // open ones, in the order of their dialing
	dialed  uint64
	dirty   []*conn // with output of this event
	subs    index[*subscription]
	streams []*stream // by name
	routes  index[*stream]
	boot    int   // grows with each start
	down    bool  // a restart is under way
	mute    bool  // the store failed: nothing is stored any more, and nobody is told
	full    bool  // what is published is refused: out of storage
	room    int   // messages that still fit before the store fails; negative: no limit
	stale   []old // leaders that do not know that they are none
	count   uint64
}

// New starts a server.
func New(o Options) *Server {
	if !o.RealTime {
		forgetTimers()
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(1, 1))
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = defaultMaxPayload
	}
	s := &Server{
		options: o, rand: o.Rand, seed: o.Rand.Uint64(), faults: o.Faults, room: -1,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
		counts: map[string]int{}, clients: map[string]*Client{},
	}
	if o.SyncInterval > 0 {
		s.after(o.SyncInterval, s.sync)
	}
	go s.run()
	return s
}

// Close ends the server and all its connections.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.ended
		return
	}
	s.closed = true
	for _, c := range s.conns {
		c.hangUp()
	}
	s.mu.Unlock()
	close(s.quit)
	<-s.ended
}

// SetFaults changes what may go wrong from now on.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}
