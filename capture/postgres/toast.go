package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Bounds of what is read again at once. The sizes are not known before: the number of rows follows what came the last time.
const (
	toastRows  = 256
	toastBytes = 4 << 20
)

// toast remembers changes whose rows lack values that the server did not send, because they are stored out of line and did
// not change.
type toast struct {
	pending []incomplete
	limit   int // of pending
}

// incomplete is a change that lacks values.
type incomplete struct {
	change  int
	rel     *relation
	missing []int
	key     []string // texts, in key order
	xid     uint64
}

func (t *toast) add(rel *relation, change int, fields []field, xid uint64) {
	x := incomplete{change: change, rel: rel, xid: xid}
	for i, f := range fields {
		if f.kind == 'u' {
			x.missing = append(x.missing, i)
		}
	}
	for _, i := range rel.schema.KeyColumns() {
		if fields[i].kind != 't' {
			x.key = nil
			break
		}
		x.key = append(x.key, string(fields[i].text))
	}
	t.pending = append(t.pending, x)
}

// drop forgets the change with that index, which is not given.
func (t *toast) drop(change int) {
	if n := len(t.pending) - 1; n >= 0 && t.pending[n].change == change {
		t.pending = t.pending[:n]
	}
}

// complete reads the missing values again, one query for each table and set of columns. A newer value does no harm: the
// change that made it follows. A row that is gone was deleted or got another key later in the log: the column is left out.
func (d *decoder) complete(ctx context.Context) error {
	t := &d.toast
	if len(t.pending) == 0 {
		return nil
	}
	size := 0
	for len(t.pending) > 0 {
		first := t.pending[0]
		var batch, rest []incomplete
		for _, x := range t.pending {
			if x.rel == first.rel && slices.Equal(x.missing, first.missing) {
				batch = append(batch, x)
			} else {
				rest = append(rest, x)
			}
		}
		n, err := d.completeBatch(ctx, batch)
		if err != nil {
			return fmt.Errorf("read unchanged values of %s again: %w", first.rel.schema.Table, err)
		}
		size += n
		t.pending = rest
	}
	switch {
	case size > toastBytes:
		t.limit = max(1, t.limit/2)
	case size < toastBytes/4:
		t.limit = min(toastRows, t.limit*2)
	}
	return nil
}

func (d *decoder) completeBatch(ctx context.Context, batch []incomplete) (size int, err error) {
	rel := batch[0].rel
	var found map[string]event.Row
	if batch[0].key != nil {
		if found, err = d.log.reread(ctx, batch); err != nil {
			return 0, err
		}
	}
	for _, x := range batch {
		c := &d.changes[x.change]
		row, ok := event.Row{}, false
		if x.key != nil {
			if d.key, err = rel.schema.AppendKey(d.key[:0], event.RowOf(c.After)); err != nil {
				return 0, err
			}
			row, ok = found[string(d.key)]
		}
		if !ok {
			for _, i := range x.missing {
				c.Unavailable = append(c.Unavailable, rel.columns[i].name)
			}
			continue
		}
		if err := d.insertValues(rel, x, c, row); err != nil {
			return 0, err
		}
		size += len(c.After)
	}
	return size, nil
}

// insertValues makes the row anew, in table order.
func (d *decoder) insertValues(rel *relation, x incomplete, c *event.Change, again event.Row) error {
	after := event.RowOf(c.After)
	b := make([]byte, 0, len(c.After)+len(again.Raw()))
	b = append(b, '{')
	for i := range rel.columns {
		col := &rel.columns[i]
		v, ok := after.Column(col.name)
		if slices.Contains(x.missing, i) {
			v, ok = again.Column(col.name)
		}
		if !ok {
			return fmt.Errorf("column %s was not found", col.name)
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(b, col.label...), v...)
	}
	c.After = append(b, '}')
	return nil
}

// reread reads key and missing columns of the rows as they are now. A transaction is in the log before it is visible, under
// synchronous replication for long: until then a SELECT shows what was before it, which may be an older value.
func (l *Log) reread(ctx context.Context, batch []incomplete) (map[string]event.Row, error) {
	sql, args := rereadSQL(batch)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		found, visible, err := l.rereadOnce(ctx, batch[0].rel, sql, args)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(batch, func(x incomplete) bool { return !visible(x.xid) }) {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// rereadSQL gives the snapshot and the rows in one statement, so that they belong together.
func rereadSQL(batch []incomplete) (string, []any) {
	rel := batch[0].rel
	var names, conditions, arrays, aliases []string
	args := make([]any, len(batch[0].key))
	for k, i := range rel.schema.KeyColumns() {
		c := &rel.columns[i]
		names = append(names, c.selected())
		conditions = append(conditions, fmt.Sprintf("s.%s = k.k%d::%s", quote(c.name), k, c.typ.Name))
		arrays = append(arrays, fmt.Sprintf("$%d::text[]", k+1))
		aliases = append(aliases, fmt.Sprintf("k%d", k))
		values := make([]string, len(batch))
		for n, x := range batch {
			values[n] = x.key[k]
		}
		args[k] = values
	}
	for _, i := range batch[0].missing {
		names = append(names, rel.columns[i].selected())
	}
	return fmt.Sprintf(`SELECT p.s, r.j FROM (SELECT pg_catalog.pg_current_snapshot()::text AS s) p LEFT JOIN LATERAL (
	SELECT pg_catalog.row_to_json(__row.*)::text AS j FROM (SELECT DISTINCT %s FROM unnest(%s) AS k(%s)) k
	CROSS JOIN LATERAL (SELECT %s FROM %s s WHERE %s) __row) r ON true`, strings.Join(aliases, ", "), strings.Join(arrays, ", "), strings.Join(aliases, ", "),
		strings.Join(names, ", "), rel.from, strings.Join(conditions, " AND ")), args
}

func (l *Log) rereadOnce(ctx context.Context, rel *relation, sql string, args []any) (map[string]event.Row, func(uint64) bool, error) {
	rows, err := l.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, nil, err
	}
	var snapshot string
	var row []byte
	found := map[string]event.Row{}
	_, err = pgx.ForEachRow(rows, []any{&snapshot, &row}, func() error {
		if row == nil {
			return nil
		}
		line, err := rel.line(slices.Clone(row))
		if err != nil {
			return err
		}
		r := event.RowOf(line)
		key, err := rel.schema.AppendKey(nil, r)
		if err == nil {
			found[string(key)] = r
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	visible, err := parseSnapshot(snapshot)
	return found, visible, err
}
