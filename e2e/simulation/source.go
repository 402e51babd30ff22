package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

const source = "shop"

// Tables of the source. Notes have no key: they only know INSERT and TRUNCATE.
var (
	users  = event.Table{Schema: "public", Name: "users"}
	orders = event.Table{Schema: "public", Name: "orders"}
	notes  = event.Table{Schema: "public", Name: "notes"}
)

// database is a PostgreSQL in memory: a log, a slot, and snapshots in which a commit shows later than in the log. The value of
// each row is the serial number of the statement that wrote it, its revision: so everybody who sees a row knows how new it is.
type database struct {
	c         *chance
	h         *history
	onConfirm func(p event.Position) // before the slot moves
	stopped   chan struct{}          // the schedule is over

	mu        sync.Mutex
	changed   chan struct{}
	tables    []event.Table
	timeline  uint32
	forks     map[uint32]uint64 // where a timeline ended
	clock     time.Duration     // what jumps have added to it
	lsn, xid  uint64
	log       []*transaction
	schemas   map[event.Table]*event.Schema
	widened   map[event.Table]int
	rows      map[event.Table]map[int]row // what is committed
	shown     map[event.Table]map[int]row // what snapshots show
	base      map[event.Table]map[int]row // before the first transaction of the log
	serial    int
	taken     []string // changes that a restore took back, until an operator looks
	copied    *copied  // of the whole server
	latest    int64    // that the clock has ever shown
	least     int64    // that it will ever show
	slot      bool
	invalid   bool // the slot is there and of no use
	confirmed uint64
	first     uint64 // where the first slot began
	slots     int
	owner     *connection
	exported  map[int]row // notes, when the slot was made
	pending   sync.WaitGroup

	past      sync.Mutex     // of what follows, which others ask for while they hold locks of their own
	revisions map[string]int // by a change's position
	dead      map[int]bool   // revisions that a restore took back
}

// row is a row's value and whether it was written since the table has its last column.
type row struct {
	revision int
	wide     int
}

type transaction struct {
	commit, end, xid uint64
	changes          []event.Change
	mark             string
	hidden           bool
}

func newDatabase(c *chance, h *history) *database {
	d := &database{
		c: c, h: h, stopped: make(chan struct{}), changed: make(chan struct{}), timeline: 1, forks: map[uint32]uint64{}, lsn: 1 << 20, xid: 700,
		schemas: map[event.Table]*event.Schema{}, widened: map[event.Table]int{}, rows: map[event.Table]map[int]row{},
		shown: map[event.Table]map[int]row{}, base: map[event.Table]map[int]row{}, revisions: map[string]int{}, dead: map[int]bool{},
	}
	d.tables = []event.Table{users, orders}
	if c.intn("a table without a key", "source", 3) > 0 { // past a gap these are read with a new slot, so none of the log comes again
		d.tables = append(d.tables, notes)
	}
	for _, t := range d.tables {
		d.schemas[t] = schemaOf(t, 0)
		rows := map[int]row{}
		for id := range c.intn("rows at the beginning", t.Name, 12) {
			d.serial++
			rows[keyOf(t, id, d.serial)] = row{revision: d.serial}
		}
		d.rows[t], d.shown[t], d.base[t] = rows, maps.Clone(rows), maps.Clone(rows)
	}
	return d
}

// keyOf is a row's place in its table: rows without a key are told apart by their revisions.
func keyOf(t event.Table, id, serial int) int {
	if t == notes {
		return serial
	}
	return id
}

func schemaOf(t event.Table, widened int) *event.Schema {
	key := 1
	if t == notes {
		key = 0
	}
	columns := []event.Column{{Name: "id", Type: "bigint", Key: key, Nullable: key == 0}, {Name: "v", Type: "bigint", Nullable: true}}
	for n := range widened {
		columns = append(columns, event.Column{Name: fmt.Sprintf("w%d", n), Type: "bigint", Nullable: true})
	}
	return event.NewSchema(source, "postgresql", "db", t, columns)
}

// image is a row as the server prints it; columns that are younger than it are null.
func image(id int, r row, widened int) []byte {
	b := fmt.Appendf(nil, `{"id":%d,"v":%d`, id, r.revision)
	for n := range widened {
		if n < r.wide {
			b = fmt.Appendf(b, `,"w%d":%d`, n, r.revision)
		} else {
			b = fmt.Appendf(b, `,"w%d":null`, n)
		}
	}
	return append(b, '}')
}

// statement is c, u or d of a row, k for a change of its key, t for TRUNCATE of some tables, y for a COPY of some rows with one
// LSN, or w for a new column.
type statement struct {
	kind  byte
	table event.Table
	id    int
	more  int
}

// Commit runs the statements that fit the rows there are, as one transaction.
func (d *database) Commit(statements ...statement) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.xid++
	t := &transaction{xid: d.xid}
	for _, s := range statements {
		if !d.locked(s) {
			d.run(t, s)
		}
	}
	d.append(t)
	d.h.note("source", "commit %X: %v", t.commit, brief(t))
	if len(t.changes) == 0 || !d.c.fault("commit is visible late", "source") {
		d.show(t)
		return
	}
	t.hidden = true
	late := d.c.between("late by", "source", time.Millisecond, 3*time.Second)
	d.pending.Go(func() {
		timer := time.NewTimer(late)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-d.stopped:
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if t.hidden && slices.Contains(d.log, t) {
			d.show(t)
			d.wake()
		}
	})
}

// brief is a transaction for the history.
func brief(t *transaction) []string {
	var out []string
	for i := range t.changes {
		c := &t.changes[i]
		out = append(out, fmt.Sprintf("%s %s %s%s", c.Op, c.Schema.Table.Name, c.Before, c.After))
	}
	return out
}

// locked says whether a transaction that does not show yet holds what the statement wants.
func (d *database) locked(s statement) bool {
	for _, t := range d.log {
		if !t.hidden {
			continue
		}
		for i := range t.changes {
			c := &t.changes[i]
			if s.kind == 't' || s.kind == 'w' || c.Schema.Table == s.table && (c.Op == event.Truncate || s.kind == 'k' || s.kind == 'y' || idOf(c.Before, c.After) == s.id) {
				return true
			}
		}
	}
	return false
}

func idOf(images ...[]byte) int {
	var r struct{ ID int }
	for _, raw := range images {
		if raw == nil {
			continue
		}
		if err := json.Unmarshal(raw, &r); err != nil {
			panic(err) // our own bytes
		}
	}
	return r.ID
}

// step moves the log on by as much as a record may need. Two histories hardly ever have a position in common.
func (d *database) step() { d.lsn += 8 * uint64(1+d.c.intn("record", "source", 1<<12)) }

func (d *database) run(t *transaction, s statement) {
	d.step()
	rows := d.rows[s.table]
	old, exists := rows[s.id]
	to := s.id + 1000
	_, taken := rows[to]
	switch {
	case s.kind == 't':
		for n, table := range d.tables[:1+s.more] {
			d.serial++
			d.add(t, table, event.Truncate, event.Position{Part: uint32(256 * n)}, nil, nil)
			d.rows[table] = map[int]row{}
		}
	case s.kind == 'w':
		if d.widened[s.table]++; d.widened[s.table] > 3 {
			d.widened[s.table] = 3
		}
		d.schemas[s.table] = schemaOf(s.table, d.widened[s.table])
	case s.kind == 'y':
		for n := range s.more {
			if s.table == notes {
				d.insert(t, s.table, 0, event.Position{N: uint32(n)})
			} else if _, there := rows[2000+d.serial]; !there {
				d.insert(t, s.table, 2000+d.serial, event.Position{N: uint32(n)})
			}
		}
	case s.table == notes || !exists:
		d.insert(t, s.table, s.id, event.Position{})
	case s.kind == 'd':
		d.serial++
		d.add(t, s.table, event.Delete, event.Position{}, d.image(s.table, s.id, old), nil)
		delete(rows, s.id)
	case s.kind == 'k' && !taken:
		d.serial++
		d.add(t, s.table, event.Delete, event.Position{}, d.image(s.table, s.id, old), nil)
		delete(rows, s.id)
		d.insert(t, s.table, to, event.Position{Part: 1})
	default:
		d.serial++
		rows[s.id] = row{d.serial, d.widened[s.table]}
		d.add(t, s.table, event.Update, event.Position{}, nil, d.image(s.table, s.id, rows[s.id]))
	}
}

func (d *database) image(t event.Table, id int, r row) []byte { return image(id, r, d.widened[t]) }

func (d *database) insert(t *transaction, table event.Table, id int, p event.Position) {
	d.serial++
	id = keyOf(table, id, d.serial)
	d.rows[table][id] = row{d.serial, d.widened[table]}
	d.add(t, table, event.Create, p, nil, d.image(table, id, d.rows[table][id]))
}

// add notes a change. Its revision is the newest serial number.
func (d *database) add(t *transaction, table event.Table, op event.Op, p event.Position, before, after []byte) {
	p.Timeline, p.Change = d.timeline, d.lsn
	t.changes = append(t.changes, event.Change{
		Op: op, Schema: d.schemas[table], Before: before, After: after, TxID: t.xid, Order: int64(len(t.changes) + 1),
		Position: p, CommitMS: int64(d.serial), // a revision, to be found again below
	})
}

func (d *database) append(t *transaction) {
	d.step()
	t.commit = d.lsn
	d.step()
	t.end = d.lsn
	for i := range t.changes {
		c := &t.changes[i]
		c.Position.Commit = t.commit
		c.Last = i == len(t.changes)-1
		d.past.Lock()
		d.revisions[revisionKey(c.Position)] = int(c.CommitMS)
		d.past.Unlock()
	}
	d.log = append(d.log, t)
	d.wake()
}

// revisionKey leaves out of a TRUNCATE's position what the agent adds for the partition.
func revisionKey(p event.Position) string {
	if p.Part > 1 {
		p.Part &^= 255
	}
	return p.ID()
}

// Revision of an event: how new what it says is. Ends of loads have none.
func (d *database) Revision(e *event.Event) (revision int, ok bool) {
	if e.Snapshot || !e.After.IsNull() {
		v, there := e.After.Column("v")
		n, err := v.Int64()
		return int(n), there && err == nil
	}
	d.past.Lock()
	defer d.past.Unlock()
	p := e.Position
	if e.Op == event.Truncate {
		p.Part &^= 255
	}
	revision, ok = d.revisions[p.ID()]
	return revision, ok
}

// Dead says whether a restore took a revision back.
func (d *database) Dead(revision int) bool {
	d.past.Lock()
	defer d.past.Unlock()
	return d.dead[revision]
}

func (d *database) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *database) show(t *transaction) {
	t.hidden = false
	apply(d.shown, t)
}

// apply is what a transaction does to tables.
func apply(to map[event.Table]map[int]row, t *transaction) {
	for i := range t.changes {
		c := &t.changes[i]
		rows := to[c.Schema.Table]
		switch c.Op {
		case event.Truncate:
			to[c.Schema.Table] = map[int]row{}
		case event.Delete:
			delete(rows, idOf(c.Before))
		default:
			rows[idOf(c.After)] = row{int(c.CommitMS), len(c.Schema.Columns) - 2}
		}
	}
}

// Rows are the committed rows: their revisions by key.
func (d *database) Rows(t event.Table) map[int]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[int]int{}
	for id, r := range d.rows[t] {
		out[id] = r.revision
	}
	return out
}

// Committed are the IDs of the changes whose transactions were committed after an LSN, those of a TRUNCATE for each partition.
func (d *database) Committed(after uint64) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []string
	for _, t := range d.log {
		if t.commit >= after {
			ids = append(ids, t.ids()...)
		}
	}
	return ids
}

func (t *transaction) ids() []string {
	var ids []string
	for i := range t.changes {
		p := t.changes[i].Position
		if ids = append(ids, p.ID()); t.changes[i].Op == event.Truncate {
			for range partitions - 1 {
				p.Part++
				ids = append(ids, p.ID())
			}
		}
	}
	return ids
}

// First is where the first slot began.
func (d *database) First() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first
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

var errClosed = errors.New("the connection is closed")

// take is Acquire and Renew.
func (d *database) take(ctx context.Context, who string, waiting func(string), renew func(context.Context) error) (*connection, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	told := false
	l := &connection{d: d, who: who, stop: make(chan struct{})}
	for d.owner != nil || (renew != nil || !d.slot) && d.hidden() {
		if !told && d.owner != nil {
			told = true
			d.c.count("an agent waits as standby")
			waiting("another")
		}
		if err := d.wait(ctx); err != nil {
			return nil, err
		}
	}
	d.owner = l // nobody else, while we ask
	if renew != nil {
		d.mu.Unlock()
		err := renew(ctx)
		d.mu.Lock()
		if err == nil && l.closed {
			err = errClosed
		}
		if err != nil {
			d.c.count("a slot is not renewed, since somebody else wrote meanwhile")
			l.close()
			return nil, err
		}
	}
	if d.invalid && renew == nil {
		l.close()
		return nil, &capture.GapError{Reason: "the slot was invalidated", Fix: "start with --resnapshot"}
	}
	if renew != nil || !d.slot {
		d.slot, d.invalid, d.confirmed, l.fresh = true, false, d.lsn, true
		if d.slots++; d.slots == 1 {
			d.first = d.lsn
		}
		d.exported = maps.Clone(d.rows[notes])
		d.h.note("source", "a slot is made at %X", d.lsn)
	}
	l.info = capture.Info{
		Identity: "7001", Connector: "postgresql", Database: "db", Timeline: d.timeline, Flushed: d.at(d.lsn), Confirmed: d.at(d.confirmed),
		Clock: d.now(), NewSlot: l.fresh, Slot: "runnel",
	}
	d.h.note("source", "%s holds the slot, which stands at %X", who, d.confirmed)
	return l, nil
}

// now is the server's clock.
func (d *database) now() int64 {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(d.clock + time.Since(d.h.began)).Unix()
}

func (d *database) hidden() bool {
	return slices.ContainsFunc(d.log, func(t *transaction) bool { return t.hidden })
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

// schemaOf is the present structure of a table; its key never changes.
func (d *database) schemaOf(t event.Table) *event.Schema {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.schemas[t]
}
