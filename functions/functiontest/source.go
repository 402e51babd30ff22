package functiontest

import (
	"fmt"
	"maps"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// change is one thing that happens in the source. What it comes to depends on the changes before it, so any of them can be left out.
type change struct {
	kind   changeKind
	key    int
	to     int    // of rekey
	nulls  uint16 // which nullable columns are NULL
	poison bool
	value  int // number of the values; the change's own place
}

type changeKind int

const (
	put     changeKind = iota // an insert, or an update where the row is there
	remove                    // a delete, if the row is there
	rekey                     // an update of the key: a delete and an insert
	reread                    // the table is read again, if the row is there
	restart                   // of the source's agent
	empty                     // a TRUNCATE, where the handler is a Sweeper
	other                     // something that is not for the function
)

// item is an event of the history's stream.
type item struct {
	number    int // from 1, as a report names it
	partition int
	place     int // among those of its partition
	message   event.Message
	version   event.Version
	what      string
	key, row  string // of the model; no row: it is deleted
	poison    bool
	sweep     bool // a t
	skip      bool // not for the function
}

// runner is a suite at work. Its stream goes on from history to history.
type runner struct {
	Suite
	poison     map[string]string
	writer     event.Writer
	sequence   uint64 // of the last message
	log        uint64 // place in the source's log
	keys       int    // numbers of keys that histories before have used
	sweeps     bool   // the handler is a Sweeper
	generation int64
	claims     []sink.Claim // by partition, of the generation; made by a generation's first worker
}

// source is the stream of one history.
type source struct {
	items []item
	parts [][]int // indexes of items, by partition
	start []sink.Point
}

// history publishes the changes.
func (r *runner) history(changes []change) *source {
	s := &source{parts: make([][]int, r.Partitions)}
	at := sink.Point{Sequence: r.sequence, Version: r.writer.Version(r.sequence, 1)}
	for range r.Partitions {
		s.start = append(s.start, at)
	}
	type state struct {
		row    string
		poison bool
	}
	rows := map[int]state{}
	for i, c := range changes {
		c.value = i + 1
		_, there := rows[c.key]
		switch c.kind {
		case put:
			row := r.row(c.key, c)
			if there {
				r.publish(s, event.Update, "update", c.key, row, c.poison)
			} else {
				r.publish(s, event.Create, "insert", c.key, row, c.poison)
			}
			rows[c.key] = state{row, c.poison}
		case remove:
			if there {
				r.publish(s, event.Delete, "delete", c.key, "", false)
				delete(rows, c.key)
			}
		case rekey:
			if _, taken := rows[c.to]; there && !taken {
				row := r.row(c.to, c)
				r.publish(s, event.Delete, "delete (its key changes)", c.key, "", false)
				r.publish(s, event.Create, "insert (the new key)", c.to, row, false)
				delete(rows, c.key)
				rows[c.to] = state{row, false}
			}
		case reread:
			if there {
				r.publish(s, event.Read, "read again", c.key, rows[c.key].row, rows[c.key].poison)
			}
		case restart:
			r.sequence += event.FenceMarkers
			r.writer = event.Writer{Epoch: r.writer.Epoch + 1, Base: r.sequence}
		case other:
			r.log += 8
			e := r.change(event.Delete)
			e.Before = []byte(r.keyRow(c.key))
			r.append(s, &e, item{partition: c.key % r.Partitions, what: "a change that is not for the function", skip: true})
		case empty:
			if r.sweeps {
				r.truncate(s)
				clear(rows)
			}
		}
	}
	return s
}

// publish adds an event as the agent writes it.
func (r *runner) publish(s *source, op event.Op, what string, key int, row string, poison bool) {
	r.log += 8
	c := r.change(op)
	c.Snapshot = op == event.Read
	if row == "" {
		c.Before = []byte(r.keyRow(key))
	} else {
		c.After = []byte(row)
	}
	canonical, _ := r.keyOf(r.keyRow(key)) // the table's key was checked
	r.append(s, &c, item{partition: event.Partition([]byte(canonical), r.Partitions), what: what, key: canonical, row: row, poison: poison})
}

// truncate adds a TRUNCATE: a t for each partition.
func (r *runner) truncate(s *source) {
	r.log += 8
	for p := range r.Partitions {
		c := r.change(event.Truncate)
		c.Position.Part = uint32(p)
		r.append(s, &c, item{partition: p, what: "truncate, in its partition", sweep: true})
	}
}

func (r *runner) change(op event.Op) event.Change {
	at := event.Position{Timeline: 1, Commit: r.log, Change: r.log}
	return event.Change{Op: op, Schema: r.Table, Position: at, CommitMS: 1_770_000_000_000 + int64(r.log), TxID: r.log, Order: 1, Last: true}
}

// append adds a message of one event.
func (r *runner) append(s *source, c *event.Change, it item) {
	r.sequence++
	at := c.Position
	it.number = len(s.items) + 1
	it.message = event.Message{
		Subject: event.Subject(r.Table.Source, r.Table.Table, it.partition), Sequence: r.sequence, ID: event.MessageID(r.Table.Source, at),
		Writer: r.writer, Group: event.Group{From: at, To: at, K: 1, N: 1}, TimeMS: c.CommitMS, Data: event.AppendLine(nil, c),
	}
	it.version, it.place = r.writer.Version(r.sequence, 1), len(s.parts[it.partition])
	s.items = append(s.items, it)
	s.parts[it.partition] = append(s.parts[it.partition], it.number-1)
}

// events decodes items, each from memory of its own.
func (r *runner) events(s *source, indexes []int) (events []event.Event, memory [][]byte) {
	for _, i := range indexes {
		m := s.items[i].message
		m.Data = append([]byte(nil), m.Data...)
		var err error
		if events, err = m.Decode(events); err != nil {
			panic(fmt.Sprintf("functiontest: an event of the suite's own cannot be read: %v", err))
		}
		events[len(events)-1].Schema = r.Table
		memory = append(memory, m.Data)
	}
	return events, memory
}

// point is the place right behind an item.
func (s *source) point(index int) sink.Point {
	return sink.Point{Sequence: s.items[index].message.Sequence, Version: s.items[index].version}
}

// model is the table as the target should show it, by key: without the events that were refused.
func (g *play) model() map[string]item {
	rows := map[string]item{}
	for i, it := range g.source.items {
		switch {
		case g.refused[i] && !g.accepted[i]:
		case it.skip:
		case it.sweep:
			maps.DeleteFunc(rows, func(_ string, row item) bool { return row.partition == it.partition })
		case it.row == "":
			delete(rows, it.key)
		default:
			rows[it.key] = it
		}
	}
	return rows
}

// keys are all that the history's events have.
func (s *source) keys() map[string]bool {
	keys := map[string]bool{}
	for _, it := range s.items {
		keys[it.key] = true
	}
	return keys
}
