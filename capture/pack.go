package capture

import (
	"context"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Packing. Changes that were read at once are published as one group: one message per subject, in the order of their first
// appearance. Nothing waits for it: what is read at once are the rows of a transaction while the flow is caught up, and up to a
// megabyte of the log while there is a backlog. It is sent before anything else of the run has an effect: rows of a chunk, a
// TRUNCATE, a position that was reached.
const (
	packLines    = 1024     // of a message
	packBytes    = 64 << 10 // of a message, unless it is a single line; consumers ask for little more at a time
	packSubjects = 128      // of a group: it fits into what a chain may have in flight
)

// pack is a group in the making. It never outlives a take.
type pack struct {
	pieces
	to      event.Position // of its last change
	reached event.Position // read since, by reach
	after   bool           // reached is set
}

// pieces are the messages of a group, in the order of their first appearance.
type pieces struct {
	messages []piece
	by       map[string]int // subjects
}

// piece is one message of a group.
type piece struct {
	stream.Outgoing
	lines    int
	commitMS int64
}

// at finds the message of a subject; nil if it has none yet.
func (p *pieces) at(subject string) *piece {
	if i, ok := p.by[subject]; ok {
		return &p.messages[i]
	}
	return nil
}

// add appends a change's line to the message of a subject.
func (p *pieces) add(source, subject string, c *event.Change, line []byte) {
	m := p.at(subject)
	if m == nil {
		n := len(p.messages)
		if p.by == nil {
			p.by = map[string]int{}
		}
		p.by[subject] = n
		if n < cap(p.messages) { // with the buffer of an earlier group
			p.messages = p.messages[:n+1]
		} else {
			p.messages = append(p.messages, piece{})
		}
		m = &p.messages[n]
		*m = piece{Outgoing: stream.Outgoing{Subject: subject, ID: event.MessageID(source, c.Position), Data: m.Data[:0]}}
	}
	m.Data = append(m.Data, line...)
	m.lines++
	m.commitMS = c.CommitMS
}

// clear forgets the messages and keeps their buffers, as far as these have the size of what is packed.
func (p *pieces) clear() {
	for i := range p.messages {
		if m := &p.messages[i]; cap(m.Data) > 2*packBytes {
			m.Data = nil
		}
	}
	clear(p.by)
	p.messages = p.messages[:0]
}

// pack adds a change to the group; what is full goes out first.
func (w *writer) pack(ctx context.Context, subject string, c *event.Change) error {
	p := &w.packed
	w.line = event.AppendLine(w.line[:0], c)
	failpoint.At(failpoint.LogEncoded)
	m := p.at(subject)
	full := m != nil && (m.lines == packLines || len(m.Data)+len(w.line) > packBytes) || m == nil && len(p.messages) == packSubjects
	// Of a log with several origins each transaction must be found in the stream by a position of its own.
	if over := len(p.messages) > 0 && (p.to.Origin != c.Position.Origin || p.to.Origin != "" && p.to.Commit != c.Position.Commit); full || over {
		if err := w.unpack(ctx); err != nil {
			return err
		}
	}
	p.add(w.a.cfg.Source, subject, c, w.line)
	p.to, p.after = c.Position, false
	return nil
}

// unpack publishes the group.
func (w *writer) unpack(ctx context.Context) error {
	p := &w.packed
	if len(p.messages) == 0 {
		return nil
	}
	g := event.Group{From: w.cur, To: p.to, N: len(p.messages)}
	for i := range p.messages {
		m := &p.messages[i]
		g.K = i + 1
		m.Group = g
		if err := w.send(ctx, &m.Outgoing, m.lines, m.commitMS); err != nil {
			return err
		}
		if g.N > 1 {
			failpoint.At(failpoint.GroupPiece)
		}
	}
	p.clear()
	if p.after {
		p.after = false
		return w.reach(p.reached)
	}
	return nil
}
