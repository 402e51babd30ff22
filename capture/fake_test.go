package capture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

var (
	users  = event.Table{Schema: "public", Name: "users"}
	orders = event.Table{Schema: "public", Name: "orders"}
	notes  = event.Table{Schema: "public", Name: "notes"} // without a key: INSERT and TRUNCATE only
)

func schemaOf(source string, t event.Table, more ...event.Column) *event.Schema {
	key := 1
	if t == notes {
		key = 0
	}
	return event.NewSchema(source, "postgresql", "db", t, append([]event.Column{
		{Name: "id", Type: "bigint", Key: key, Nullable: key == 0}, {Name: "v", Type: "bigint", Nullable: true},
	}, more...))
}

// database is a source in memory: a log, a slot, and snapshots in which a commit shows later than in the log.
type database struct {
	source    string
	mu        sync.Mutex
	changed   chan struct{}
	random    *rand.Rand
	identity  string
	timeline  uint32
	clock     int64 // seconds ahead of 2026
	lsn, xid  uint64
	log       []*txn
	tables    []event.Table
	schemas   map[event.Table]*event.Schema
	rows      map[event.Table]map[int]int // what is committed
	shown     map[event.Table]map[int]int // what snapshots show
	serial    int                         // of rows without a key, and of values
	slot      bool
	confirmed uint64
	owner     *fakeLog
	slots     int
	exported  map[event.Table]map[int]int
	late      time.Duration // a commit is invisible for up to this
	hide      bool          // commits are invisible until Show
	chunks    int           // read so far
	slow      time.Duration // a chunk that was read is on its way for up to this
	onConfirm func(event.Position)
	onRenew   func()
	onHolds   func() error
	onMark    func() // between a chunk and its marker
}

type txn struct {
	commit, end, xid uint64
	changes          []event.Change
	mark             string
	hidden           bool
}

func newDatabase(source string, seed uint64) *database {
	d := &database{
		source: source, changed: make(chan struct{}), random: rand.New(rand.NewPCG(seed, 7)), identity: "7001", timeline: 1,
		lsn: 1 << 20, xid: 700, tables: []event.Table{users, orders}, schemas: map[event.Table]*event.Schema{},
		rows: map[event.Table]map[int]int{}, shown: map[event.Table]map[int]int{},
	}
	for _, t := range []event.Table{users, orders, notes} {
		d.schemas[t] = schemaOf(source, t)
		d.rows[t], d.shown[t] = map[int]int{}, map[int]int{}
	}
	return d
}

func row(id, v int) []byte { return fmt.Appendf(nil, `{"id":%d,"v":%d}`, id, v) }

// op is one statement: c, u, d, k (a change of the key) or t.
type op struct {
	kind  byte
	table event.Table
	id    int
}

// Commit runs the statements that fit the rows there are as one transaction.
func (d *database) Commit(ops ...op) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.xid++
	t := &txn{xid: d.xid}
	for _, o := range ops {
		if !d.locked(o) {
			d.apply(t, o)
		}
	}
	d.append(t)
	if d.hide {
		t.hidden = true
		return
	}
	if d.late > 0 && d.random.IntN(3) == 0 && len(t.changes) > 0 {
		t.hidden = true
		time.AfterFunc(time.Duration(d.random.Int64N(int64(d.late))), func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.show(t)
			d.wake()
		})
		return
	}
	d.show(t)
}

// Show makes all commits visible.
func (d *database) Show() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hide = false
	for _, t := range d.log {
		if t.hidden {
			d.show(t)
		}
	}
	d.wake()
}

// locked says whether a hidden transaction holds what the statement wants.
func (d *database) locked(o op) bool {
	for _, t := range d.log {
		for i := range t.changes {
			c := &t.changes[i]
			if t.hidden && c.Schema.Table == o.table && (c.Op == event.Truncate || o.kind == 't' || o.kind == 'k' || idOf(c) == o.id) {
				return true
			}
		}
	}
	return false
}

func idOf(c *event.Change) int {
	raw := c.After
	if raw == nil {
		raw = c.Before
	}
	var r struct{ ID int }
	if raw != nil {
		if err := json.Unmarshal(raw, &r); err != nil {
			panic(err)
		}
	}
	return r.ID
}

func (d *database) apply(t *txn, o op) {
	d.lsn += 8
	d.serial++
	add := func(op event.Op, part uint32, before, after []byte) {
		t.changes = append(t.changes, event.Change{
			Op: op, Schema: d.schemas[o.table], Before: before, After: after, TxID: t.xid, Order: int64(len(t.changes) + 1),
			Position: event.Position{Timeline: d.timeline, Change: d.lsn, Part: part}, CommitMS: int64(d.lsn),
		})
	}
	rows := d.rows[o.table]
	old, exists := rows[o.id]
	to := o.id + 1000
	_, taken := rows[to]
	switch {
	case o.kind == 't':
		add(event.Truncate, 0, nil, nil)
		d.rows[o.table] = map[int]int{}
	case o.table == notes:
		add(event.Create, 0, nil, row(d.serial, d.serial))
		rows[d.serial] = d.serial
	case !exists:
		add(event.Create, 0, nil, row(o.id, d.serial))
		rows[o.id] = d.serial
	case o.kind == 'd':
		add(event.Delete, 0, row(o.id, old), nil)
		delete(rows, o.id)
	case o.kind == 'k' && !taken:
		add(event.Delete, 0, row(o.id, old), nil)
		add(event.Create, 1, nil, row(to, d.serial))
		delete(rows, o.id)
		rows[to] = d.serial
	default:
		add(event.Update, 0, nil, row(o.id, d.serial))
		rows[o.id] = d.serial
	}
}

func (d *database) append(t *txn) {
	t.commit = d.lsn + 8
	t.end = t.commit + 40
	d.lsn = t.end
	for i := range t.changes {
		t.changes[i].Position.Commit = t.commit
		t.changes[i].Last = i == len(t.changes)-1
	}
	d.log = append(d.log, t)
	d.wake()
}

func (d *database) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *database) show(t *txn) {
	t.hidden = false
	for i := range t.changes {
		c := &t.changes[i]
		rows := d.shown[c.Schema.Table]
		var r struct{ ID, V int }
		if c.After != nil {
			if err := json.Unmarshal(c.After, &r); err != nil {
				panic(err)
			}
		}
		switch c.Op {
		case event.Truncate:
			d.shown[c.Schema.Table] = map[int]int{}
		case event.Delete:
			delete(rows, idOf(c))
		default:
			rows[r.ID] = r.V
		}
	}
}

// Restore brings an older state of the server back, on a timeline of its own.
func (d *database) Restore(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = d.log[:n]
	d.lsn = d.log[n-1].end
	d.timeline++
}

// Committed are the IDs of all changes after an LSN, those of a TRUNCATE for each partition.
func (d *database) Committed(after uint64, partitions int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []string
	for _, t := range d.log {
		for _, c := range t.changes {
			if t.commit < after {
				continue
			}
			if ids = append(ids, c.Position.ID()); c.Op == event.Truncate {
				for p := 1; p < partitions; p++ {
					c.Position.Part++
					ids = append(ids, c.Position.ID())
				}
			}
		}
	}
	return ids
}

// Rows are the committed rows as Fold gives them: the values alone of a table without a key.
func (d *database) Rows(t event.Table) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for id, v := range d.rows[t] {
		out = append(out, string(row(id, v)))
	}
	slices.Sort(out)
	return out
}

func (d *database) Acquire(ctx context.Context, waiting func(string)) (capture.Log, error) {
	return d.take(ctx, waiting, nil)
}

func (d *database) Renew(ctx context.Context, waiting func(string), still func(context.Context) error) (capture.Log, error) {
	if d.onRenew != nil {
		d.onRenew()
	}
	if still == nil {
		still = func(context.Context) error { return nil }
	}
	return d.take(ctx, waiting, still)
}

func (d *database) take(ctx context.Context, waiting func(string), renew func(context.Context) error) (capture.Log, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	told := false
	for d.owner != nil || (renew != nil || !d.slot) && d.hidden() {
		if !told && d.owner != nil {
			told = true
			waiting("another")
		}
		if err := d.wait(ctx); err != nil {
			return nil, err
		}
	}
	l := &fakeLog{d: d, stop: make(chan struct{})}
	if renew != nil {
		if err := renew(ctx); err != nil {
			return nil, err
		}
	}
	if renew != nil || !d.slot {
		d.slot, d.confirmed = true, d.lsn
		d.slots++
		l.fresh = true
		d.exported = map[event.Table]map[int]int{notes: maps.Clone(d.rows[notes])}
	}
	l.info = capture.Info{
		Identity: d.identity, Connector: "postgresql", Database: "db", Timeline: d.timeline, Flushed: d.at(d.lsn), Confirmed: d.at(d.confirmed),
		Clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix() + d.clock, NewSlot: l.fresh, Slot: "runnel",
	}
	d.owner = l
	return l, nil
}

func (d *database) hidden() bool {
	return slices.ContainsFunc(d.log, func(t *txn) bool { return t.hidden })
}

// wait is for mu held: it gives it up until something has changed.
func (d *database) wait(ctx context.Context) error {
	c := d.changed
	d.mu.Unlock()
	defer d.mu.Lock()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *database) at(lsn uint64) event.Position {
	return event.Position{Timeline: d.timeline, Commit: lsn}
}

// Kill is what the server sees of a dead agent.
func (d *database) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owner != nil {
		d.owner.close()
	}
}
