package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// connection is one process's connection to the slot: a capture.Log and capture.Snapshotter.
type connection struct {
	d       *database
	who     string
	info    capture.Info
	fresh   bool
	started bool
	closed  bool
	stop    chan struct{}
	after   event.Position
	next    int
	told    map[*event.Schema]bool
	idle    uint64
	unmet   *capture.GapError // found by reading
}

// close is for the database's mu held.
func (l *connection) close() {
	if !l.closed {
		l.closed = true
		close(l.stop)
		if l.d.owner == l {
			l.d.owner = nil
		}
		l.d.wake()
	}
}

func (l *connection) Info() capture.Info { return l.info }

func (l *connection) Close(context.Context) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	l.close()
	return nil
}

func (l *connection) Holds(context.Context) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return errClosed
	}
	return nil
}

func (l *connection) Check(_ context.Context, from, first event.Position, identity string) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	gap := func(reason string, args ...any) error {
		return &capture.GapError{Reason: fmt.Sprintf(reason, args...), Fix: "start with --resnapshot"}
	}
	switch {
	case l.closed:
		return errClosed
	case identity != l.info.Identity:
		return gap("another server")
	case !l.d.knows(from):
		return gap("the source went back behind %s", from)
	case l.d.confirmed > from.Commit && l.d.confirmed != first.Commit:
		return gap("the slot is ahead: it stands at %X, the stream at %s", l.d.confirmed, from)
	}
	return nil
}

func (l *connection) Start(_ context.Context, after, met event.Position) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.started, l.after, l.told, l.idle = true, after, map[*event.Schema]bool{}, after.Commit
	found := met.Change == 0 || met.Commit < l.d.confirmed
	for i, t := range l.d.log {
		if t.commit < l.d.confirmed {
			l.next = i + 1
		} else if t.commit == met.Commit {
			found = found || slices.ContainsFunc(t.changes, func(c event.Change) bool {
				p := c.Position
				return p.Commit == met.Commit && p.Change == met.Change && p.N == met.N
			})
		}
	}
	if !found {
		l.unmet = &capture.GapError{Reason: fmt.Sprintf("the last change %s is not in the log", met), Fix: "start with --resnapshot"}
	}
	return nil
}

func (l *connection) Next(ctx context.Context) (capture.Run, error) {
	d := l.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case l.closed:
			return capture.Run{}, errClosed
		case l.unmet != nil:
			return capture.Run{}, l.unmet
		case l.next < len(d.log):
			return l.read(), nil
		case l.idle < d.lsn:
			l.idle = d.lsn
			return capture.Run{Items: []capture.Item{{Kind: capture.Idle, Position: d.at(d.lsn)}}}, nil
		}
		if err := d.wait(ctx); err != nil {
			return capture.Run{}, err
		}
	}
}

// read gives a few transactions.
func (l *connection) read() capture.Run {
	var r capture.Run
	d := l.d
	for n := 1 + d.c.intn("transactions at once", l.who, 4); n > 0 && l.next < len(d.log); n-- {
		t := d.log[l.next]
		l.next++
		l.idle = t.end
		for i := range t.changes {
			c := t.changes[i]
			if c.Position.Compare(l.after) <= 0 {
				continue
			}
			if !l.told[c.Schema] {
				l.told[c.Schema] = true
				r.Items = append(r.Items, capture.Item{Kind: capture.Structure, Schema: c.Schema})
			}
			r.Items = append(r.Items, capture.Item{Kind: capture.Changed, Change: &c, Schema: c.Schema, XID: t.xid, Position: c.Position})
		}
		if t.mark != "" {
			r.Items = append(r.Items, capture.Item{Kind: capture.Marked, Mark: t.mark, Position: d.at(t.commit)})
		}
		if t.end > l.after.Commit {
			r.Items = append(r.Items, capture.Item{Kind: capture.Committed, XID: t.xid, Position: d.at(t.end)})
		}
	}
	r.More = l.next < len(d.log)
	return r
}

func (l *connection) Confirm(_ context.Context, p event.Position) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if p.Change != 0 {
		return fmt.Errorf("confirm %s: in the middle of a transaction", p)
	}
	l.d.onConfirm(p)
	if p.Commit > l.d.confirmed {
		l.d.h.note("source", "%s confirms %X", l.who, p.Commit)
		l.d.confirmed = p.Commit
	}
	l.d.wake()
	return nil
}

func (l *connection) Tables(context.Context) ([]capture.TableInfo, error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	var out []capture.TableInfo
	for _, t := range l.d.tables {
		out = append(out, capture.TableInfo{Schema: l.d.schemas[t], EstimatedRows: int64(len(l.d.rows[t])), Keyless: t == notes})
	}
	return out, nil
}

func (l *connection) Waiting(context.Context) ([]uint64, error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	var out []uint64
	for _, t := range l.d.log {
		if t.hidden {
			out = append(out, t.xid)
		}
	}
	return out, nil
}

func (l *connection) Visible(context.Context) (func(uint64) bool, error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	return l.d.visible(), nil
}

// ReadsKeys implements capture.KeyReader.
func (l *connection) ReadsKeys() {}

func (l *connection) Chunk(ctx context.Context, r capture.ChunkRequest) (*capture.Chunk, error) {
	d := l.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.truncating(r.Table) { // its lock is held until the TRUNCATE shows
		if err := d.wait(ctx); err != nil {
			return nil, err
		}
	}
	if l.closed {
		return nil, errClosed
	}
	after := -1
	if r.After != "" {
		var key []int
		if err := json.Unmarshal([]byte(r.After), &key); err != nil {
			return nil, err
		}
		after = key[0]
	}
	c := &capture.Chunk{Schema: d.schemas[r.Table], Visible: d.visible(), ReadMS: 1}
	if d.hidden() {
		d.c.count("a chunk is read while a commit does not show")
	}
	wanted := map[int]bool{}
	for _, key := range r.Keys {
		wanted[idOf(key)] = true
	}
	for _, id := range slices.Sorted(maps.Keys(d.shown[r.Table])) {
		if id <= after || len(r.Keys) > 0 && !wanted[id] {
			continue
		}
		if len(c.Rows) == r.MaxRows {
			c.Next = fmt.Sprintf("[%d]", idOf(c.Rows[len(c.Rows)-1].JSON))
			break
		}
		json := d.image(r.Table, id, d.shown[r.Table][id])
		key, err := c.Schema.AppendKey(nil, event.RowOf(json))
		if err != nil {
			return nil, err
		}
		c.Rows = append(c.Rows, capture.ChunkRow{Key: key, JSON: json})
	}
	return c, nil
}

func (d *database) truncating(t event.Table) bool {
	return slices.ContainsFunc(d.log, func(x *transaction) bool {
		return x.hidden && slices.ContainsFunc(x.changes, func(c event.Change) bool { return c.Op == event.Truncate && c.Schema.Table == t })
	})
}

func (l *connection) Mark(_ context.Context, id string) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.d.xid++
	l.d.append(&transaction{xid: l.d.xid, mark: id})
	return nil
}

func (l *connection) Whole(_ context.Context, t event.Table, f func(*capture.Chunk) error) error {
	l.d.mu.Lock()
	rows, schema, widened := l.d.exported, l.d.schemas[t], l.d.widened[t]
	over := !l.fresh || l.started || l.closed
	l.d.mu.Unlock()
	if over {
		return capture.ErrNoSnapshot
	}
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(rows)), 3) {
		c := &capture.Chunk{Schema: schema, ReadMS: 1}
		for _, id := range chunk {
			c.Rows = append(c.Rows, capture.ChunkRow{JSON: image(id, rows[id], widened)})
		}
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}
