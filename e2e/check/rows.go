package check

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/shop"
)

// Rows are the changes that a target shows, by table and key. The key's columns are joined with commas.
type Rows map[string]map[string]int64

func (r Rows) add(table string, change *int64, key ...string) {
	if r[table] == nil {
		r[table] = map[string]int64{}
	}
	if change != nil { // else the row comes from before the column
		r[table][strings.Join(key, ",")] = *change
	}
}

// PostgresRows looks at the shop's tables in a schema. It keeps its connection until ctx of a call ends it, or it fails.
func PostgresRows(url, schema string) (look func(ctx context.Context) (Rows, error), end func()) {
	var c *pgx.Conn
	end = func() {
		if c != nil {
			c.Close(context.Background())
			c = nil
		}
	}
	return func(ctx context.Context) (rows Rows, err error) {
		defer func() {
			if err != nil {
				end()
			}
		}()
		if c == nil {
			if c, err = pgx.Connect(ctx, url); err != nil {
				return nil, fmt.Errorf("look at PostgreSQL: %w", err)
			}
		}
		rows = Rows{}
		for _, t := range shop.Tables {
			rows.add(t.Name, nil)
			columns := make([]string, len(t.Key))
			for i, k := range t.Key {
				columns[i] = pgx.Identifier{k}.Sanitize() + "::text"
			}
			found, err := c.Query(ctx, "select array["+strings.Join(columns, ",")+"], "+shop.Change+" from "+pgx.Identifier{schema, t.Name}.Sanitize())
			if err != nil {
				return nil, fmt.Errorf("look at PostgreSQL: %w", err)
			}
			var key []string
			var change *int64
			if _, err := pgx.ForEachRow(found, []any{&key, &change}, func() error { rows.add(t.Name, change, key...); return nil }); err != nil {
				return nil, fmt.Errorf("look at PostgreSQL: %s: %w", t.Name, err)
			}
		}
		return rows, nil
	}, end
}

// ElasticsearchRows looks at the shop's indexes; name gives a table's.
func ElasticsearchRows(base, auth string, name func(table string) string) func(ctx context.Context) (Rows, error) {
	return func(ctx context.Context) (Rows, error) {
		rows := Rows{}
		for _, t := range shop.Tables {
			err := equal.Documents(ctx, base, auth, name(t.Name), append(t.Key[:len(t.Key):len(t.Key)], shop.Change), rows.document(t))
			if err != nil {
				return nil, err
			}
		}
		return rows, nil
	}
}

// ClickHouseRows looks at the shop's tables over HTTP; name gives a table's.
func ClickHouseRows(base string, name func(table string) string) func(ctx context.Context) (Rows, error) {
	return func(ctx context.Context) (Rows, error) {
		rows := Rows{}
		for _, t := range shop.Tables {
			columns := strings.Join(append(t.Key[:len(t.Key):len(t.Key)], shop.Change), ", ")
			if err := equal.Lines(ctx, base, name(t.Name), columns, rows.document(t)); err != nil {
				return nil, err
			}
		}
		return rows, nil
	}
}

// document adds one row that is written as JSON.
func (r Rows) document(t shop.Table) func(doc []byte) error {
	r.add(t.Name, nil)
	return func(doc []byte) error {
		var values map[string]json.Number
		if err := json.Unmarshal(doc, &values); err != nil {
			return fmt.Errorf("row %.60s: %w", doc, err)
		}
		key := make([]string, len(t.Key))
		for i, k := range t.Key {
			key[i] = values[k].String()
		}
		if change, err := values[shop.Change].Int64(); err == nil {
			r.add(t.Name, &change, key...)
		}
		return nil
	}
}
