package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// table is where a schema's rows go.
type table struct {
	name      string // quoted, with its database
	plain     string
	key       []string
	keyless   bool
	statement string
	convert   bool     // the rows are a literal in the statement, which ends with the quote before them
	ranges    []ranged // columns with a limited range, in table order
}

type ranged struct{ column, typ string }

type column struct{ name, typ string }

// ours are the columns behind the source's: the partition is kept so that a sweep finds its own rows without the key's hash.
var ours = []column{{"_partition", "UInt16"}, {"_version", "UInt64"}, {"_deleted", "UInt8"}}

func quote(name string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name) + "`"
}

// Check asks whether the server can be reached and whether tables fit the schemas; missing ones are made.
func (s *Sink) Check(ctx context.Context, schemas []*event.Schema) error {
	err, _ := s.classify(s.conn.Ping(ctx), nil)
	if err != nil {
		return err
	}
	for _, schema := range schemas {
		if _, err := s.ensure(ctx, schema); err != nil {
			return err
		}
	}
	return nil
}

// live is what the name of the view beside a table ends with.
const live = "_live"

// ensure finds the schema's table, makes it, or changes it as far as that loses nothing.
func (s *Sink) ensure(ctx context.Context, schema *event.Schema) (*table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.known[schema]; t != nil {
		return t, nil
	}
	t, want, sorting := s.derive(schema)
	have, err := s.columns(ctx, t)
	if err != nil {
		return nil, err
	}
	if len(have) == 0 {
		if have, err = s.missing(ctx, t); err != nil {
			return nil, err
		}
	}
	if len(have) == 0 {
		err = s.create(ctx, t, want, sorting)
	} else {
		err = s.change(ctx, t, want, sorting, have)
	}
	if err != nil {
		return nil, err
	}
	t.complete(want, have, s.http)
	s.known[schema] = t
	return t, nil
}

// derive says where a schema's rows go, and what that must look like.
func (s *Sink) derive(schema *event.Schema) (t *table, want []column, sorting []string) {
	t = &table{plain: strings.NewReplacer("{schema}", schema.Table.Schema, "{table}", schema.Table.Name).Replace(s.template)}
	t.name = quote(s.database) + "." + quote(t.plain)
	for _, k := range schema.KeyColumns() {
		t.key = append(t.key, schema.Columns[k].Name)
	}
	for _, c := range schema.Columns {
		typ := typeOf(c)
		if c.Key == 0 {
			typ = "Nullable(" + typ + ")"
		}
		want = append(want, column{c.Name, typ})
	}
	sorting = t.key
	if t.keyless = len(t.key) == 0; t.keyless {
		want, sorting = append(want, column{"_row", "String"}), []string{"_row"}
	}
	want = append(want, ours...)
	return t, want, sorting
}

// complete makes of the columns that are there, or will be, how rows are written.
func (t *table) complete(want []column, have map[string]string, http bool) {
	names := make([]string, len(want))
	for i, c := range want {
		names[i] = quote(c.name)
		if typ := bare(c.typ); (typ == "Date32" || strings.HasPrefix(typ, "DateTime64")) && bare(have[c.name]) != "String" {
			t.ranges = append(t.ranges, ranged{c.name, typ})
		}
	}
	t.insertion(names, want, have, http)
}

// insertion makes the INSERT. Before 26.8, formats read a third of all floats with an error in the last place, and the setting
// precise_float_parsing is obeyed by conversions alone: floats are read as strings and converted. The native protocol cannot
// carry JSON at all.
func (t *table) insertion(names []string, want []column, have map[string]string, http bool) {
	t.statement = "INSERT INTO " + t.name + " (" + strings.Join(names, ", ") + ")"
	t.convert = !http
	values, structure := make([]string, len(want)), make([]string, len(want))
	for i, c := range want {
		typ := c.typ
		if h := have[c.name]; h != "" {
			typ = h
		}
		values[i], structure[i] = names[i], names[i]+" "+typ
		if strings.HasPrefix(bare(typ), "Float") {
			t.convert = true
			values[i], structure[i] = "CAST("+names[i]+", '"+typ+"')", names[i]+" Nullable(String)"
		}
	}
	if t.convert {
		t.statement += " SELECT " + strings.Join(values, ", ") + " FROM format(JSONEachRow, " + literal(strings.Join(structure, ", ")) + ", '"
	}
}

func literal(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}

func (s *Sink) columns(ctx context.Context, t *table) (map[string]string, error) {
	rows, err := s.conn.Query(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), "SELECT name, type FROM system.columns WHERE database = ? AND table = ?", s.database, t.plain)
	if err != nil {
		err, _ = s.classify(err, t)
		return nil, err
	}
	defer rows.Close()
	have := map[string]string{}
	for rows.Next() {
		var name, typ string
		if err := rows.Scan(&name, &typ); err != nil {
			return nil, fmt.Errorf("clickhouse: columns of %s: %w", t.name, err)
		}
		have[name] = typ
	}
	if err := rows.Err(); err != nil {
		err, _ = s.classify(err, t)
		return nil, err
	}
	return have, nil
}

// missing looks at a table that is not there. The view beside it remembers that it was: made anew in silence, it would lack
// what it had. Another worker makes the table first, so a view without a table is nobody's that is about to make it.
func (s *Sink) missing(ctx context.Context, t *table) (map[string]string, error) {
	view := &table{name: t.name, plain: t.plain + live}
	remembered, err := s.columns(ctx, view)
	if err != nil || len(remembered) == 0 {
		return nil, err
	}
	have, err := s.columns(ctx, t)
	if err == nil && len(have) == 0 {
		err = s.dropped(t)
	}
	return have, err
}

func createStatement(t *table, columns []column, sorting []string) string {
	var defs, keys []string
	for _, c := range columns {
		defs = append(defs, "\n\t"+quote(c.name)+" "+c.typ)
	}
	for _, k := range sorting {
		keys = append(keys, quote(k))
	}
	return "CREATE TABLE IF NOT EXISTS " + t.name + " (" + strings.Join(defs, ",") + "\n) ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY (" +
		strings.Join(keys, ", ") + ") SETTINGS non_replicated_deduplication_window = 1000"
}

func (s *Sink) create(ctx context.Context, t *table, columns []column, sorting []string) error {
	if err := s.exec(ctx, t, createStatement(t, columns, sorting)); err != nil {
		return err
	}
	s.log.Info("table_created", "table", t.plain)
	return s.view(ctx, t, columns)
}

// view makes <table>_live beside the table: the rows that are not deleted, without our columns.
func (s *Sink) view(ctx context.Context, t *table, columns []column) error {
	var names []string
	for _, c := range columns[:len(columns)-len(ours)] {
		names = append(names, quote(c.name))
	}
	return s.exec(ctx, t, "CREATE OR REPLACE VIEW "+quote(s.database)+"."+quote(t.plain+live)+" AS SELECT "+strings.Join(names, ", ")+" FROM "+t.name+" FINAL WHERE _deleted = 0")
}

// change adds columns, widens them where the server can, and refuses the rest with the statement to run.
func (s *Sink) change(ctx context.Context, t *table, want []column, sorting []string, have map[string]string) error {
	if err := s.engine(ctx, t, want, sorting); err != nil {
		return err
	}
	changed := false
	for _, c := range want {
		old, ok := have[c.name]
		switch {
		case !ok:
			if err := s.exec(ctx, t, "ALTER TABLE "+t.name+" ADD COLUMN IF NOT EXISTS "+quote(c.name)+" "+c.typ); err != nil {
				return err
			}
			changed = true
		case holds(old, c.typ):
		case holds(c.typ, old) && strings.HasPrefix(c.typ, "Nullable(") && bare(c.typ) != "String":
			if err := s.exec(ctx, t, "ALTER TABLE "+t.name+" MODIFY COLUMN "+quote(c.name)+" "+c.typ); err != nil {
				return err
			}
			changed = true
		default:
			return functions.Halt(fmt.Errorf("clickhouse: column %s of %s is %s, which does not hold every %s; run this, or make it a String, then resume the function: ALTER TABLE %s MODIFY COLUMN %s %s",
				quote(c.name), t.name, old, bare(c.typ), t.name, quote(c.name), c.typ))
		}
	}
	if !changed {
		return nil
	}
	s.log.Info("table_changed", "table", t.plain)
	return s.view(ctx, t, want)
}

// engine refuses a table in which the newest version of a key would not win.
func (s *Sink) engine(ctx context.Context, t *table, want []column, sorting []string) error {
	var engine, full, sortingKey string
	err := s.conn.QueryRow(clickhouse.Context(ctx, clickhouse.WithSettings(settings)),
		"SELECT engine, engine_full, sorting_key FROM system.tables WHERE database = ? AND name = ?", s.database, t.plain).Scan(&engine, &full, &sortingKey)
	if err != nil {
		err, _ = s.classify(err, t)
		return err
	}
	sortingKey = strings.TrimSuffix(strings.TrimPrefix(sortingKey, "("), ")") // printed with and without, by version
	var keys []string
	for _, k := range sorting {
		if simple(k) {
			keys = append(keys, k)
		} else {
			keys = append(keys, quote(k))
		}
	}
	if !strings.HasSuffix(engine, "ReplacingMergeTree") || !strings.Contains(full, "_version, _deleted") || sortingKey != strings.Join(keys, ", ") {
		return functions.Halt(fmt.Errorf("clickhouse: table %s is %s ORDER BY (%s); rows of the newest version must win by their key: rename or drop it, or set another `table`, and it is made like this: %s",
			t.name, engine, sortingKey, createStatement(t, want, sorting)))
	}
	return nil
}

// simple says whether ClickHouse prints a name without quotes.
func simple(name string) bool {
	for i, r := range name {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

func (s *Sink) exec(ctx context.Context, t *table, sql string) error {
	err, _ := s.classify(s.conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), sql), t)
	return err
}
