package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
)

// table is what the catalog says of a table.
type table struct {
	oid         uint32
	name        event.Table
	partitioned bool
	identity    byte     // relreplident: d, n, f or i
	permanent   bool     // neither temporary nor unlogged
	ancestors   []uint32 // of a partition, itself left out
	rows        int64    // an estimate
	key         []string // in key order
	deferrable  bool     // the key is
}

// identified says whether UPDATE and DELETE may be published: PostgreSQL refuses them otherwise.
func (t *table) identified() bool {
	return t.identity == 'f' || (t.identity == 'd' || t.identity == 'i') && len(t.key) > 0 && !t.deferrable
}

// only is FROM's ONLY: what inherits from a plain table is published under its own name.
func (t *table) only() string {
	if t.partitioned {
		return quoteTable(t.name)
	}
	return "ONLY " + quoteTable(t.name)
}

const tablesSQL = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', c.relreplident::text, c.relpersistence = 'p',
	CASE WHEN c.relispartition THEN ARRAY(SELECT a::oid FROM pg_catalog.pg_partition_ancestors(c.oid) a WHERE a <> c.oid) ELSE '{}'::oid[] END,
	CASE WHEN c.relkind = 'p'
		THEN (SELECT coalesce(sum(greatest(l.reltuples, 0)), 0) FROM pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_class l ON l.oid = t.relid WHERE t.isleaf)
		ELSE greatest(c.reltuples, 0) END::bigint,
	coalesce(k.columns, '{}'), coalesce(k.deferrable, false)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
	SELECT NOT i.indimmediate AS deferrable, ARRAY(
		SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(attnum, o)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum
		WHERE u.o <= i.indnkeyatts ORDER BY u.o) AS columns
	FROM pg_catalog.pg_index i
	WHERE i.indrelid = c.oid AND i.indisvalid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
	LIMIT 1) k ON true
WHERE c.relkind IN ('r', 'p')`

// allTables lists the tables of users.
func allTables(ctx context.Context, q querier) ([]*table, error) {
	return queryTables(ctx, q, tablesSQL+` AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'runnel') ORDER BY 2, 3`)
}

// tableByOID is nil for a table that is gone.
func tableByOID(ctx context.Context, q querier, oid uint32) (*table, error) {
	return oneTable(queryTables(ctx, q, tablesSQL+` AND c.oid = $1`, oid))
}

func tableByName(ctx context.Context, q querier, t event.Table) (*table, error) {
	return oneTable(queryTables(ctx, q, tablesSQL+` AND n.nspname = $1 AND c.relname = $2`, t.Schema, t.Name))
}

func oneTable(all []*table, err error) (*table, error) {
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}

func queryTables(ctx context.Context, q querier, sql string, args ...any) ([]*table, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read the tables' catalog: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (*table, error) {
		t := &table{}
		var identity string
		err := r.Scan(&t.oid, &t.name.Schema, &t.name.Name, &t.partitioned, &identity, &t.permanent, &t.ancestors, &t.rows, &t.key, &t.deferrable)
		if err == nil {
			t.identity = identity[0]
		}
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the tables' catalog: %w", err)
	}
	return all, nil
}

// column of a table as the catalog or a Relation message describes it.
type column struct {
	name      string
	oid       uint32
	typmod    int32
	nullable  bool
	generated bool
}

// columnsOf are a table's columns in table order.
func columnsOf(ctx context.Context, q querier, oid uint32) ([]column, error) {
	rows, err := q.Query(ctx, `
SELECT a.attname::text, a.atttypid, a.atttypmod, NOT a.attnotnull, a.attgenerated <> ''
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, oid)
	if err != nil {
		return nil, fmt.Errorf("read a table's columns: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (column, error) {
		var c column
		err := r.Scan(&c.name, &c.oid, &c.typmod, &c.nullable, &c.generated)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("read a table's columns: %w", err)
	}
	return all, nil
}
