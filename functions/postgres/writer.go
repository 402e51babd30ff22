package postgres

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// kind of a write.
type kind uint8

const (
	upsert  kind = iota // the whole row
	remove              // by key
	insert              // the whole row, into a table without a key
	partial             // an update that lacks columns
	rekey               // the row of one key gets another key
)

// item is one write that is left of a span's events.
type item struct {
	event    int32
	group    int32
	earlier  int32 // previous item of the same key, or -1
	next     int32 // next item in the same bucket, or -1
	from, to int32 // the key, in the arena
	was      int32 // of a rekey: the event with the old key
	kind     kind
	dead     bool // a later one wins
}

// group is the share of one version of a table.
type group struct {
	plan  *plan
	seen  bool // a backfill runs: keep keys
	lists [3][]int32
}

// writer turns a span into statements. It is used again and again, so that an event costs no allocation.
type writer struct {
	events     []event.Event
	items      []item
	order      []int32 // what is to be written, in an order that is safe
	groups     []group
	heads      map[uint64]int32 // newest item by the hash of its key
	seed       maphash.Seed
	arena      []byte // keys
	buf        []byte // JSON
	statements []statement
	batch      pgx.Batch
	again      bool  // the target was at newer states of these rows already
	at         ident // the table of the statement that failed; zero: none of the user's
}

func newWriter() *writer { return &writer{heads: map[uint64]int32{}, seed: maphash.MakeSeed()} }

// statement is SQL whose first parameter is a JSON array, a stretch of the writer's buffer.
type statement struct {
	target   ident
	sql      string
	from, to int
	seen     bool // takes function and target as well
}

func (st *statement) queue(b *pgx.Batch, w *writer, function string) {
	if st.seen {
		b.Queue(st.sql, w.buf[st.from:st.to], function, st.target.String())
		return
	}
	b.Queue(st.sql, w.buf[st.from:st.to])
}

// collect finds out what has to be written of the events above a version.
func (w *writer) collect(p *partition, sp *sink.Span, above event.Version, planOf func(*event.Schema) (*plan, error)) ([]badEvent, error) {
	w.reset(sp.Events)
	var bad []badEvent
	var schema *event.Schema // of the event before: mostly the same
	g := int32(-1)
	for i := range sp.Events {
		e := &sp.Events[i]
		if e.Version <= above {
			continue
		}
		if e.Schema == nil {
			return nil, sink.Halt(fmt.Errorf("table %s: event at sequence %d comes without its schema %s", e.Table, e.Sequence, e.Fingerprint))
		}
		if e.Schema != schema {
			pl, err := planOf(e.Schema)
			if err != nil {
				return nil, err
			}
			g, schema = w.groupOf(p, pl), e.Schema
		}
		if err := w.add(int32(i), g, e); err != nil {
			if sink.IsHalt(err) {
				return nil, err
			}
			bad = append(bad, badEvent{int32(i), err})
		}
	}
	w.arrange()
	return bad, nil
}

func (w *writer) reset(events []event.Event) {
	w.events, w.items, w.order, w.arena = events, w.items[:0], w.order[:0], w.arena[:0]
	clear(w.heads)
	for i := range w.groups {
		w.groups[i].plan = nil
	}
	w.groups = w.groups[:0]
	w.at = ident{}
}

// groupOf finds or opens the group of a version of a table.
func (w *writer) groupOf(p *partition, pl *plan) int32 {
	for i := range w.groups {
		if w.groups[i].plan == pl {
			return int32(i)
		}
	}
	if n := len(w.groups); n < cap(w.groups) {
		w.groups = w.groups[:n+1] // with its lists
	} else {
		w.groups = append(w.groups, group{})
	}
	g := &w.groups[len(w.groups)-1]
	g.plan, g.seen = pl, p.backfills[pl.target.String()]
	return int32(len(w.groups) - 1)
}

// add makes an item of a row's event, chained to the earlier ones of its key.
func (w *writer) add(i, g int32, e *event.Event) error {
	it, err := w.item(i, g, e)
	if err != nil {
		return err
	}
	if it.kind == insert {
		w.items = append(w.items, it)
	} else {
		w.link(it)
	}
	return nil
}

func (w *writer) item(i, g int32, e *event.Event) (item, error) {
	pl := w.groups[g].plan
	it := item{event: i, group: g, earlier: -1, next: -1}
	switch e.Op {
	case event.Create, event.Read, event.Update:
		if it.kind = upsert; len(e.Unavailable) > 0 {
			it.kind = partial
		}
	case event.Delete:
		it.kind = remove
	case event.Truncate, event.Mark:
		return it, sink.Halt(fmt.Errorf("table %s: a %s among the events of a batch", e.Table, e.Op))
	default:
		return it, sink.Halt(fmt.Errorf("table %s: unknown operation %q: upgrade this worker", e.Table, e.Op))
	}
	if it.kind != remove && e.After.IsNull() {
		return it, fmt.Errorf("%s without a row", e.Op)
	}
	if len(pl.keys) == 0 {
		if e.Op != event.Create && e.Op != event.Read {
			return it, sink.Halt(fmt.Errorf("table %s has no key, so %s cannot be told apart from its equals: give it a primary key in the source", e.Table, e.Op))
		}
		it.kind = insert
		return it, nil
	}
	row := e.Key()
	from := len(w.arena)
	key, err := e.Schema.AppendKey(w.arena, row)
	w.arena = key[:max(from, len(key))]
	if err != nil {
		w.arena = w.arena[:from]
		return it, err
	}
	it.from, it.to = int32(from), int32(len(w.arena))
	return it, nil
}

// chain appends an item; before that it tells which earlier one has the same key.
func (w *writer) chain(it *item) {
	sum := maphash.Bytes(w.seed, w.arena[it.from:it.to])
	if head, there := w.heads[sum]; there {
		it.next = head
		for o := head; o >= 0; o = w.items[o].next {
			if w.same(&w.items[o], it) {
				it.earlier = o
				break
			}
		}
	}
	w.heads[sum] = int32(len(w.items))
	w.items = append(w.items, *it)
}

// link chains an item behind the one before it with the same key; a whole row or a delete takes the place of all of them.
func (w *writer) link(it item) {
	w.chain(&it)
	if it.kind != partial {
		for o := it.earlier; o >= 0 && !w.items[o].dead; o = w.items[o].earlier {
			w.items[o].dead = true
		}
		w.items[len(w.items)-1].earlier = -1
	}
}

func (w *writer) same(a, b *item) bool {
	return w.groups[a.group].plan.target == w.groups[b.group].plan.target && bytes.Equal(w.arena[a.from:a.to], w.arena[b.from:b.to])
}

// arrange puts whole rows and deletes first, one per key and so in any order; partial updates follow in theirs.
func (w *writer) arrange() {
	for i := range w.items {
		if it := &w.items[i]; !it.dead && it.kind != partial {
			w.order = append(w.order, int32(i))
		}
	}
	for i := range w.items {
		if it := &w.items[i]; !it.dead && it.kind == partial {
			w.order = append(w.order, int32(i))
		}
	}
}

// emit makes the statements for some of the items.
func (w *writer) emit(items []int32) {
	w.buf, w.statements = w.buf[:0], w.statements[:0]
	for i := range w.groups {
		for k := range w.groups[i].lists {
			w.groups[i].lists[k] = w.groups[i].lists[k][:0]
		}
	}
	for _, n := range items {
		if it := &w.items[n]; it.kind != partial {
			l := &w.groups[it.group].lists[it.kind]
			*l = append(*l, n)
		}
	}
	for i := range w.groups {
		g := &w.groups[i]
		w.rows(g.plan.target, g.plan.remove, g.lists[remove], true)
		w.rows(g.plan.target, g.plan.upsert, g.lists[upsert], false)
		w.rows(g.plan.target, g.plan.insert, g.lists[insert], false)
	}
	for from := 0; from < len(items); {
		if w.items[items[from]].kind != partial {
			from++
			continue
		}
		to := w.sameColumns(items, from)
		g := &w.groups[w.items[items[from]].group]
		w.rows(g.plan.target, g.plan.update(w.events[w.items[items[from]].event].Unavailable), items[from:to], false)
		from = to
	}
	for i := range w.groups {
		if w.groups[i].seen {
			w.keep(int32(i), items)
		}
	}
}

// sameColumns is the end of a run of partial updates that one statement can do: the same columns, and no key twice.
func (w *writer) sameColumns(items []int32, from int) int {
	first := &w.items[items[from]]
	lacks := w.events[first.event].Unavailable
	to := from + 1
	for ; to < len(items); to++ {
		it := &w.items[items[to]]
		if it.kind != partial || it.group != first.group || !slices.Equal(w.events[it.event].Unavailable, lacks) {
			break
		}
		if it.earlier >= 0 && slices.Contains(items[from:to], it.earlier) {
			break
		}
	}
	return to
}

// rows makes one statement of some rows: whole ones as they came, or their keys alone.
func (w *writer) rows(t ident, sql string, items []int32, keysOnly bool) {
	if len(items) == 0 {
		return
	}
	from := len(w.buf)
	w.buf = append(w.buf, '[')
	for i, n := range items {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		it := &w.items[n]
		e := &w.events[it.event]
		if keysOnly {
			w.buf = w.groups[it.group].plan.appendKeys(w.buf, e.Key())
		} else {
			w.buf = append(w.buf, e.After.Raw()...)
		}
	}
	w.buf = append(w.buf, ']')
	w.statements = append(w.statements, statement{target: t, sql: sql, from: from, to: len(w.buf)})
}

// keep makes the statement that notes which keys were written, and at which version.
func (w *writer) keep(g int32, items []int32) {
	pl := w.groups[g].plan
	from := len(w.buf)
	w.buf = append(w.buf, '[')
	for _, n := range items {
		it := &w.items[n]
		if it.group != g || it.kind == remove || it.kind == insert {
			continue
		}
		if len(w.buf) > from+1 {
			w.buf = append(w.buf, ',')
		}
		e := &w.events[it.event]
		w.buf = append(w.buf, `{"version":`...)
		w.buf = strconv.AppendInt(w.buf, int64(e.Version), 10)
		w.buf = append(w.buf, `,"key":`...)
		w.buf = pl.appendKeys(w.buf, e.Key())
		w.buf = append(w.buf, '}')
	}
	w.buf = append(w.buf, ']')
	if len(w.buf) > from+2 {
		w.statements = append(w.statements, statement{target: pl.target, sql: pl.keep, from: from, to: len(w.buf), seen: true})
	}
}
