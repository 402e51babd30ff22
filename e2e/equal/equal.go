// Package equal compares every row of a source table with what a target holds, value by value. It knows nothing of Runnel.
package equal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Table is a table of the source: its columns with their types, and its rows.
type Table struct {
	Name    string
	Key     []string
	Types   map[string]string // column to type, as format_type prints it
	Columns []string
	Rows    Rows
}

// Rows are canonical values by key and column.
type Rows map[string]map[string]string

// Source reads a table of PostgreSQL in schema public.
func Source(ctx context.Context, url, table string, key []string) (*Table, error) {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	defer c.Close(ctx)
	t := &Table{Name: table, Key: key, Types: map[string]string{}}
	rows, err := c.Query(ctx, `select attname, format_type(atttypid, atttypmod) from pg_attribute
		where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`, pgx.Identifier{"public", table}.Sanitize())
	if err != nil {
		return nil, fmt.Errorf("compare: columns of %s: %w", table, err)
	}
	var name, typ string
	if _, err := pgx.ForEachRow(rows, []any{&name, &typ}, func() error {
		t.Columns = append(t.Columns, name)
		t.Types[name] = typ
		return nil
	}); err != nil {
		return nil, fmt.Errorf("compare: columns of %s: %w", table, err)
	}
	t.Rows, err = t.postgres(ctx, c, "public", table)
	return t, err
}

// Postgres reads the table's copy in another PostgreSQL.
func (t *Table) Postgres(ctx context.Context, url, schema, table string) (Rows, error) {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	defer c.Close(ctx)
	return t.postgres(ctx, c, schema, table)
}

func (t *Table) postgres(ctx context.Context, c *pgx.Conn, schema, table string) (Rows, error) {
	if _, err := c.Exec(ctx, "set timezone to 'UTC'"); err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	rows, err := c.Query(ctx, "select row_to_json(_row)::text from "+pgx.Identifier{schema, table}.Sanitize()+" _row")
	if err != nil {
		return nil, fmt.Errorf("compare: read %s: %w", table, err)
	}
	out := Rows{}
	var doc string
	_, err = pgx.ForEachRow(rows, []any{&doc}, func() error { return t.add(out, []byte(doc)) })
	if err != nil {
		return nil, fmt.Errorf("compare: read %s: %w", table, err)
	}
	return out, nil
}

// Diff lists the differences, the first `most` of them.
func (t *Table) Diff(target string, got Rows, most int) []string {
	_, out := t.Differing(target, got, most)
	return out
}

// Differing counts the rows that are different, and says how, one text for each of the first `most`.
func (t *Table) Differing(target string, got Rows, most int) (rows int, texts []string) {
	say := func(format string, args ...any) {
		if rows++; rows <= most {
			texts = append(texts, fmt.Sprintf(format, args...))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(t.Rows)) {
		row, ok := got[k]
		if !ok {
			say("%s: %s %s is missing", target, t.Name, k)
			continue
		}
		var different []string
		for _, c := range t.Columns {
			if want, have := t.Rows[k][c], row[c]; want != have {
				different = append(different, fmt.Sprintf("%s is %s, want %s", c, short(have), short(want)))
			}
		}
		if len(different) > 0 {
			say("%s: %s %s: %s", target, t.Name, k, strings.Join(different, "; "))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := t.Rows[k]; !ok {
			say("%s: %s %s should not be there", target, t.Name, k)
		}
	}
	return rows, texts
}

// Canonical brings one JSON row of the table into its canonical values; columns that it lacks are "absent".
func (t *Table) Canonical(doc []byte) (map[string]string, error) {
	values, err := object(doc)
	if err != nil {
		return nil, err
	}
	row := make(map[string]string, len(t.Columns))
	for _, c := range t.Columns {
		v, ok := values[c]
		if !ok {
			row[c] = "absent"
			continue
		}
		if row[c], err = canonical(t.Types[c], v); err != nil {
			return nil, fmt.Errorf("column %s: %w", c, err)
		}
	}
	return row, nil
}

// KeyOf is a canonical row's key.
func (t *Table) KeyOf(row map[string]string) string {
	key := make([]string, len(t.Key))
	for i, c := range t.Key {
		key[i] = row[c]
	}
	return strings.Join(key, ",")
}

// add stores one JSON row.
func (t *Table) add(out Rows, doc []byte) error {
	row, err := t.Canonical(doc)
	if err != nil {
		return err
	}
	k := t.KeyOf(row)
	if _, twice := out[k]; twice {
		return fmt.Errorf("key %s is there twice", k)
	}
	out[k] = row
	return nil
}

func short(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
