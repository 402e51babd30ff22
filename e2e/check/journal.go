package check

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Entry is one line of the journal that the shop's triggers write in the same transaction as the change.
type Entry struct {
	XID   uint64
	Op    string // i, u, d
	Table string
	Old   json.RawMessage
	New   json.RawMessage
}

// ReadJournal reads the journal of a shop.
func ReadJournal(ctx context.Context, url string) ([]Entry, error) {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	defer c.Close(ctx)
	rows, err := c.Query(ctx, "select xid, op, tbl, old, new from journal order by id")
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (e Entry, err error) {
		var xid int64
		err = r.Scan(&xid, &e.Op, &e.Table, &e.Old, &e.New)
		e.XID = uint64(xid)
		return e, err
	})
}

// change is what both sides are brought to: an operation on a key, with the row after it.
type change struct {
	op, table, key string
	row            map[string]string
}

// Journal compares the stream with the source's own history, transaction by transaction: each committed change is there
// exactly once, in its order, with its values, and nothing else is. Columns in `reread` may be newer than the change (TOAST
// values that the log leaves out).
func Journal(all []*event.Message, journal []Entry, tables map[string]*equal.Table, reread ...string) []string {
	var wrong []string
	say := func(format string, args ...any) {
		if len(wrong) < 20 {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	want, order := map[uint64][]change{}, []uint64{}
	for _, e := range journal {
		changes, err := expected(e, tables[e.Table])
		if err != nil {
			say("journal: %v", err)
			continue
		}
		if want[e.XID] == nil {
			order = append(order, e.XID)
		}
		want[e.XID] = append(want[e.XID], changes...)
	}
	have := map[uint64][]change{}
	for _, m := range all {
		events, err := m.Decode(nil)
		if err != nil {
			say("message %d: %v", m.Sequence, err)
			continue
		}
		for _, e := range events {
			if e.Snapshot || e.Op == event.Truncate || e.Op == event.Mark {
				continue
			}
			c, err := published(&e, tables[e.Table.Name])
			if err != nil {
				say("message %d: %v", m.Sequence, err)
				continue
			}
			have[e.TxID] = append(have[e.TxID], c)
		}
	}
	for _, xid := range order {
		w, h := want[xid], have[xid]
		delete(have, xid)
		for i := range max(len(w), len(h)) {
			switch {
			case i >= len(h):
				say("gap: transaction %d: %s of %s %s is not in the stream", xid, w[i].op, w[i].table, w[i].key)
			case i >= len(w):
				say("duplicate: transaction %d: %s of %s %s was not committed", xid, h[i].op, h[i].table, h[i].key)
			case w[i].op != h[i].op || w[i].table != h[i].table || w[i].key != h[i].key:
				say("order: transaction %d: change %d is %s of %s %s, want %s of %s %s", xid, i+1, h[i].op, h[i].table, h[i].key, w[i].op, w[i].table, w[i].key)
			default:
				for column, v := range w[i].row {
					if got := h[i].row[column]; got != v && !slices.Contains(reread, column) {
						say("value: transaction %d: %s %s: %s is %s, want %s", xid, w[i].table, w[i].key, column, got, v)
					}
				}
			}
		}
	}
	for xid, h := range have {
		say("transaction %d with %d changes is in the stream and not in the journal", xid, len(h))
	}
	return wrong
}

func expected(e Entry, t *equal.Table) ([]change, error) {
	var before, after map[string]string
	var err error
	if e.Old != nil {
		if before, err = t.Canonical(e.Old); err != nil {
			return nil, err
		}
	}
	if e.New != nil {
		if after, err = t.Canonical(e.New); err != nil {
			return nil, err
		}
	}
	switch {
	case e.Op == "i":
		return []change{{"c", e.Table, t.KeyOf(after), after}}, nil
	case e.Op == "d":
		return []change{{"d", e.Table, t.KeyOf(before), nil}}, nil
	case t.KeyOf(before) == t.KeyOf(after):
		return []change{{"u", e.Table, t.KeyOf(after), after}}, nil
	default: // another key: the old row goes, the new one comes
		return []change{{"d", e.Table, t.KeyOf(before), nil}, {"c", e.Table, t.KeyOf(after), after}}, nil
	}
}

func published(e *event.Event, t *equal.Table) (change, error) {
	if t == nil {
		return change{}, fmt.Errorf("a change of %s, which is not captured", e.Table)
	}
	row, err := t.Canonical(e.Key().Raw())
	if err != nil {
		return change{}, err
	}
	c := change{op: e.Op.String(), table: e.Table.Name, key: t.KeyOf(row)}
	if e.Op != event.Delete {
		c.row = row
	}
	return c, nil
}
