package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// errEnough ends a COPY before its end.
var errEnough = errors.New("enough rows")

// Chunk implements capture.Snapshotter.
func (l *Log) Chunk(ctx context.Context, r capture.ChunkRequest) (*capture.Chunk, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer l.leave()
	var chunk *capture.Chunk
	err := l.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		tx, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return err
		}
		chunk, err = l.chunk(ctx, tx, r)
		// Nothing was written. After errEnough the connection is closed already.
		tx.Rollback(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read a chunk of %s: %w", r.Table, err)
	}
	return chunk, nil
}

// enter waits for one of the sessions that snapshots may have.
func (l *Log) enter(ctx context.Context) error {
	select {
	case l.readers <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Log) leave() { <-l.readers }

func (l *Log) chunk(ctx context.Context, tx pgx.Tx, r capture.ChunkRequest) (*capture.Chunk, error) {
	// The table is locked before the snapshot is taken: the structure that is read then is that of the rows, and no
	// rewrite of the table, which a snapshot sees as empty, comes in between.
	if _, err := tx.Exec(ctx, "LOCK TABLE ONLY "+quoteTable(r.Table)+" IN ACCESS SHARE MODE"); err != nil {
		return nil, err
	}
	chunk := &capture.Chunk{}
	var err error
	if chunk.Visible, chunk.ReadMS, err = currentSnapshot(ctx, tx); err != nil {
		return nil, err
	}
	p, err := l.publishedTable(ctx, tx, r.Table)
	if err != nil {
		return nil, err
	}
	rel, _, err := l.snapshotRelation(ctx, tx, p)
	if err != nil {
		return nil, err
	}
	chunk.Schema = rel.schema
	page, err := newPage(ctx, tx, rel)
	if err != nil {
		return nil, err
	}
	sql, err := page.sql(p.filter, r)
	if err != nil {
		return nil, err
	}
	var last []string
	size := 0
	out := &copyLines{line: func(fields [][]byte) error {
		if len(fields) != len(page.key)+1 {
			return fmt.Errorf("COPY gave %d columns, want %d", len(fields), len(page.key)+1)
		}
		if size > 0 && r.MaxBytes > 0 && size+len(fields[len(page.key)]) > r.MaxBytes {
			return errEnough
		}
		row, err := rel.row(slices.Clone(fields[len(page.key)]))
		if err != nil {
			return err
		}
		last = last[:0]
		for _, f := range fields[:len(page.key)] {
			last = append(last, string(f))
		}
		size += len(row.JSON)
		chunk.Rows = append(chunk.Rows, row)
		return nil
	}}
	_, err = tx.Conn().PgConn().CopyTo(ctx, out, sql)
	full := r.MaxRows > 0 && len(chunk.Rows) == r.MaxRows
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if full || err != nil {
		next, err := json.Marshal(last)
		if err != nil {
			return nil, err
		}
		chunk.Next = string(next)
	}
	return chunk, nil
}

// row makes what a snapshot gives of what row_to_json printed.
func (rel *relation) row(raw []byte) (capture.ChunkRow, error) {
	line, err := rel.line(raw)
	if err != nil {
		return capture.ChunkRow{}, err
	}
	key, err := rel.schema.AppendKey(nil, event.RowOf(line))
	return capture.ChunkRow{Key: key, JSON: line}, err
}

// currentSnapshot gives what the transaction sees, and the server's clock.
func currentSnapshot(ctx context.Context, q querier) (visible func(uint64) bool, ms int64, err error) {
	var s string
	err = q.QueryRow(ctx, `SELECT pg_catalog.pg_current_snapshot()::text, (extract(epoch FROM clock_timestamp()) * 1000)::bigint`).Scan(&s, &ms)
	if err == nil {
		visible, err = parseSnapshot(s)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the snapshot: %w", err)
	}
	return visible, ms, nil
}

// page reads a table in key order.
type page struct {
	rel *relation
	key []keyColumn
}

// keyColumn and the operators of its type's default order. They are found by name only while they are in pg_catalog, since
// search_path is empty.
type keyColumn struct {
	*relColumn
	schema string
}

const operatorSchemaSQL = `
WITH RECURSIVE base(oid) AS (SELECT $1::oid UNION ALL SELECT t.typbasetype FROM pg_catalog.pg_type t JOIN base b ON t.oid = b.oid WHERE t.typtype = 'd')
SELECT coalesce((SELECT n.nspname::text FROM base b
	JOIN pg_catalog.pg_opclass c ON c.opcintype = b.oid AND c.opcdefault JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
	JOIN pg_catalog.pg_amop o ON o.amopfamily = c.opcfamily AND o.amoplefttype = b.oid AND o.amoprighttype = b.oid AND o.amopstrategy = 5
	JOIN pg_catalog.pg_operator p ON p.oid = o.amopopr JOIN pg_catalog.pg_namespace n ON n.oid = p.oprnamespace LIMIT 1), 'pg_catalog')`

func newPage(ctx context.Context, q querier, rel *relation) (*page, error) {
	p := &page{rel: rel}
	for _, i := range rel.schema.KeyColumns() {
		k := keyColumn{relColumn: &rel.columns[i]}
		if err := q.QueryRow(ctx, operatorSchemaSQL, k.oid).Scan(&k.schema); err != nil {
			return nil, fmt.Errorf("find the order of key column %s: %w", k.name, err)
		}
		p.key = append(p.key, k)
	}
	if len(p.key) == 0 {
		return nil, errors.New("a table without a key has no order to read it in")
	}
	return p, nil
}

// sql selects the key's texts and the row. COPY takes no parameters, so the key stands in it as literals.
func (p *page) sql(filter string, r capture.ChunkRequest) (string, error) {
	var conditions, texts, order []string
	for _, c := range []string{filter, r.Where} {
		if c != "" {
			conditions = append(conditions, "("+c+")")
		}
	}
	for n, k := range p.key {
		texts = append(texts, fmt.Sprintf("pg_catalog.format('%%s', s.%s) AS k%d", quote(k.name), n))
		order = append(order, "s."+quote(k.name))
	}
	if r.After != "" {
		var after []string
		if err := json.Unmarshal([]byte(r.After), &after); err != nil || len(after) != len(p.key) {
			return "", fmt.Errorf("the chunk before ended at %q, which is no key of %d columns", r.After, len(p.key))
		}
		conditions = append(conditions, p.beyond(after))
	}
	if len(r.Keys) > 0 {
		listed, err := p.listed(r)
		if err != nil {
			return "", err
		}
		conditions = append(conditions, listed)
	}
	where, limit := "", ""
	if len(conditions) > 0 {
		where = " WHERE " + strings.Join(conditions, " AND ")
	}
	if r.MaxRows > 0 {
		limit = fmt.Sprintf(" LIMIT %d", r.MaxRows)
	}
	// The page is cut before rows become JSON.
	return fmt.Sprintf("COPY (SELECT %s, j.j FROM (SELECT s.* FROM %s s%s ORDER BY %s%s) s CROSS JOIN LATERAL (SELECT pg_catalog.row_to_json(__row.*) AS j FROM (SELECT %s) __row) j ORDER BY %s) TO STDOUT",
		strings.Join(texts, ", "), p.rel.from, where, strings.Join(order, ", "), limit, p.rel.selection(), strings.Join(order, ", ")), nil
}

// ReadsKeys implements capture.KeyReader.
func (l *Log) ReadsKeys() {}

// listed is the condition of rows with one of some keys. What a key looks like as JSON the server reads itself.
func (p *page) listed(r capture.ChunkRequest) (string, error) {
	var rows, keys []string
	for _, k := range p.key {
		rows, keys = append(rows, "s."+quote(k.name)), append(keys, "x."+quote(k.name))
	}
	list, err := json.Marshal(r.Keys)
	if err != nil {
		return "", fmt.Errorf("keys of %s: %w", r.Table, err)
	}
	return fmt.Sprintf("(%s) IN (SELECT %s FROM pg_catalog.json_populate_recordset(NULL::%s, %s) x)",
		strings.Join(rows, ", "), strings.Join(keys, ", "), quoteTable(r.Table), literal(string(list))), nil
}

// selection of all columns from s.
func (rel *relation) selection() string {
	names := make([]string, len(rel.columns))
	for i := range rel.columns {
		names[i] = rel.columns[i].selected()
	}
	return strings.Join(names, ", ")
}

// beyond is the condition of rows after a key: a row comparison, which an index answers. Where an operator is not in
// pg_catalog (citext) the comparison is spelled out.
func (p *page) beyond(after []string) string {
	value := func(n int) string { return literal(after[n]) + "::" + p.key[n].typ.Name }
	if !slices.ContainsFunc(p.key, func(k keyColumn) bool { return k.schema != "pg_catalog" }) {
		var names, values []string
		for n, k := range p.key {
			names = append(names, "s."+quote(k.name))
			values = append(values, value(n))
		}
		return fmt.Sprintf("(%s) > (%s)", strings.Join(names, ", "), strings.Join(values, ", "))
	}
	var alternatives []string
	for n, k := range p.key {
		var all []string
		for m, equal := range p.key[:n] {
			all = append(all, fmt.Sprintf("s.%s OPERATOR(%s.=) %s", quote(equal.name), quote(equal.schema), value(m)))
		}
		all = append(all, fmt.Sprintf("s.%s OPERATOR(%s.>) %s", quote(k.name), quote(k.schema), value(n)))
		alternatives = append(alternatives, "("+strings.Join(all, " AND ")+")")
	}
	return "(" + strings.Join(alternatives, " OR ") + ")"
}
