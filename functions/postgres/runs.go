package postgres

import (
	"slices"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// inOrder makes items of events, none of which takes the place of another: each row goes through all the states that it had.
func (w *writer) inOrder(events []event.Event, p *partition, planOf func(*event.Schema) (*plan, error), covered func(*event.Event) bool) ([]badEvent, error) {
	w.reset(events)
	var bad []badEvent
	var schema *event.Schema
	g := int32(-1)
	for i := range events {
		e := &events[i]
		if covered(e) {
			continue
		}
		if e.Schema != schema {
			pl, err := planOf(e.Schema)
			if err != nil {
				return nil, err
			}
			g, schema = w.groupOf(p, pl), e.Schema
		}
		it, err := w.item(int32(i), g, e)
		switch {
		case sink.IsHalt(err):
			return nil, err
		case err != nil:
			bad = append(bad, badEvent{int32(i), err})
		case it.kind == insert:
			w.items = append(w.items, it)
		case w.rekeys(i, g):
			it.kind, it.was = rekey, int32(i)-1
			w.items[len(w.items)-1] = it // of the delete
		default:
			w.chain(&it)
		}
	}
	for i := range w.items {
		w.order = append(w.order, int32(i))
	}
	return bad, nil
}

// rekeys says whether an event is the second half of a key's change, whose first half is the item before. As a delete and an
// insert it would take with it, or fail on, rows of other tables that refer to the key.
func (w *writer) rekeys(i int, g int32) bool {
	if i == 0 || len(w.items) == 0 || w.groups[g].plan.rekey == "" {
		return false
	}
	before, e, last := &w.events[i-1], &w.events[i], &w.items[len(w.items)-1]
	was, is := before.Position, e.Position
	was.Part, is.Part = 0, 0
	return before.Op == event.Delete && e.Op == event.Create && before.Position.Part == 0 && e.Position.Part == 1 && was == is && !is.IsZero() &&
		last.kind == remove && last.group == g && int(last.event) == i-1 && len(e.Unavailable) == 0
}

// emitRuns makes statements for items in their order: what follows each other and is of one kind, with no key twice, is one statement,
// which PostgreSQL executes row by row.
func (w *writer) emitRuns(items []int32) {
	w.buf, w.statements = w.buf[:0], w.statements[:0]
	for from := 0; from < len(items); {
		first := &w.items[items[from]]
		g := &w.groups[first.group]
		to := w.runFrom(items, from)
		switch run := items[from:to]; first.kind {
		case upsert:
			if g.seen || w.again {
				w.displaced(g.plan, run)
			}
			w.rows(g.plan.target, g.plan.upsert, run, false)
		case insert:
			w.rows(g.plan.target, g.plan.insert, run, false)
		case remove:
			w.rows(g.plan.target, g.plan.remove, run, true)
		case partial:
			w.rows(g.plan.target, g.plan.update(w.events[first.event].Unavailable), run, false)
		case rekey:
			w.rekeyed(g.plan, first)
		}
		from = to
	}
	for i := range w.groups {
		if w.groups[i].seen {
			w.keep(int32(i), items)
		}
	}
}

// displaced takes away rows that are in the way of older states of others: what they are now comes later in the stream.
func (w *writer) displaced(pl *plan, run []int32) {
	for i, sql := range pl.displace {
		if i == 0 {
			w.rows(pl.target, sql, run, false)
			continue
		}
		again := w.statements[len(w.statements)-1]
		again.sql = sql
		w.statements = append(w.statements, again)
	}
}

// runFrom is the end of the run that begins there.
func (w *writer) runFrom(items []int32, from int) int {
	first, to := &w.items[items[from]], from+1
	for ; to < len(items); to++ {
		it := &w.items[items[to]]
		switch {
		case it.kind != first.kind || it.group != first.group || it.kind == rekey || it.earlier >= items[from]:
			return to
		case it.kind == partial && !slices.Equal(w.events[it.event].Unavailable, w.events[first.event].Unavailable):
			return to
		}
	}
	return to
}

func (w *writer) rekeyed(pl *plan, it *item) {
	from := len(w.buf)
	w.buf = append(w.buf, `[{"was":`...)
	w.buf = pl.appendKeys(w.buf, w.events[it.was].Key())
	w.buf = append(w.buf, `,"now":`...)
	w.buf = append(w.buf, w.events[it.event].After.Raw()...)
	w.buf = append(w.buf, `}]`...)
	w.statements = append(w.statements, statement{target: pl.target, sql: pl.rekey, from: from, to: len(w.buf)})
}

// split makes a delete and an insert of a key's change again, where the new key is taken already by what was written before.
func (w *writer) split(it *item) []int32 {
	was, is, n := *it, *it, int32(len(w.items))
	was.event, was.kind = it.was, remove
	is.kind = upsert
	w.items = append(w.items, was, is)
	return []int32{n, n + 1}
}
