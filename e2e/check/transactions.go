package check

import (
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/runtime/event"
)

// digest is a transaction in 24 bytes, all that is kept of those that are right.
type digest struct {
	changes int32
	hash    uint64
	at      int64 // Unix milliseconds
}

// transactions compares the stream with the source's own history, transaction by transaction: each committed change is there
// exactly once, in its order, with its values, and nothing else is. The first pass over both compares digests; what is
// different is read a second time.
type transactions struct {
	r      *Report
	tables map[string]*equal.Table
	reread []string // columns whose value may be newer than the change
	seed   maphash.Seed
	have   map[uint64]digest
	only   map[uint64][]change // in the second pass: the transactions that are wanted
	by     map[int64]uint64    // where events have no number of their transaction: the transaction by the changes that it made
	called map[uint64]uint64   // by the journal's number of a transaction: the stream's
	group  []placed            // of the messages so far of a group that is not complete
}

// placed is a change of a group. Its messages hold one subject each, so the log's order is that of the positions.
type placed struct {
	change
	position event.Position
	tx       uint64
	at       int64 // Unix milliseconds
}

func newTransactions(r *Report, tables map[string]*equal.Table, reread []string) *transactions {
	return &transactions{r: r, tables: tables, reread: reread, seed: maphash.MakeSeed(), have: map[uint64]digest{},
		by: map[int64]uint64{}, called: map[uint64]uint64{}}
}

// transaction is the number by which an event's transaction is known here. That of MySQL and MariaDB has none, and is known by its GTID.
func (t *transactions) transaction(e *event.Event) uint64 {
	if e.TxID != 0 || e.Position.Origin == "" {
		return e.TxID
	}
	id := maphash.String(t.seed, fmt.Sprintf("%s:%d", e.Position.Origin, e.Position.Commit))
	if v, ok := e.After.Column(changeColumn); ok && t.only == nil {
		if change, err := v.Int64(); err == nil {
			if _, twice := t.by[change]; !twice {
				t.by[change] = id
			}
		}
	}
	return id
}

// call finds out what the stream calls the journal's transactions. One of which it has nothing keeps its number.
func (t *transactions) call(journal Entries) error {
	for e, err := range journal {
		if err != nil {
			return err
		}
		if _, known := t.called[e.XID]; known || e.Change == 0 {
			continue
		}
		if id, ok := t.by[e.Change]; ok {
			t.called[e.XID] = id
		}
	}
	return nil
}

func (t *transactions) message(m *event.Message, events []event.Event) {
	if !m.Marker() && m.Group.K == 1 { // of a group before it, that was left behind
		t.sort()
	}
	for i := range events {
		e := &events[i]
		if e.Snapshot || e.Op == event.Truncate || e.Op == event.Mark {
			continue
		}
		tx := t.transaction(e)
		if t.only != nil {
			if _, wanted := t.only[tx]; !wanted {
				continue
			}
		}
		c, err := published(e, t.tables[e.Table.Name])
		if err != nil {
			if t.only == nil {
				t.r.Found(Differing, "message %d: %v", m.Sequence, err)
			}
			continue
		}
		t.group = append(t.group, placed{c, e.Position, tx, e.CommitMS})
	}
	if !m.Marker() && m.Group.Complete() {
		t.sort()
	}
}

// sort takes the changes of a group into their transactions.
func (t *transactions) sort() {
	slices.SortStableFunc(t.group, func(a, b placed) int { return a.position.Compare(b.position) })
	for i := range t.group {
		p := &t.group[i]
		if t.only != nil {
			t.only[p.tx] = append(t.only[p.tx], p.change)
			continue
		}
		d := t.have[p.tx]
		t.add(&d, &p.change)
		d.at = p.at
		t.have[p.tx] = d
	}
	t.group = t.group[:0]
}

func (t *transactions) end() { t.sort() }

func (t *transactions) add(d *digest, c *change) {
	var h maphash.Hash
	h.SetSeed(t.seed)
	fmt.Fprintf(&h, "%d %q %q %q", d.hash, c.op, c.table, c.key)
	if c.row != nil {
		for _, column := range t.tables[c.table].Columns {
			if !slices.Contains(t.reread, column) {
				fmt.Fprintf(&h, " %q", c.row[column])
			}
		}
	}
	d.hash = h.Sum64()
	d.changes++
}

// most is how many transactions that differ are read again; of the others the number of changes tells.
const most = 1000

// compare holds the journal against what was read.
func (t *transactions) compare(journal Entries, messages Messages, exceptions History) error {
	if len(t.by) > 0 {
		if err := t.call(journal); err != nil {
			return err
		}
	}
	suspects := map[uint64][]change{}
	err := t.each(journal, nil, func(xid uint64, when span, want []change) {
		var w digest
		for i := range want {
			t.add(&w, &want[i])
		}
		have := t.have[xid]
		delete(t.have, xid)
		if have.changes == w.changes && have.hash == w.hash {
			return
		}
		if len(suspects) < most {
			suspects[xid] = nil
			return
		}
		for range w.changes - have.changes {
			t.r.breach(exceptions, Lost, "", when, "transaction %d holds %d changes of %d", xid, have.changes, w.changes)
		}
		for range have.changes - w.changes {
			t.r.breach(exceptions, Duplicated, "", when, "transaction %d holds %d changes of %d", xid, have.changes, w.changes)
		}
		if have.changes == w.changes {
			t.r.breach(exceptions, Differing, "", when, "transaction %d is different", xid)
		}
	})
	if err != nil {
		return err
	}
	for xid, d := range t.have {
		for range d.changes {
			t.r.breach(exceptions, Duplicated, "", moment(time.UnixMilli(d.at)), "transaction %d with %d changes is in the stream and not in the journal", xid, d.changes)
		}
	}
	if len(suspects) == 0 {
		return nil
	}
	t.only = suspects
	if err := (&Report{}).walk(messages, t); err != nil {
		return err
	}
	return t.each(journal, suspects, func(xid uint64, when span, want []change) {
		t.r.transaction(xid, when, want, suspects[xid], t.reread, exceptions)
	})
}

// each calls f for each transaction of the journal, or those in `only`.
func (t *transactions) each(journal Entries, only map[uint64][]change, f func(xid uint64, when span, want []change)) error {
	var want []change
	var xid uint64
	var when span
	flush := func() {
		if len(want) > 0 {
			f(xid, when, want)
		}
		want = nil
	}
	for e, err := range journal {
		if err != nil {
			return err
		}
		if id, ok := t.called[e.XID]; ok {
			e.XID = id
		}
		if _, wanted := only[e.XID]; only != nil && !wanted {
			continue
		}
		if e.XID != xid {
			flush()
			xid, when = e.XID, span{began: e.At, first: e.ID}
		}
		when.ended, when.last = e.At, e.ID
		changes, err := expected(&e, t.tables[e.Table])
		if err != nil {
			return fmt.Errorf("journal: transaction %d: %w", e.XID, err)
		}
		want = append(want, changes...)
	}
	flush()
	return nil
}

// transaction counts what is wrong with one. A change that the journal has more often than the stream is lost, the other way round it
// is duplicated; where both have the same ones, each that is not in its place is disordered.
func (r *Report) transaction(xid uint64, when span, want, have []change, reread []string, exceptions History) {
	say := func(p Promise, format string, args ...any) {
		r.breach(exceptions, p, "", when, "transaction %d: "+format, append([]any{xid}, args...)...)
	}
	balance := map[string]int{}
	for i := range have {
		balance[have[i].String()]++
	}
	kept := make([]*change, 0, len(want)) // of the journal, those that the stream has
	for i := range want {
		w := &want[i]
		if balance[w.String()] == 0 {
			say(Lost, "%s is not in the stream", w)
			continue
		}
		balance[w.String()]--
		kept = append(kept, w)
	}
	got := make([]*change, 0, len(have)) // of the stream, without what is too many: the later ones
	for i := len(have) - 1; i >= 0; i-- {
		h := &have[i]
		if balance[h.String()] > 0 {
			balance[h.String()]--
			say(Duplicated, "%s is in the stream more often than it was committed", h)
			continue
		}
		got = append(got, h)
	}
	slices.Reverse(got)
	for i, w := range kept {
		if !w.same(got[i]) {
			say(Disordered, "change %d is %s, want %s", i+1, got[i], w)
			continue
		}
		for column, v := range w.row {
			if have := got[i].row[column]; have != v && !slices.Contains(reread, column) {
				say(Differing, "%s: %s is %s, want %s", w, column, have, v)
			}
		}
	}
}
