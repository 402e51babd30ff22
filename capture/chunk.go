package capture

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Bounds of a snapshot's messages and memory.
const (
	rowBytes     = 512 << 10 // of a message with a chunk's rows; a single larger row travels alone
	touchedBytes = 16 << 20  // of the keys that the log touched while a chunk was read
)

// window is open from before a chunk is read until the log has come to where it was read: what the log touches meanwhile is
// newer than the chunk's rows and already in the stream.
type window struct {
	table   event.Table
	load    string
	forOne  string   // the only function that its rows are for
	number  int      // of the chunk, as it was read
	before  []uint64 // transactions that were published when it opened, and which no snapshot has shown yet
	touched map[string]struct{}
	bytes   int
	schemas []string // fingerprints that the log went over to
	torn    bool     // a TRUNCATE, or too much: the chunk is void
	chunk   *Chunk
	keys    []json.RawMessage // that were asked for: those without a row are deleted

	done   chan struct{} // closed when the marker was met
	stored bool          // its rows were published, up to last
	last   sent
}

// wait ends when the log has come to where the chunk was read.
func (win *window) wait(ctx context.Context) error {
	select {
	case <-win.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) openWindow(t event.Table, load, function string, number int) *window {
	win := &window{table: t, load: load, forOne: function, number: number, touched: map[string]struct{}{}, done: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	win.before = make([]uint64, 0, len(w.published))
	for x := range w.published {
		win.before = append(win.before, x)
	}
	w.windows[t] = append(w.windows[t], win)
	return win
}

// closeWindow is called with mu held.
func (w *writer) closeWindow(win *window) {
	open := w.windows[win.table]
	for i, o := range open {
		if o == win {
			w.windows[win.table] = append(open[:i:i], open[i+1:]...)
		}
	}
}

func (w *writer) dropWindow(win *window, mark string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.marks, mark)
	w.closeWindow(win)
}

// sees says whether a snapshot shows every transaction that was published before the window opened; a commit is in the log
// before it is visible. What one snapshot shows every later one shows: it need not be asked for again, nor be remembered for
// windows that open from now on.
func (w *writer) sees(win *window, visible func(xid uint64) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	hidden := win.before[:0]
	for _, x := range win.before {
		if visible(x) {
			delete(w.published, x)
		} else {
			hidden = append(hidden, x)
		}
	}
	win.before = hidden
	return len(hidden) == 0
}

func (w *writer) touch(c *event.Change, key []byte) {
	for _, win := range w.windows[c.Schema.Table] {
		if c.Op == event.Truncate {
			win.torn = true
			continue
		}
		if _, ok := win.touched[string(key)]; ok || win.torn {
			continue
		}
		win.touched[string(key)] = struct{}{}
		if win.bytes += len(key) + 64; win.bytes > touchedBytes {
			win.torn, win.touched = true, nil
		}
	}
}

// structure notes that the log goes on with this version of a table.
func (w *writer) structure(s *event.Schema) {
	for _, win := range w.windows[s.Table] {
		win.schemas = append(win.schemas, s.Fingerprint())
	}
	if !w.known[s.Table] {
		w.known[s.Table] = true
		select {
		case w.appeared <- struct{}{}:
		default:
		}
	}
}

// marked publishes the chunk whose marker has come back through the log, unless it is void.
func (w *writer) marked(ctx context.Context, id string) error {
	win := w.marks[id]
	if win == nil {
		return nil
	}
	delete(w.marks, id)
	w.closeWindow(win)
	defer close(win.done)
	for _, s := range win.schemas {
		win.torn = win.torn || s != win.chunk.Schema.Fingerprint()
	}
	if win.torn {
		return nil
	}
	if err := w.rows(ctx, win.chunk, win.touched, win.load, win.forOne, strconv.Itoa(win.number)); err != nil {
		return err
	}
	if err := w.gone(ctx, win); err != nil {
		return err
	}
	win.stored, win.last = true, w.sent()
	failpoint.At(failpoint.ChunkPublished)
	return nil
}

// rows publishes rows as r events, many to a message.
func (w *writer) rows(ctx context.Context, c *Chunk, touched map[string]struct{}, load, function, chunk string) error {
	t, err := w.version(ctx, c.Schema)
	if err != nil {
		return err
	}
	w.advance()
	type part struct {
		data  []byte
		lines int
	}
	parts := make([]part, len(t.subjects))
	n := 0
	flush := func(p int, data []byte, lines int) error {
		if lines == 0 {
			return nil
		}
		n++
		if err := w.turn(ctx); err != nil { // here, since the ID names the epoch
			return err
		}
		m := stream.Outgoing{Subject: t.subjects[p], ID: event.SnapshotID(w.a.cfg.Source, load, w.id().Epoch, c.Schema.Table, chunk, n), Group: at(w.cur), For: function, Data: data}
		return w.send(ctx, &m, lines, c.ReadMS)
	}
	for i := range c.Rows {
		row := &c.Rows[i]
		if _, newer := touched[string(row.Key)]; newer {
			continue
		}
		p := event.Partition(row.Key, len(parts))
		b := &parts[p]
		end := len(b.data)
		b.data = event.AppendLine(b.data, &event.Change{
			Op: event.Read, Schema: c.Schema, After: row.JSON, Position: w.cur, CommitMS: c.ReadMS, Snapshot: true,
		})
		if b.lines++; b.lines > event.MaxLines || b.lines > 1 && len(b.data) > rowBytes {
			if err := flush(p, b.data[:end], b.lines-1); err != nil {
				return err
			}
			b.data, b.lines = append(b.data[:0], b.data[end:]...), 1
		}
	}
	for p := range parts {
		if err := flush(p, parts[p].data, parts[p].lines); err != nil {
			return err
		}
	}
	return nil
}

// advance lets the next message carry the position over what was read and is not captured.
func (w *writer) advance() {
	if w.ahead() {
		w.cur, w.moved = w.seen, time.Now()
	}
}

// bound publishes the m with which a load that sweeps begins, or the t with which it ends, in every partition; function is the only one
// that it is for, if there is one. A cutoff of 0 for
// an m is its own version, which it gives. ok is false while a group of an earlier writer is still incomplete.
func (w *writer) bound(ctx context.Context, s *event.Schema, op event.Op, load, function string, cutoff event.Version) (c event.Version, sequence uint64, ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending != nil {
		return 0, 0, false, nil
	}
	t, err := w.version(ctx, s)
	if err != nil {
		return 0, 0, false, err
	}
	if err := w.turn(ctx); err != nil { // here, since IDs and cutoff name the epoch
		return 0, 0, false, err
	}
	w.advance()
	if op == event.Mark && cutoff == 0 {
		cutoff = w.id().Version(w.chain().Sent()+1, 1)
	}
	now := time.Now().UnixMilli()
	w.line = event.AppendLine(w.line[:0], &event.Change{Op: op, Schema: s, Cutoff: cutoff, Position: w.cur, CommitMS: now, Snapshot: true})
	data := append([]byte(nil), w.line...)
	g := at(w.cur)
	g.N = len(t.subjects)
	for p, subject := range t.subjects {
		g.K = p + 1
		m := stream.Outgoing{Subject: subject, ID: event.SnapshotID(w.a.cfg.Source, load, w.id().Epoch, s.Table, op.String(), p), Group: g, For: function, Data: data}
		if err := w.send(ctx, &m, 1, now); err != nil {
			return 0, 0, false, err
		}
	}
	return cutoff, w.chain().Sent(), true, w.chain().Flush()
}
