package functiontest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Columns describes the table of a source, as schema.table, for Suite.Table. Types are PostgreSQL's. A column of the key has its
// place in the key, from 1.
func Columns(table string, columns ...event.Column) *event.Schema {
	schema, name, ok := strings.Cut(table, ".")
	if !ok {
		schema, name = "public", table
	}
	return event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: schema, Name: name}, columns)
}

func items() *event.Schema {
	return Columns("public.items",
		event.Column{Name: "id", Type: "bigint", Key: 1},
		event.Column{Name: "name", Type: "text", Nullable: true},
		event.Column{Name: "amount", Type: "numeric(12,2)", Nullable: true})
}

// kind is what a column's type looks like in JSON.
type kind int

const (
	unknown kind = iota
	number
	fraction
	boolean
	text
	moment
	document
)

func kindOf(c event.Column) (k kind, array bool) {
	name := c.BaseType()
	array = strings.HasSuffix(name, "[]")
	base, _, _ := strings.Cut(strings.TrimSuffix(name, "[]"), "(")
	switch base {
	case "smallint", "integer", "bigint", "oid":
		return number, array
	case "numeric", "real", "double precision":
		return fraction, array
	case "boolean":
		return boolean, array
	case "text", "character varying", "citext", "uuid", "bytea":
		return text, array
	case "date", "timestamp without time zone", "timestamp with time zone", "time without time zone":
		return moment, array
	case "json", "jsonb":
		return document, array
	}
	return unknown, array
}

// value is the n-th value of a column.
func (r *runner) value(c event.Column, n int) (string, error) {
	if r.Value != nil {
		if v := r.Value(c, n); v != "" {
			return v, nil
		}
	}
	k, array := kindOf(c)
	v := ""
	switch k {
	case number:
		v = fmt.Sprint(n)
	case fraction:
		v = fmt.Sprintf("%d.5", n)
		if strings.HasSuffix(c.BaseType(), ",0)") {
			v = fmt.Sprint(n)
		}
	case boolean:
		v = fmt.Sprint(n%2 == 1)
	case text:
		v = textValue(c.BaseType(), n)
	case moment:
		v = momentValue(c.BaseType(), n)
	case document:
		v = fmt.Sprintf(`{"n":%d}`, n)
	case unknown:
		return "", fmt.Errorf("column %s: the suite has no values of type %s: give them by Suite.Value", c.Name, c.Type)
	}
	if array {
		v = "[" + v + "]"
	}
	return v, nil
}

func textValue(t string, n int) string {
	switch strings.TrimSuffix(t, "[]") {
	case "uuid":
		return fmt.Sprintf(`"00000000-0000-4000-8000-%012d"`, n)
	case "bytea":
		return fmt.Sprintf(`"\\x%08x"`, n)
	}
	return fmt.Sprintf(`"v%d"`, n)
}

func momentValue(t string, n int) string {
	clock := fmt.Sprintf("%02d:%02d:%02d", n/3600%24, n/60%60, n%60)
	switch strings.TrimSuffix(t, "[]") {
	case "date":
		return fmt.Sprintf(`"2026-%02d-%02d"`, n/28%12+1, n%28+1)
	case "time without time zone":
		return `"` + clock + `"`
	case "timestamp with time zone":
		return `"2026-01-02T` + clock + `+00:00"`
	}
	return `"2026-01-02T` + clock + `"`
}

// row prints a row: the key's columns of key, the others of the change's number, NULL where the change says so.
func (r *runner) row(key int, c change) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, column := range r.Table.Columns {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(event.AppendJSONString(nil, column.Name))
		b.WriteByte(':')
		v := "null"
		switch {
		case column.Key > 0:
			v = r.keyValue(column, key)
		case c.poison && r.poison[column.Name] != "":
			v = r.poison[column.Name]
		case !column.Nullable || c.nulls>>(i%16)&1 == 0:
			v, _ = r.value(column, c.value) // every column was tried
		}
		b.WriteString(v)
	}
	return b.String() + "}"
}

func (r *runner) keyValue(c event.Column, key int) string {
	v, _ := r.value(c, r.keys+key)
	return v
}

// keyRow is what a delete carries: the key's columns alone, as PostgreSQL sends them by default.
func (r *runner) keyRow(key int) string {
	var parts []string
	for _, column := range r.Table.Columns {
		if column.Key > 0 {
			parts = append(parts, string(event.AppendJSONString(nil, column.Name))+":"+r.keyValue(column, key))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// keyOf is the canonical key of a row; false where it is none of the table's.
func (r *runner) keyOf(row string) (string, bool) {
	key, err := r.Table.AppendKey(nil, event.RowOf([]byte(row)))
	return string(key), err == nil
}

// checkTable fills in what is derived of the table.
func (r *runner) checkTable() error {
	if len(r.Table.KeyColumns()) == 0 {
		return fmt.Errorf("table %s has no key: give its columns their place in it (Key: 1)", r.Table.Table)
	}
	for _, c := range r.Table.Columns {
		one, err := r.value(c, 1)
		if err != nil {
			return err
		}
		if two, _ := r.value(c, 2); c.Key > 0 && one == two {
			return fmt.Errorf("column %s of the key has the value %s for different numbers: give other ones by Suite.Value", c.Name, one)
		}
	}
	r.poison = maps.Clone(r.Poison)
	if r.poison == nil {
		at := slices.IndexFunc(r.Table.Columns, func(c event.Column) bool {
			k, array := kindOf(c)
			return c.Nullable && c.Key == 0 && !array && slices.Contains([]kind{number, fraction, boolean, moment}, k)
		})
		if at >= 0 {
			r.poison = map[string]string{r.Table.Columns[at].Name: `{"poison":true}`}
		}
	}
	for name := range r.poison {
		if name != "none" && r.Table.Index(name) < 0 {
			return fmt.Errorf("table %s has no column %s to poison", r.Table.Table, name)
		}
	}
	delete(r.poison, "none")
	return nil
}

// newRunner checks the suite and fills in its defaults.
func newRunner(ctx context.Context, s Suite) (*runner, error) {
	r := &runner{Suite: s, sequence: 512, log: 1000}
	if r.Handler == nil || r.Target == nil {
		return nil, errors.New("a suite needs a handler's maker and a target")
	}
	if r.Table == nil {
		r.Table = items()
	}
	r.Function = cmp.Or(r.Function, "functiontest")
	r.Histories = cmp.Or(r.Histories, 60)
	r.Seed = cmp.Or(r.Seed, 1)
	r.Partitions = cmp.Or(r.Partitions, 2)
	r.Deadline = cmp.Or(r.Deadline, defaultDeadline)
	r.Patience = cmp.Or(r.Patience, defaultPatience)
	r.writer = event.Writer{Epoch: 3, Base: 512}
	r.generation = 1
	if err := r.checkTable(); err != nil {
		return nil, err
	}
	h, err := r.make(ctx)
	if err != nil {
		return nil, err
	}
	_, r.sweeps = h.(functions.Sweeper)
	closeHandler(h)
	return r, nil
}
