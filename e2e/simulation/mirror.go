package simulation

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// mirror follows what the server stores, message by message, and checks each of them against the promises as it comes.
type mirror struct {
	c *chance
	h *history
	d *database

	mu      sync.Mutex
	entries []*entry         // of the source's stream, in order; what was lost is not among them
	held    map[string]held  // log changes by the IDs of their positions
	newest  event.Position   // of the log
	highest event.Version    // that was ever stored
	bytes   map[uint64]*lost // what was lost of each sequence, last
	floors  map[string]sink.Point
	letters map[letter]bool // that were ever stored
	events  int

	below     uint64 // changes whose transactions committed below are allowed to be missing: a gap was declared
	confirmed uint64 // the source's
	slot      uint64 // where the slot began
	again     uint32 // epoch of the last writer that went on past a gap

	disaster bool            // what is lost now nobody could hold: an operator deletes the stream
	taken    map[string]bool // changes that were lost so: the source may be told to forget them by who had just looked

	excuse  sync.Mutex
	excused map[string]bool // positions that were stored more than once, and why that is right is known
}

type entry struct {
	message *event.Message
	events  []event.Event
	at      time.Time
}

type held struct {
	epoch    uint32
	sequence uint64
	at       time.Time
}

type lost struct {
	writer event.Writer
	data   string
}

func newMirror(c *chance, h *history, d *database) *mirror {
	return &mirror{c: c, h: h, d: d, held: map[string]held{}, bytes: map[uint64]*lost{}, floors: map[string]sink.Point{}, letters: map[letter]bool{}, taken: map[string]bool{}, excused: map[string]bool{}}
}

// Excused says whether an event may show something older than its target has shown: what a loss made come again.
func (m *mirror) Excused(e *event.Event) bool { return !e.Snapshot && m.wasExcused(e.Position.ID()) }

func (m *mirror) wasExcused(id string) bool {
	m.excuse.Lock()
	defer m.excuse.Unlock()
	return m.excused[id]
}

func (m *mirror) excuseID(id string) {
	m.excuse.Lock()
	defer m.excuse.Unlock()
	m.excused[id] = true
}

// Store takes a message of the source's stream.
func (m *mirror) Store(msg *event.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := &entry{message: msg, at: time.Now()}
	if !strings.HasSuffix(msg.Subject, "._fence") {
		m.h.note("stream", "%d of %s on %s: %s", msg.Sequence, msg.Writer, msg.Subject, msg.Group)
	}
	m.writer(msg)
	if !msg.Marker() {
		var err error
		if e.events, err = msg.Decode(nil); err != nil {
			m.h.fail("same bytes", "message %d cannot be read: %v", msg.Sequence, err)
			return
		}
		after := m.newest
		for i := range e.events {
			m.change(msg, &e.events[i], &after)
		}
		m.reach(msg.Group)
	}
	m.entries = append(m.entries, e)
}

// writer checks that writers do not interleave, and that versions grow.
func (m *mirror) writer(msg *event.Message) {
	if n := len(m.entries); n > 0 {
		if last := m.entries[n-1].message; msg.Writer.Epoch < last.Writer.Epoch || msg.Sequence != last.Sequence+1 {
			m.h.fail("one writer", "message %d of writer %s follows message %d of writer %s", msg.Sequence, msg.Writer, last.Sequence, last.Writer)
		}
	}
	if strings.HasSuffix(msg.Subject, "._fence") {
		m.highest = max(m.highest, msg.Writer.Version(msg.Sequence, 0))
		return
	}
	if was := m.bytes[msg.Sequence]; was != nil && was.writer == msg.Writer && was.data == string(msg.Data) {
		m.c.count("a lost message arrives again from its own writer")
	} else if first := msg.Writer.Version(msg.Sequence, 1); first <= m.highest && !msg.Marker() {
		m.h.fail("versions grow", "message %d of writer %s has version %d, %d was stored before", msg.Sequence, msg.Writer, first, m.highest)
	}
	m.highest = max(m.highest, msg.Last())
}

// reach notes that the log goes on behind a group. What its messages hold lies between two others, in order in each message.
func (m *mirror) reach(g event.Group) {
	if g.Complete() && g.From != g.To {
		m.newest = g.To
	}
}

// change checks a change of the log: it is in order, and there once.
func (m *mirror) change(msg *event.Message, e *event.Event, after *event.Position) {
	m.events++
	if e.Snapshot {
		if e.Op == event.Truncate && msg.For != "" {
			m.c.count("a backfill of one function comes to its end in a partition")
		}
		return
	}
	id := e.Position.ID()
	if _, known := m.d.Revision(e); !known {
		m.h.fail("no gap", "message %d holds change %s, which was never committed", msg.Sequence, id)
	}
	if before, twice := m.held[id]; twice {
		if before.epoch < m.again && msg.Writer.Epoch >= m.again {
			m.c.count("a change is stored again past a declared gap")
			m.excuseID(id)
		} else {
			m.h.fail("no duplicate", "change %s is stored again, as message %d of writer %s; the first one is of epoch %d", id, msg.Sequence, msg.Writer, before.epoch)
		}
	} else if e.Position.Compare(*after) < 0 && msg.Writer.Epoch != m.again {
		m.h.fail("order", "message %d holds change %s, which lies before %s", msg.Sequence, id, *after)
	}
	m.held[id] = held{msg.Writer.Epoch, msg.Sequence, time.Now()}
	*after = e.Position
}

// Lose takes what followed a sequence out again.
func (m *mirror) Lose(to uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for len(m.entries) > 0 && m.entries[len(m.entries)-1].message.Sequence > to {
		e := m.entries[len(m.entries)-1]
		m.entries = m.entries[:len(m.entries)-1]
		m.gone(e)
		n++
		for i := range e.events {
			ev := &e.events[i]
			if ev.Snapshot {
				continue
			}
			if ev.Position.Commit < m.confirmed && ev.Position.Commit >= m.below && !m.disaster {
				m.h.fail("ack after durable", "the stream lost change %s, and the source had been told to forget everything before %X", ev.Position.ID(), m.confirmed)
			}
		}
	}
	m.forget(to)
	m.newest = event.Position{}
	for i := len(m.entries) - 1; i >= 0 && m.newest.IsZero(); i-- {
		m.reach(m.entries[i].message.Group)
	}
	if n > 0 {
		m.c.count("the stream loses its tail")
	}
}

// Unheard says whether the stream held one of these changes and has lost it: targets may show it, and nothing tells of it any more.
func (m *mirror) Unheard(ids []string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(ids, func(id string) bool {
		_, there := m.held[id]
		return !there && m.wasExcused(id)
	})
}

// Disaster lets an operator take away what the source was told to forget. Changes that are gone by it must be found missing.
func (m *mirror) Disaster(do func()) {
	m.setDisaster(true)
	defer m.setDisaster(false)
	do()
}

func (m *mirror) setDisaster(now bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disaster = now
}

// Confirm is asked before the slot moves, with the source's changes that it then forgets.
func (m *mirror) Confirm(p event.Position, forgotten []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range forgotten {
		h, there := m.held[id]
		switch {
		case !there && m.taken[id]: // then a gap must be declared
		case !there:
			m.h.fail("ack after durable", "the source is told to forget change %s, up to %s, which is not in the stream", id, p)
		case time.Since(h.at) < 2*syncInterval:
			m.h.fail("ack after durable", "the source is told to forget change %s, which was stored only %s ago", id, time.Since(h.at))
		}
	}
	m.confirmed = max(m.confirmed, p.Commit)
}

// Past notes that a writer goes on past a gap, from where the slot stands: what lies before may be missing or come twice.
func (m *mirror) Past(slot uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.below = max(m.below, slot)
}

// Again notes the epoch of such a writer.
func (m *mirror) Again(epoch uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.again = epoch
}

// Missing is a change that was committed and is not in the stream; "" if there is none.
func (m *mirror) Missing(committed []string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range committed {
		if _, there := m.held[id]; !there {
			return id
		}
	}
	return ""
}

// Untouched says that no change that the slot gave since it was made is in the stream, and notes where its successor begins.
func (m *mirror) Untouched(slot uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.slot
	m.slot = slot
	for _, e := range m.entries {
		for i := range e.events {
			if ev := &e.events[i]; !ev.Snapshot && ev.Position.Commit >= before {
				return false
			}
		}
	}
	return true
}

// Floor takes a record of an owner, and checks that what the floor passes is in the target.
func (m *mirror) Floor(key string, value []byte, target func(function string) holds) {
	var o registry.Owner
	parts := strings.Split(key, ".")
	if len(parts) != 3 || json.Unmarshal(value, &o) != nil {
		return
	}
	function, part := parts[0], parts[2]
	generation, _ := strconv.ParseInt(parts[1], 10, 64)
	t := target(function)
	if t == nil {
		return
	}
	m.mu.Lock()
	from, known := m.floors[key]
	m.floors[key] = o.Floor
	if !known && o.Floor != (sink.Point{}) { // where its generation begins, which came in the place of another one
		m.mu.Unlock()
		return
	}
	// Then a reading of the tables may stand in for what it did not read.
	retired := len(m.entries) > 0 && m.entries[0].message.Sequence > from.Sequence+1
	var passed []*entry
	first, _ := slices.BinarySearchFunc(m.entries, from.Sequence+1, func(e *entry, seq uint64) int {
		return int(int64(e.message.Sequence) - int64(seq))
	})
	for _, e := range m.entries[first:] {
		if e.message.Sequence > o.Floor.Sequence {
			break
		}
		if strings.HasSuffix(e.message.Subject, "."+part) && !e.message.Marker() && (e.message.For == "" || e.message.For == function) {
			passed = append(passed, e)
		}
	}
	m.mu.Unlock()
	for _, e := range passed {
		for i := range e.events {
			ev := &e.events[i]
			if ev.Version <= from.Version || ev.Version > o.Floor.Version {
				continue
			}
			ev.Schema = m.d.schemaOf(ev.Table)
			if revision, _ := m.d.Revision(ev); t.refuses(ev) && !retired && !m.Letter(letter{function, revision}) {
				m.h.fail("ack after durable", "the floor of %s moved from %d to %d over message %d (%s of %s), which the target refused, and there is no dead letter",
					key, from.Sequence, o.Floor.Sequence, e.message.Sequence, ev.Op, ev.Table)
			} else if !t.refuses(ev) && !t.Covers(ev, generation) {
				m.h.fail("ack after durable", "the floor of %s moved from %d to %d over message %d (%s of %s), which the target does not hold",
					key, from.Sequence, o.Floor.Sequence, e.message.Sequence, ev.Op, ev.Table)
			}
		}
	}
}

// Restored takes what the stream holds instead, since an old copy of it was restored, and forgets what floors had passed.
func (m *mirror) Restored(messages []*event.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		m.gone(e)
	}
	m.entries, m.newest = nil, event.Position{}
	clear(m.floors)
	last := uint64(0)
	if n := len(messages); n > 0 {
		last = messages[n-1].Sequence
	}
	m.forget(last)
	for _, msg := range messages {
		e := &entry{message: msg}
		if !msg.Marker() {
			var err error
			if e.events, err = msg.Decode(nil); err != nil {
				m.h.fail("same bytes", "message %d cannot be read: %v", msg.Sequence, err)
				return
			}
		}
		for i := range e.events {
			if ev := &e.events[i]; !ev.Snapshot {
				m.held[ev.Position.ID()] = held{epoch: msg.Writer.Epoch, sequence: msg.Sequence}
			}
		}
		m.reach(msg.Group)
		m.entries = append(m.entries, e)
	}
}

// gone notes a message that the stream has lost.
func (m *mirror) gone(e *entry) {
	m.bytes[e.message.Sequence] = &lost{e.message.Writer, string(e.message.Data)}
	for i := range e.events {
		if ev := &e.events[i]; !ev.Snapshot {
			id := ev.Position.ID()
			delete(m.held, id)
			m.excuseID(id)
			m.taken[id] = m.disaster
		}
	}
}

// forget what followed a sequence and retention had taken before it was lost.
func (m *mirror) forget(to uint64) {
	for id, h := range m.held {
		if h.sequence > to {
			delete(m.held, id)
			m.excuseID(id)
			m.taken[id] = m.disaster
		}
	}
}

// Newest is where the newest change of the log in the stream was committed.
func (m *mirror) Newest() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest.Commit
}

// SourceRestored notes that the source went back to where it had been told to forget less.
func (m *mirror) SourceRestored(confirmed, end uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.confirmed, m.below = min(m.confirmed, confirmed), min(m.below, end)
}

// OfTheDead is a change in the stream that the source has taken back in a failover after which no gap was declared; "" if there
// is none.
func (m *mirror) OfTheDead() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		for i := range e.events {
			ev := &e.events[i]
			if ev.Snapshot || e.message.Writer.Epoch < m.again {
				continue
			}
			if revision, known := m.d.Revision(ev); known && m.d.Dead(revision) {
				return ev.Position.ID()
			}
		}
	}
	return ""
}

// Retire forgets messages that retention took: those of their events that a function has not read, a load must stand in for.
func (m *mirror) Retire(first uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(m.entries) && m.entries[n].message.Sequence < first {
		n++
	}
	m.entries = m.entries[n:]
}
