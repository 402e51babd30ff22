package fakenats

import (
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// copied is what a stream held at a time.
type copied struct {
	msgs   []*message
	base   uint64
	last   uint64
	lastAt int64
}

func (st *stream) copy() *copied {
	return &copied{slices.Clone(st.msgs), st.base, st.last, st.lastAt}
}

// settle makes all that the stream holds durable.
func (st *stream) settle() {
	if st.s.options.SyncInterval == 0 {
		return
	}
	st.safe, st.since = st.copy(), nil
}

// sync makes everything durable, every SyncInterval.
func (s *Server) sync() {
	for _, st := range s.streams {
		if st.safe == nil || len(st.since) > 0 {
			st.settle()
		}
	}
	s.after(s.options.SyncInterval, s.sync)
}

// reset makes the stream hold what it held once, and what was stored after that.
func (st *stream) reset(c *copied, after []*message) {
	for len(st.consumers) > 0 {
		st.consumers[0].vanish()
	}
	before := st.last
	st.empty()
	st.base, st.last, st.lastAt = c.base, c.last, c.lastAt
	for _, m := range c.msgs {
		if m != nil {
			st.fill(m.seq)
			st.put(m)
		}
	}
	for _, m := range after {
		st.put(m)
	}
	st.last = max(c.last, st.last)
	if len(st.msgs) > 0 {
		st.fill(st.last + 1)
	} else {
		st.base = st.last + 1
	}
	for len(st.msgs) > 0 && st.base < st.retired {
		st.remove(st.base)
	}
	st.batches = map[string]*batch{}
	st.settle()
	if st.last < before {
		st.s.hit("lost tail")
		st.s.tracef("%s loses %d to %d", st.config.Name, st.last+1, before)
		if st.s.options.Lost != nil {
			st.s.options.Lost(st.config.Name, Message{Sequence: st.last})
		}
	}
}

// fill makes room for removed messages below a sequence.
func (st *stream) fill(seq uint64) {
	for len(st.msgs) > 0 && st.base+uint64(len(st.msgs)) < seq {
		st.msgs = append(st.msgs, nil)
	}
}

// PowerLoss stops the server for a while, as Restart does, and takes what was not durable: of each stream everything after
// some message since the last sync. The streams lose different amounts. What was never synced may be gone as a whole.
func (s *Server) PowerLoss(down time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracef("power loss")
	s.stop(down)
	for _, st := range slices.Clone(s.streams) {
		if s.options.SyncInterval == 0 {
			break
		}
		if st.safe == nil {
			if s.rand.IntN(2) == 0 {
				s.hit("lost stream")
				s.tracef("%s is lost as a whole", st.config.Name)
				s.dropStream(st)
				if s.options.Lost != nil {
					s.options.Lost(st.config.Name, Message{})
				}
				continue
			}
			st.safe = &copied{base: 1}
		}
		if kept := s.rand.IntN(len(st.since) + 1); kept < len(st.since) {
			st.reset(st.safe, slices.Clone(st.since[:kept]))
		} else {
			st.settle()
		}
	}
}

// Restart stops the server and starts it again: connections and consumers in memory are gone, what was stored is there.
func (s *Server) Restart(down time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracef("restart")
	s.stop(down)
}

// stop ends everything that lives in memory, and comes up again after a while.
func (s *Server) stop(down time.Duration) {
	s.hit("restart")
	s.boot++
	for _, c := range slices.Clone(s.conns) {
		c.hangUp()
	}
	s.stale = nil
	s.mute, s.room = false, -1
	for _, st := range s.streams {
		for _, o := range slices.Clone(st.consumers) {
			if o.config.MemoryStorage {
				o.vanish()
			} else {
				o.waiting = nil
			}
		}
		st.batches = map[string]*batch{}
		st.ids, st.known = map[string]uint64{}, nil
		for _, m := range st.msgs { // what the window covers is read again
			if m != nil && now()-m.at < int64(st.config.Duplicates) {
				st.remember(m)
			}
		}
		rest := st.rest
		st.rest = nil
		for _, m := range rest {
			s.hit("rest of a batch stored by a start")
			st.store(m)
		}
	}
	s.down = true
	s.after(down, func() { s.down = false })
}

// Snapshot is a copy of all that the server holds.
type Snapshot struct{ streams []snapshot }

type snapshot struct {
	config  jetstream.StreamConfig
	created time.Time
	content *copied
}

// Snapshot copies what the server holds, as a backup of its folder does.
func (s *Server) Snapshot() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &Snapshot{}
	for _, st := range s.streams {
		c.streams = append(c.streams, snapshot{st.config, st.created, st.copy()})
	}
	return c
}

// Restore restarts the server with an old copy of what it held; only with these streams, if any are named.
func (s *Server) Restore(c *Snapshot, down time.Duration, only ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracef("an old copy is restored")
	s.hit("restore")
	s.stop(down)
	named := func(name string) bool { return len(only) == 0 || slices.Contains(only, name) }
	for _, st := range slices.Clone(s.streams) {
		i := slices.IndexFunc(c.streams, func(old snapshot) bool { return old.config.Name == st.config.Name })
		switch {
		case !named(st.config.Name):
		case i < 0:
			s.dropStream(st)
		default:
			st.config = c.streams[i].config
			st.encode()
			st.retired = 0
			st.reset(c.streams[i].content, nil)
		}
	}
	for _, old := range c.streams {
		if named(old.config.Name) && s.stream(old.config.Name) == nil {
			st := newStream(s, old.config)
			st.created = old.created
			s.addStream(st)
			st.reset(old.content, nil)
		}
	}
}

// old is a leader that does not know that it is none: it answers reads with what was there when the new one came.
type old struct {
	content *stream
	till    int64
}

// StaleLeader makes reads of a stream see the present state for a while, now and then: a former leader answers them.
func (s *Server) StaleLeader(name string, lasting time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.stream(name); st != nil {
		s.stale = append(s.stale, old{st.frozen(st.copy()), now() + int64(lasting)})
	}
}

// frozen is a stream for reading that holds a copy.
func (st *stream) frozen(c *copied) *stream {
	quiet := &Server{room: -1, counts: map[string]int{}, seed: st.s.seed, options: Options{Cluster: st.s.options.Cluster}, wake: make(chan struct{}, 1)}
	f := newStream(quiet, st.config)
	f.created = st.created
	f.config.MaxAge = 0
	f.reset(c, nil)
	return f
}

// past is the stream as a replica that lags sees it.
func (st *stream) past() *stream {
	c := st.copy()
	n := len(c.msgs) - st.s.rand.IntN(min(4, len(c.msgs))+1)
	c.msgs = c.msgs[:n]
	c.last = c.base + uint64(n) - 1
	return st.frozen(c)
}

// leader is who answers a read.
func (s *Server) leader(st *stream) *stream {
	s.stale = slices.DeleteFunc(s.stale, func(o old) bool { return o.till <= now() })
	for _, o := range s.stale {
		if o.content.config.Name == st.config.Name && s.rand.IntN(2) == 0 {
			s.hit("stale leader")
			return o.content
		}
	}
	return st
}

// KillConsumers removes the consumers of a stream, as the death of the server does that they live on: nobody is told.
func (s *Server) KillConsumers(stream string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stream(stream)
	if st == nil {
		return 0
	}
	n := len(st.consumers)
	for len(st.consumers) > 0 {
		s.hit("consumer gone")
		st.consumers[0].vanish()
	}
	return n
}

// Fill makes every publish be refused, or lets them in again.
func (s *Server) Fill(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracef("store full: %t", full)
	s.full = full
}

// FailAfter lets the store fail after so many more messages: from then on reads are answered, and nothing is stored nor
// refused, until a restart. A batch that it meets is completed by that.
func (s *Server) FailAfter(messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = messages
}

// Retire takes the oldest messages of a stream, as retention does.
func (s *Server) Retire(stream string, messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stream(stream)
	if st == nil {
		return
	}
	s.hit("retention")
	s.tracef("%s: retention takes %d", stream, messages)
	for range messages {
		if len(st.msgs) > 0 {
			st.remove(st.base)
		}
	}
	st.retired = st.base
}

// DeleteStream deletes a stream, as an operator does.
func (s *Server) DeleteStream(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.stream(name); st != nil {
		s.tracef("%s is deleted", name)
		s.dropStream(st)
	}
}
