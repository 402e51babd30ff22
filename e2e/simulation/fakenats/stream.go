package fakenats

import (
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// message is a stored one; it never changes.
type message struct {
	subject string
	id      string // Nats-Msg-Id
	raw     []byte // headers and data
	header  int    // bytes of headers
	seq     uint64
	at      int64 // Unix nanoseconds
}

func (m *message) headers() []byte { return m.raw[:m.header:m.header] }
func (m *message) data() []byte    { return m.raw[m.header:] }

// size is what the file store counts for a message.
func (m *message) size() uint64 {
	n := 22 + len(m.subject) + len(m.raw) + 8
	if m.header > 0 {
		n += 4
	}
	return uint64(n)
}

// stream keeps messages.
type stream struct {
	s       *Server
	config  jetstream.StreamConfig
	encoded []byte // the configuration as JSON
	created time.Time

	msgs     []*message // msgs[i] has the sequence base+i; nil: removed
	base     uint64
	last     uint64 // the newest sequence that was given out
	lastAt   int64
	held     uint64
	bytes    uint64
	subjects map[string]*onSubject
	sorted   []string // of the subjects; nil when they changed
	ids      map[string]uint64
	known    []*message // with an ID in ids, oldest first

	consumers []*consumer
	batches   map[string]*batch
	rest      []*message // of a batch that was not stored whole; the next start stores it
	aging     bool       // a timer for the oldest message is set

	retired uint64     // what Retire took is below it
	safe    *copied    // what a power loss leaves for certain
	since   []*message // stored after that
}

// onSubject are the sequences held of a subject.
type onSubject struct {
	name string
	seqs []uint64
}

func newStream(s *Server, c jetstream.StreamConfig) *stream {
	st := &stream{s: s, config: c, created: time.Now().UTC(), base: 1, batches: map[string]*batch{}}
	st.encode()
	st.empty()
	return st
}

func (st *stream) empty() {
	st.msgs, st.held, st.bytes = nil, 0, 0
	st.subjects, st.sorted = map[string]*onSubject{}, nil
	st.ids, st.known = map[string]uint64{}, nil
}

// first is the first sequence held; of an empty stream the next one.
func (st *stream) first() uint64 { return st.base }

// at finds a message.
func (st *stream) at(seq uint64) *message {
	if seq < st.base || seq-st.base >= uint64(len(st.msgs)) {
		return nil
	}
	return st.msgs[seq-st.base]
}

// lastOn is the last message that fits a filter.
func (st *stream) lastOn(filter string) *message {
	if !wild(filter) {
		if on := st.subjects[filter]; on != nil {
			return st.at(on.seqs[len(on.seqs)-1])
		}
		return nil
	}
	if filter == ">" {
		return st.at(st.last) // nothing where just this one was deleted, as the file store has it
	}
	for _, m := range slices.Backward(st.msgs) {
		if m != nil && matches(filter, m.subject) {
			return m
		}
	}
	return nil
}

// next is the first message that fits a filter, from a sequence on. An empty filter fits all.
func (st *stream) next(filter string, from uint64) *message {
	from = max(from, st.base)
	if filter != "" && !wild(filter) {
		on := st.subjects[filter]
		if on == nil {
			return nil
		}
		i, _ := slices.BinarySearch(on.seqs, from)
		if i == len(on.seqs) {
			return nil
		}
		return st.at(on.seqs[i])
	}
	var first uint64
	for name, on := range st.subjects {
		if filter != "" && !matches(filter, name) {
			continue
		}
		if i, _ := slices.BinarySearch(on.seqs, from); i < len(on.seqs) && (first == 0 || on.seqs[i] < first) {
			first = on.seqs[i]
		}
	}
	if first == 0 {
		return nil
	}
	return st.at(first)
}

// put stores a message under the next sequence, and lets the limits take others.
func (st *stream) put(m *message) {
	if len(st.msgs) == 0 {
		st.base = m.seq
	}
	st.msgs = append(st.msgs, m)
	st.last, st.lastAt = m.seq, m.at
	st.held++
	st.bytes += m.size()
	on := st.subjects[m.subject]
	if on == nil {
		on = &onSubject{name: m.subject}
		st.subjects[m.subject], st.sorted = on, nil
	}
	on.seqs = append(on.seqs, m.seq)
	st.remember(m)
	if most := st.config.MaxMsgsPerSubject; most > 0 {
		for int64(len(on.seqs)) > most {
			st.remove(on.seqs[0])
		}
	}
	if st.config.Discard == jetstream.DiscardOld {
		for st.config.MaxMsgs > 0 && st.held > uint64(st.config.MaxMsgs) || st.config.MaxBytes > 0 && st.bytes > uint64(st.config.MaxBytes) {
			st.s.hit("discarded old")
			st.remove(st.base)
		}
	}
	st.age()
}

// remember keeps a message's ID for the duplicate window.
func (st *stream) remember(m *message) {
	if m.id == "" || st.config.Duplicates <= 0 {
		return
	}
	st.ids[m.id] = m.seq
	st.known = append(st.known, m)
}

// duplicate is the sequence of a message with that ID; 0 if none is remembered.
func (st *stream) duplicate(id []byte) uint64 {
	for len(st.known) > 0 && now()-st.known[0].at >= int64(st.config.Duplicates) {
		if st.ids[st.known[0].id] == st.known[0].seq {
			delete(st.ids, st.known[0].id)
		}
		st.known = st.known[1:]
	}
	return st.ids[string(id)]
}

// remove takes a message out.
func (st *stream) remove(seq uint64) {
	m := st.at(seq)
	if m == nil {
		return
	}
	for _, o := range st.consumers {
		o.removed(m)
	}
	st.msgs[seq-st.base] = nil
	st.held--
	st.bytes -= m.size()
	on := st.subjects[m.subject]
	if i, ok := slices.BinarySearch(on.seqs, seq); ok {
		if i == 0 {
			on.seqs = on.seqs[1:]
		} else {
			on.seqs = slices.Delete(on.seqs, i, i+1)
		}
	}
	if len(on.seqs) == 0 {
		delete(st.subjects, m.subject)
		st.sorted = nil
	}
	st.trim()
}

// trim lets the list begin with a message.
func (st *stream) trim() {
	n := 0
	for n < len(st.msgs) && st.msgs[n] == nil {
		n++
	}
	st.msgs = st.msgs[n:]
	st.base += uint64(n)
}

// age takes what is too old, now and later.
func (st *stream) age() {
	if st.config.MaxAge <= 0 || st.aging {
		return
	}
	for len(st.msgs) > 0 {
		due := st.msgs[0].at + int64(st.config.MaxAge)
		if due > now() {
			st.aging = true
			st.s.at(due, func() {
				st.aging = false
				st.age()
			})
			return
		}
		st.s.hit("expired")
		st.remove(st.base)
	}
}

// purge takes out what fits a filter (empty: everything) below a sequence (0: no bound), but the newest `keep`.
func (st *stream) purge(filter string, below, keep uint64) uint64 {
	var seqs []uint64
	for _, m := range st.msgs {
		if m != nil && (filter == "" || matches(filter, m.subject)) && (below == 0 || m.seq < below) {
			seqs = append(seqs, m.seq)
		}
	}
	seqs = seqs[:max(0, len(seqs)-int(keep))]
	for _, seq := range seqs {
		st.remove(seq)
	}
	for _, o := range st.consumers {
		o.purged()
	}
	st.settle()
	return uint64(len(seqs))
}

// names are the subjects held, sorted.
func (st *stream) names() []string {
	if st.sorted == nil {
		for name := range st.subjects {
			st.sorted = append(st.sorted, name)
		}
		slices.Sort(st.sorted)
	}
	return st.sorted
}

// stream finds a stream by name.
func (s *Server) stream(name string) *stream {
	i, ok := slices.BinarySearchFunc(s.streams, name, func(st *stream, name string) int { return strings.Compare(st.config.Name, name) })
	if !ok {
		return nil
	}
	return s.streams[i]
}

func (s *Server) addStream(st *stream) {
	i, _ := slices.BinarySearchFunc(s.streams, st.config.Name, func(st *stream, name string) int { return strings.Compare(st.config.Name, name) })
	s.streams = slices.Insert(s.streams, i, st)
	for _, subject := range st.config.Subjects {
		s.routes.add(subject, st)
	}
}

func (s *Server) dropStream(st *stream) {
	s.streams = without(s.streams, st)
	for _, subject := range st.config.Subjects {
		s.routes.remove(subject, st)
	}
	for len(st.consumers) > 0 {
		st.consumers[0].end("Consumer Deleted")
	}
}
