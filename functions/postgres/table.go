package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// table is what the target's catalog says of a table.
type table struct {
	oid        uint32
	kind       string // relkind
	owned      bool   // we may alter it
	writable   bool
	columns    []*column
	unique     []index
	obstacles  []obstacle
	foreign    bool              // it refers to other tables
	referenced bool              // other tables refer to it
	equal      map[string]string // the key's columns: how the unique index compares them
}

// column of a target.
type column struct {
	name, typ string // type with its modifiers, as format_type prints it
	base      string // a domain's base type; else empty
	notNull   bool
	hasValue  bool // a default, an identity or an expression: it may be left out
	identity  byte // 'a' always, 'd' by default
	generated bool
	exact     bool // equal values are identical
}

// index that is unique.
type index struct {
	name    string
	columns []string
	equal   []string // operator of each column
	usable  bool     // for ON CONFLICT: valid, immediate, neither partial nor of an expression
	plain   bool     // neither partial nor of an expression
}

// obstacle is a constraint that rows of different partitions would break against each other.
type obstacle struct{ what, drop string }

func (t *table) column(name string) *column {
	for _, c := range t.columns {
		if c.name == name {
			return c
		}
	}
	return nil
}

const tableQuery = `SELECT c.oid, c.relkind::text, pg_has_role(c.relowner, 'USAGE'),
	has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
	AND has_table_privilege(c.oid, 'DELETE') AND has_table_privilege(c.oid, 'TRUNCATE'),
	EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f'), EXISTS (SELECT FROM pg_constraint f WHERE f.confrelid = c.oid AND f.contype = 'f')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`

// Types whose equal values are the same bytes, so that a key never has to be written again in another spelling.
const columnQuery = `SELECT a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE '' END,
	a.attnotnull, a.atthasdef OR a.attidentity <> '', a.attidentity::text, a.attgenerated <> '',
	t.typname IN ('int2', 'int4', 'int8', 'uuid', 'bool', 'date', 'timestamp', 'timestamptz', 'bytea', 'oid', 'text', 'varchar') AND coalesce(l.collisdeterministic, true)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`

const indexQuery = `SELECT c.relname,
	ARRAY(SELECT coalesce(a.attname, '') FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, n) LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
		WHERE k.n <= i.indnkeyatts ORDER BY k.n)::text[],
	ARRAY(SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname) FROM unnest(i.indclass::oid[]) WITH ORDINALITY k(oid, n) JOIN pg_opclass p ON p.oid = k.oid
		JOIN pg_amop m ON m.amopfamily = p.opcfamily AND m.amoplefttype = p.opcintype AND m.amoprighttype = p.opcintype AND m.amopstrategy = 3
		JOIN pg_operator o ON o.oid = m.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace ORDER BY k.n)::text[],
	i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL, i.indpred IS NULL AND i.indexprs IS NULL
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1 AND i.indisunique`

const obstacleQuery = `SELECT CASE contype WHEN 'f' THEN 'foreign key ' ELSE 'exclusion constraint ' END || quote_ident(conname), quote_ident(conname)
FROM pg_constraint WHERE conrelid = $1 AND contype IN ('f', 'x') AND conparentid = 0 ORDER BY conname`

// readTable looks a table up; nil if there is none.
func readTable(ctx context.Context, q queryer, id ident) (*table, error) {
	t := &table{equal: map[string]string{}}
	err := q.QueryRow(ctx, tableQuery, id.schema, id.name).Scan(&t.oid, &t.kind, &t.owned, &t.writable, &t.foreign, &t.referenced)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, columnQuery, t.oid)
	if err != nil {
		return nil, err
	}
	t.columns, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (*column, error) {
		c, identity := &column{}, ""
		err := r.Scan(&c.name, &c.typ, &c.base, &c.notNull, &c.hasValue, &identity, &c.generated, &c.exact)
		if identity != "" {
			c.identity = identity[0]
		}
		return c, err
	})
	if err != nil {
		return nil, err
	}
	if rows, err = q.Query(ctx, indexQuery, t.oid); err != nil {
		return nil, err
	}
	t.unique, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (index, error) {
		var i index
		return i, r.Scan(&i.name, &i.columns, &i.equal, &i.usable, &i.plain)
	})
	if err != nil {
		return nil, err
	}
	if rows, err = q.Query(ctx, obstacleQuery, t.oid); err != nil {
		return nil, err
	}
	t.obstacles, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (obstacle, error) {
		var what, name string
		err := r.Scan(&what, &name)
		return obstacle{what, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s;", id, name)}, err
	})
	return t, err
}

// arbiter is the unique index on exactly these columns.
func (t *table) arbiter(keys []string) *index {
	for i := range t.unique {
		if x := &t.unique[i]; x.usable && len(x.columns) == len(keys) && x.covers(keys) {
			return x
		}
	}
	return nil
}

// covers says whether all of the names are among the index's columns.
func (x *index) covers(names []string) bool {
	for _, n := range names {
		if !slices.Contains(x.columns, n) {
			return false
		}
	}
	return true
}
