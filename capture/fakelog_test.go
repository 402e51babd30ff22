package capture_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// fakeLog is one connection to the slot.
type fakeLog struct {
	d       *database
	info    capture.Info
	fresh   bool
	started bool
	closed  bool
	stop    chan struct{}
	after   event.Position
	next    int
	told    map[*event.Schema]bool
	idle    uint64
	unmet   bool
}

var errClosed = errors.New("the connection is closed")

func (l *fakeLog) close() {
	if !l.closed {
		l.closed = true
		close(l.stop)
		if l.d.owner == l {
			l.d.owner = nil
		}
		l.d.wake()
	}
}

func (l *fakeLog) Info() capture.Info { return l.info }

func (l *fakeLog) Close(context.Context) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	l.close()
	return nil
}

func (l *fakeLog) Holds(context.Context) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if l.d.onHolds != nil {
		return l.d.onHolds()
	}
	return nil
}

func (l *fakeLog) Check(_ context.Context, from, first event.Position, identity string) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	switch {
	case l.closed:
		return errClosed
	case identity != l.d.identity:
		return &capture.GapError{Reason: "another server", Fix: "--resnapshot"}
	case from.Commit > l.d.lsn:
		return &capture.GapError{Reason: "the source went back", Fix: "--resnapshot"}
	case l.d.confirmed > from.Commit && l.d.confirmed != first.Commit:
		return &capture.GapError{Reason: "the slot is ahead", Fix: "--resnapshot"}
	}
	return nil
}

func (l *fakeLog) Start(_ context.Context, after, change event.Position) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.started, l.after, l.told, l.idle = true, after, map[*event.Schema]bool{}, after.Commit
	met := change.Change == 0
	for i, t := range l.d.log {
		if t.commit < l.d.confirmed {
			l.next = i + 1
		} else if t.commit == change.Commit {
			met = met || slices.ContainsFunc(t.changes, func(c event.Change) bool { return sameChange(c.Position, change) })
		}
	}
	l.unmet = !met && change.Commit >= l.d.confirmed
	return nil
}

func sameChange(p, q event.Position) bool {
	return p.Commit == q.Commit && p.Change == q.Change && p.N == q.N
}

func (l *fakeLog) Next(ctx context.Context) (capture.Run, error) {
	d := l.d
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case l.closed:
			return capture.Run{}, errClosed
		case l.unmet:
			return capture.Run{}, &capture.GapError{Reason: "the last change is not in the log", Fix: "--resnapshot"}
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
func (l *fakeLog) read() capture.Run {
	var r capture.Run
	d := l.d
	for n := 1 + d.random.IntN(4); n > 0 && l.next < len(d.log); n-- {
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

func (l *fakeLog) Confirm(_ context.Context, p event.Position) error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if p.Change != 0 {
		return fmt.Errorf("confirm %s: in the middle of a transaction", p)
	}
	if l.d.onConfirm != nil {
		l.d.onConfirm(p)
	}
	l.d.confirmed = max(l.d.confirmed, p.Commit)
	l.d.wake()
	return nil
}

func (l *fakeLog) Tables(context.Context) ([]capture.TableInfo, error) {
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

func (l *fakeLog) Waiting(context.Context) ([]uint64, error) {
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

func (l *fakeLog) Visible(context.Context) (func(uint64) bool, error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	return l.d.visible(), nil
}

// visible is a snapshot.
func (d *database) visible() func(uint64) bool {
	hidden := map[uint64]bool{}
	for _, t := range d.log {
		if t.hidden {
			hidden[t.xid] = true
		}
	}
	newest := d.xid
	return func(x uint64) bool { return x <= newest && !hidden[x] }
}

func (l *fakeLog) Chunk(ctx context.Context, r capture.ChunkRequest) (*capture.Chunk, error) {
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
	if !slices.Contains(d.tables, r.Table) {
		return nil, fmt.Errorf("table %s does not exist", r.Table)
	}
	d.chunks++
	c := &capture.Chunk{Schema: d.schemas[r.Table], Visible: d.visible(), ReadMS: 1}
	ids := slices.Sorted(maps.Keys(d.shown[r.Table]))
	after := -1
	if r.After != "" {
		after, _ = strconv.Atoi(r.After[1 : len(r.After)-1])
	}
	for _, id := range ids {
		if id <= after || len(r.Keys) > 0 && !slices.ContainsFunc(r.Keys, func(k json.RawMessage) bool { return string(k) == fmt.Sprintf(`{"id":%d}`, id) }) {
			continue
		}
		if len(c.Rows) == r.MaxRows {
			c.Next = fmt.Sprintf("[%d]", idOfRow(c.Rows[len(c.Rows)-1]))
			break
		}
		line := row(id, d.shown[r.Table][id])
		key, err := c.Schema.AppendKey(nil, event.RowOf(line))
		if err != nil {
			return nil, err
		}
		c.Rows = append(c.Rows, capture.ChunkRow{Key: key, JSON: line})
	}
	if d.slow > 0 {
		pause := time.Duration(d.random.Int64N(int64(d.slow)))
		d.mu.Unlock()
		time.Sleep(pause)
		d.mu.Lock()
	}
	return c, nil
}

func (d *database) truncating(t event.Table) bool {
	return slices.ContainsFunc(d.log, func(x *txn) bool {
		return x.hidden && slices.ContainsFunc(x.changes, func(c event.Change) bool { return c.Op == event.Truncate && c.Schema.Table == t })
	})
}

func idOfRow(r capture.ChunkRow) int { return idOf(&event.Change{After: r.JSON}) }

func (l *fakeLog) ReadsKeys() {}

func (l *fakeLog) Mark(_ context.Context, id string) error {
	if l.d.onMark != nil {
		l.d.onMark()
	}
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.d.xid++
	l.d.append(&txn{xid: l.d.xid, mark: id})
	return nil
}

func (l *fakeLog) Whole(_ context.Context, t event.Table, f func(*capture.Chunk) error) error {
	l.d.mu.Lock()
	rows, schema := l.d.exported[t], l.d.schemas[t]
	over := !l.fresh || l.started || l.closed
	l.d.mu.Unlock()
	if over {
		return capture.ErrNoSnapshot
	}
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(rows)), 3) {
		c := &capture.Chunk{Schema: schema, ReadMS: 1}
		for _, id := range chunk {
			c.Rows = append(c.Rows, capture.ChunkRow{JSON: row(id, rows[id])})
		}
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}
