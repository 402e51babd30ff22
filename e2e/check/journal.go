package check

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Entry is one line of the journal that the shop's triggers write in the same transaction as the change.
type Entry struct {
	ID    int64 // grows in the order of the changes, not of the commits
	XID   uint64
	At    time.Time // when the change was made
	Op    string    // i, u, d
	Table string
	Old   json.RawMessage
	New   json.RawMessage

	// Change is the number of the row that was written. It is there where XID is no number of the stream: then a transaction is known
	// by its changes, and must have written a row.
	Change int64
}

// Entries yields a journal transaction by transaction, each in its order, and is read anew each time.
type Entries iter.Seq2[Entry, error]

// Committed reads the journal of a shop in PostgreSQL, row by row.
func Committed(ctx context.Context, url string) Entries {
	return func(yield func(Entry, error) bool) {
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			yield(Entry{}, fmt.Errorf("read the journal: %w", err))
			return
		}
		defer c.Close(ctx)
		rows, err := c.Query(ctx, "select id, xid, at, op, tbl, old, new from journal order by xid, id")
		if err != nil {
			yield(Entry{}, fmt.Errorf("read the journal: %w", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var e Entry
			var xid int64
			err := rows.Scan(&e.ID, &xid, &e.At, &e.Op, &e.Table, &e.Old, &e.New)
			e.XID = uint64(xid)
			if !yield(e, err) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(Entry{}, fmt.Errorf("read the journal: %w", err))
		}
	}
}

// EntriesOf yields a journal that is in memory.
func EntriesOf(all []Entry) Entries {
	return func(yield func(Entry, error) bool) {
		for _, e := range slices.SortedStableFunc(slices.Values(all), func(a, b Entry) int { return cmp.Compare(a.XID, b.XID) }) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// change is what both sides are brought to: an operation on a key, with the row after it.
type change struct {
	op, table, key string
	row            map[string]string
}

func (c *change) String() string { return c.op + " of " + c.table + " " + c.key }

func (c *change) same(d *change) bool { return c.op == d.op && c.table == d.table && c.key == d.key }

// expected is what an entry must look like in the stream.
func expected(e *Entry, t *equal.Table) ([]change, error) {
	var before, after map[string]string
	var err error
	if t == nil {
		return nil, fmt.Errorf("a change of %s, which is not captured", e.Table)
	}
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
