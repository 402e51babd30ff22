package capture

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// writer is one run of the agent, from its fence on. All that publishes holds mu, so that the stream is written by one at a time.
type writer struct {
	a       *Agent
	log     Log
	now     atomic.Pointer[era]
	claimed atomic.Uint32 // the highest epoch that is, or may be, ours
	began   time.Time

	mu        gate
	cur       event.Position           // where the log goes on after the last message sent
	last      event.Position           // the newest change sent
	seen      event.Position           // all up to here was read, and what is captured of it was sent
	moved     time.Time                // when cur last moved
	pending   *pending                 // group that an earlier writer left incomplete
	versions  map[string]*table        // by the schema's key in KV
	tables    map[*event.Schema]*table // of the log's schemas
	known     map[event.Table]bool     // tables of which a schema was seen
	published map[uint64]struct{}      // transactions that a snapshot may not show yet
	windows   map[event.Table][]*window
	marks     map[string]*window
	key, line []byte
	packed    pack
	within    bool // the last message sent is not the end of its group

	places   chan struct{} // tables that are read at a time
	room     room
	flows    bool        // the stream moved on with the log, behind what an earlier writer had left incomplete
	backlog  atomic.Bool // more of the log was waiting at the last read
	damaged  sync.Once
	appeared chan struct{} // a table was seen for the first time, or changed

	recordMu gate
	record   record
	load     registry.Load
	settled  registry.Settled // of a Tracker
}

// table is what is needed for each event of one version of a table.
type table struct {
	subjects []string // by partition
}

// run goes on until something fails or ctx ends; then what was sent is waited for and recorded.
func (w *writer) run(ctx context.Context) error {
	g, c := errgroup.WithContext(ctx)
	g.Go(func() error { return w.follow(c) })
	g.Go(func() error { return w.confirm(c) })
	g.Go(func() error { return w.loads(c) })
	g.Go(func() error { return w.backfills(c) })
	g.Go(func() error {
		tick := time.NewTicker(forgetting)
		defer tick.Stop()
		return w.forget(c, tick.C)
	})
	g.Go(func() error { return w.watch(c) })
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return w.drain(ctx)
}

// drain is the orderly end: everything sent is stored, and the record says so.
func (w *writer) drain(ctx context.Context) error {
	c, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.a.cfg.Drain)
	defer cancel()
	if e := w.now.Load(); !e.over.Load() {
		if err := e.chain.Err(); err != nil {
			return err
		}
		if err := e.chain.Flush(); err != nil {
			return fmt.Errorf("flush the stream of %s: %w", w.a.cfg.Source, err)
		}
		if err := e.chain.Wait(c, e.chain.Sent()); err != nil {
			return fmt.Errorf("wait for the stream of %s to store what was sent: %w", w.a.cfg.Source, err)
		}
	}
	_, err := w.remember(c)
	return err
}

// follow is the loop: next, publish.
func (w *writer) follow(ctx context.Context) error {
	for {
		r, err := w.log.Next(ctx)
		if err != nil {
			return fmt.Errorf("read the log of %s: %w", w.a.cfg.Source, err)
		}
		failpoint.At(failpoint.LogReceived)
		if err := w.take(ctx, r); err != nil {
			return err
		}
	}
}

func (w *writer) take(ctx context.Context, r Run) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flows = w.flows || w.pending == nil && slices.ContainsFunc(r.Items, func(i Item) bool { return i.Kind == Changed })
	for i := range r.Items {
		if err := w.item(ctx, &r.Items[i]); err != nil {
			return err
		}
	}
	if err := w.unpack(ctx); err != nil {
		return err
	}
	w.backlog.Store(r.More)
	if r.More {
		return nil
	}
	return w.chain().Flush()
}

func (w *writer) item(ctx context.Context, it *Item) error {
	switch it.Kind {
	case Changed:
		w.published[it.XID] = struct{}{}
		return w.change(ctx, it.Change)
	case Committed:
		w.published[it.XID] = struct{}{}
		return w.reach(it.Position)
	case Idle:
		return w.reach(it.Position)
	case Marked:
		if err := w.unpack(ctx); err != nil {
			return err
		}
		return w.marked(ctx, it.Mark)
	case Structure:
		w.structure(it.Schema)
		_, err := w.table(ctx, it.Schema)
		return err
	}
	return fmt.Errorf("log of %s: item of an unknown kind %d", w.a.cfg.Source, it.Kind)
}

// reach notes that everything up to p was read. A group of an earlier writer must have been met by then.
func (w *writer) reach(p event.Position) error {
	if w.pending != nil && p.After(w.pending.group.To) {
		return w.pending.missed()
	}
	if len(w.packed.messages) > 0 {
		w.packed.reached, w.packed.after = p, true
		return nil
	}
	if p.Origin != "" || p.Compare(w.seen) > 0 { // a log of several origins never gives what it gave
		w.seen = p
	}
	return nil
}

// ahead says whether more was read than the next message's position says.
func (w *writer) ahead() bool {
	if w.seen.Origin != "" {
		return w.seen != w.cur
	}
	return w.seen.Compare(w.cur) > 0
}

func (w *writer) change(ctx context.Context, c *event.Change) error {
	t, err := w.table(ctx, c.Schema)
	if err != nil {
		return err
	}
	if w.key, err = rowKey(w.key[:0], c); err != nil {
		return fmt.Errorf("change %s of %s: %w", c.Position, c.Schema.Table, err)
	}
	w.touch(c, w.key)
	switch {
	case w.pending != nil:
		return w.complete(ctx, t, c)
	case c.Op == event.Truncate:
		if err := w.unpack(ctx); err != nil {
			return err
		}
		return w.everywhere(ctx, t, c)
	}
	return w.pack(ctx, t.subjects[event.Partition(w.key, len(t.subjects))], c)
}

// rowKey appends the canonical key; a TRUNCATE and a table without a key have none.
func rowKey(dst []byte, c *event.Change) ([]byte, error) {
	if c.Op == event.Truncate || len(c.Schema.KeyColumns()) == 0 {
		return dst, nil
	}
	row := c.After
	if row == nil {
		row = c.Before
	}
	return c.Schema.AppendKey(dst, event.RowOf(row))
}

// table finds what is known of a version that the log uses.
func (w *writer) table(ctx context.Context, s *event.Schema) (*table, error) {
	if t := w.tables[s]; t != nil {
		return t, nil
	}
	t, err := w.version(ctx, s)
	if err == nil {
		w.tables[s] = t
	}
	return t, err
}

// version finds what is known of a table's version; the first time its columns are written to KV, before any event uses them.
// Each chunk has a schema of its own, so that it is found by its content.
func (w *writer) version(ctx context.Context, s *event.Schema) (*table, error) {
	key := s.KVKey()
	if t := w.versions[key]; t != nil {
		return t, nil
	}
	if err := w.a.storeSchema(ctx, s); err != nil {
		return nil, err
	}
	t := &table{subjects: make([]string, w.a.stream.Partitions())}
	for p := range t.subjects {
		t.subjects[p] = event.Subject(w.a.cfg.Source, s.Table, p)
	}
	w.versions[key] = t
	return t, nil
}

// send publishes a message of some lines. Only between two groups an epoch may end.
func (w *writer) send(ctx context.Context, m *stream.Outgoing, lines int, commitMS int64) error {
	if m.Group.K == 1 {
		if w.within {
			return fmt.Errorf("publish %s: the group before it was left incomplete", m.ID)
		}
		if err := w.turn(ctx); err != nil {
			return err
		}
	}
	e := w.now.Load()
	sequence, err := e.chain.Publish(ctx, m)
	if err != nil {
		return fmt.Errorf("publish %s: %w", m.ID, err)
	}
	failpoint.At(failpoint.ChainPublished)
	if w.within = !m.Group.Complete(); !w.within {
		if m.Group.To.Compare(w.cur) != 0 {
			w.moved = time.Now()
		}
		w.cur = m.Group.To
		if m.Group.From.Compare(m.Group.To) != 0 {
			w.last = m.Group.To
			w.seen = m.Group.To
		}
	}
	e.ledger.add(sent{sequence: sequence, group: m.Group, version: e.id.Version(sequence, lines), position: w.cur, change: w.last}, e.chain.Stored())
	if f := w.a.cfg.Observer.Published; f != nil && lines > 0 {
		f(lines, len(m.Data), time.UnixMilli(commitMS))
	}
	return nil
}
