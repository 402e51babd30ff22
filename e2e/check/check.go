// Package check holds the promises about a stream as functions: what every test that writes one reads back and compares,
// whatever the source was and however often it was killed.
package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Reader is a stream that is read back. *stream.Stream is one.
type Reader interface {
	Next(ctx context.Context, subject string, from uint64) (*event.Message, error)
}

// Read gives all messages of the source's tables, markers left out.
func Read(ctx context.Context, s Reader, source string) ([]*event.Message, error) {
	var all []*event.Message
	subject := "cdc." + event.EscapeToken(source) + ".*.*.*"
	for from := uint64(1); ; {
		m, err := s.Next(ctx, subject, from)
		if errors.Is(err, stream.ErrNoMessage) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, m)
		from = m.Sequence + 1
	}
}

// Order says what is wrong with the stream in itself: versions grow, each change is there once and in the log's order, and groups
// are complete, with nothing between their messages.
func Order(all []*event.Message) error {
	var last *event.Message
	reached := event.Position{}
	seen := map[string]uint64{}
	for _, m := range all {
		g := m.Group
		if last != nil {
			if first := m.Writer.Version(m.Sequence, 1); first <= last.Last() {
				return fmt.Errorf("message %d: version %d is not above %d of message %d", m.Sequence, first, last.Last(), last.Sequence)
			}
			if !last.Group.Complete() && (g.From != last.Group.From || g.To != last.Group.To || g.N != last.Group.N || g.K != last.Group.K+1) {
				return fmt.Errorf("message %d: group %s follows the incomplete %s of message %d", m.Sequence, g, last.Group, last.Sequence)
			}
		}
		if g.K > 1 && (last == nil || last.Group.Complete()) {
			return fmt.Errorf("message %d: group %s without its beginning", m.Sequence, g)
		}
		if g.From.Compare(reached) < 0 {
			return fmt.Errorf("message %d: group %s goes back behind %s", m.Sequence, g, reached)
		}
		if g.Complete() {
			reached = g.To
		}
		last = m
		if err := once(m, seen); err != nil {
			return err
		}
	}
	if last != nil && !last.Group.Complete() {
		return fmt.Errorf("message %d: group %s was never completed", last.Sequence, last.Group)
	}
	return nil
}

// once looks at the events of a message: changes lie within its group, in order, and were not seen before.
func once(m *event.Message, seen map[string]uint64) error {
	events, err := m.Decode(nil)
	if err != nil {
		return err
	}
	before := m.Group.From
	for _, e := range events {
		if e.Snapshot {
			continue
		}
		id := e.Position.ID()
		if old, twice := seen[id]; twice {
			return fmt.Errorf("message %d: change %s was stored before, in message %d", m.Sequence, id, old)
		}
		seen[id] = m.Sequence
		p := e.Position
		if e.Op == event.Truncate {
			p.Part = p.Part / 256 * 256
		}
		if p.Compare(before) <= 0 || p.Compare(m.Group.To) > 0 {
			return fmt.Errorf("message %d: change %s is not in its place in group %s", m.Sequence, id, m.Group)
		}
		before = p
	}
	return nil
}

// Complete compares the changes of the stream with those that the source committed, by the IDs of their positions.
func Complete(all []*event.Message, committed []string) error {
	have := map[string]bool{}
	for _, m := range all {
		events, err := m.Decode(nil)
		if err != nil {
			return err
		}
		for _, e := range events {
			if !e.Snapshot {
				have[e.Position.ID()] = true
			}
		}
	}
	for i, id := range committed {
		if !have[id] {
			return fmt.Errorf("gap: change %s, %d of %d, is not in the stream", id, i+1, len(committed))
		}
		delete(have, id)
	}
	for id := range have {
		return fmt.Errorf("change %s is in the stream, but was never committed", id)
	}
	return nil
}

// Fold is the state that a target reaches: each table's rows by canonical key, and those of tables without a key by their
// place. Where a load sweeps, rows that it did not show are gone.
func Fold(all []*event.Message, schema func(t event.Table, fingerprint string) (*event.Schema, error)) (map[event.Table]map[string]string, error) {
	type row struct {
		version event.Version
		text    string
	}
	tables := map[event.Table]map[string]row{}
	for _, m := range all {
		events, err := m.Decode(nil)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			s, err := schema(e.Table, e.Fingerprint)
			if err != nil {
				return nil, err
			}
			rows := tables[e.Table]
			if rows == nil {
				rows = map[string]row{}
				tables[e.Table] = rows
			}
			if e.Op == event.Truncate {
				for k, r := range rows {
					if cutoff := max(e.Cutoff, 0); (cutoff == 0 && r.version < e.Version || r.version < cutoff) && partition(k, s, m) {
						delete(rows, k)
					}
				}
				continue
			}
			if e.Op == event.Mark {
				continue
			}
			key := []byte(fmt.Sprintf("%d", e.Version))
			if len(s.KeyColumns()) > 0 {
				if key, err = s.AppendKey(nil, e.Key()); err != nil {
					return nil, err
				}
			}
			if e.Op == event.Delete {
				delete(rows, string(key))
			} else {
				rows[string(key)] = row{e.Version, string(e.After.Raw())}
			}
		}
	}
	out := map[event.Table]map[string]string{}
	for t, rows := range tables {
		out[t] = map[string]string{}
		for k, r := range rows {
			out[t][k] = r.text
		}
	}
	return out, nil
}

// partition says whether a key lies in the message's partition; of a table without a key every row lies in partition 0.
func partition(key string, s *event.Schema, m *event.Message) bool {
	_, _, p, err := event.ParseSubject(m.Subject)
	if err != nil {
		return false
	}
	if len(s.KeyColumns()) == 0 {
		return p == 0
	}
	return event.Partition([]byte(key), m.Group.N) == p
}
