package pgjson_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/capture/postgres/pgjson"
	"github.com/runnel-dev/runnel/e2e/servers"
)

// TestOracle compares whole rows with row_to_json of the same server: rows whose text came by SELECT, and the same rows
// from a replication slot.
func TestOracle(t *testing.T) {
	t.Parallel()
	for _, major := range []int{15, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			o := newOracle(t, major)
			o.columns()
			for i := range o.tables {
				o.fill(&o.tables[i])
			}
			want := o.rowToJSON()
			t.Run("select", func(t *testing.T) { compare(t, o.selected(t), want) })
			t.Run("slot", func(t *testing.T) { compare(t, o.replicated(t, len(want)), want) })
			if major == 17 {
				golden(t, o.tables, want)
			}
			t.Logf("PostgreSQL %d: %d types, %d rows", major, len(o.tables), len(want))
		})
	}
}

// table is one type's: id, a value and an array.
type table struct {
	name      string
	typ       string   // as format_type prints it
	base      string   // of the type
	as        string   // a type that stands for it in row_to_json, if it has a cast to json
	values    []string // literals
	query     string   // or where they come from
	array     bool     // the type has an array type
	delimiter string
	volatile  bool // values differ from server to server
}

type oracle struct {
	t      *testing.T
	major  int
	url    string
	conn   *pgx.Conn
	tables []table
}

func connect(t *testing.T, url string, replication bool) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range pgjson.Settings() {
		config.RuntimeParams[k] = v
	}
	if replication {
		config.RuntimeParams["replication"] = "database"
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func newOracle(t *testing.T, major int) *oracle {
	s := servers.Postgres(t, major)
	o := &oracle{t: t, major: major, url: s.PostgresURL(), conn: connect(t, s.PostgresURL(), false)}
	o.exec(setup)
	o.exec(`CREATE SCHEMA o; CREATE PUBLICATION p FOR ALL TABLES`)
	o.exec(`SELECT pg_create_logical_replication_slot('s', 'pgoutput')`)
	return o
}

func (o *oracle) exec(sql string) {
	o.t.Helper()
	if _, err := o.conn.PgConn().Exec(o.t.Context(), sql).ReadAll(); err != nil {
		o.t.Errorf("%v: %.300s", err, sql)
	}
}

// texts runs a query by the simple protocol: values come as the output functions print them; NULL is nil.
func (o *oracle) texts(sql string) [][][]byte {
	o.t.Helper()
	results, err := o.conn.PgConn().Exec(o.t.Context(), sql).ReadAll()
	if err != nil {
		o.t.Fatalf("%v: %.300s", err, sql)
	}
	return results[0].Rows
}

// columns makes the list of types: all of pg_catalog, the declared ones and those of extensions.
func (o *oracle) columns() {
	t := o.t
	for _, r := range o.texts(`SELECT typname, format_type(oid, -1) FROM pg_catalog.pg_type
		WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm', 'e') AND typoutput <> 'array_out'::regproc ORDER BY typname`) {
		name := string(r[0])
		values, literal := literals[name]
		if n, ok := newer[name]; ok && o.major >= n.major {
			values = append(values[:len(values):len(values)], n.values...)
		}
		query, made := queries[name]
		if !literal && !made && !valueless[name] {
			t.Errorf("type %s of pg_catalog has no values in this test", name)
			continue
		}
		o.tables = append(o.tables, table{typ: string(r[1]), values: values, query: query, volatile: made})
	}
	for _, d := range declared {
		o.tables = append(o.tables, table{typ: d.typ, base: d.base, values: d.values})
	}
	for _, e := range extensions {
		if string(o.texts(`SELECT count(*) FROM pg_catalog.pg_available_extensions WHERE name = '` + e.name + `'`)[0][0]) == "0" {
			t.Logf("no extension %s", e.name)
			continue
		}
		o.exec(`CREATE EXTENSION IF NOT EXISTS ` + e.name + ` SCHEMA public; ` + e.setup)
		o.tables = append(o.tables, table{typ: e.typ, base: e.base, as: e.as, values: e.values, volatile: true})
	}
	for i := range o.tables {
		tb := &o.tables[i]
		tb.name = fmt.Sprintf("o.t%03d", i)
		r := o.texts(fmt.Sprintf(`SELECT typarray <> 0, typdelim FROM pg_catalog.pg_type WHERE oid = %s::regtype`, quoteSQL(tb.typ)))[0]
		tb.array, tb.delimiter = string(r[0]) == "t", string(r[1])
	}
}

// fill makes the type's table: each value, then arrays of all values in several shapes.
func (o *oracle) fill(tb *table) {
	if !tb.array {
		o.exec(fmt.Sprintf(`CREATE TABLE %s (id int PRIMARY KEY, v %s)`, tb.name, tb.typ))
	} else {
		o.exec(fmt.Sprintf(`CREATE TABLE %s (id int PRIMARY KEY, v %s, a %s[])`, tb.name, tb.typ, tb.typ))
	}
	insert := []string{`(0, NULL)`}
	for i, v := range tb.values {
		insert = append(insert, fmt.Sprintf(`(%d, %s)`, i+1, quoteSQL(v)))
	}
	o.exec(fmt.Sprintf(`INSERT INTO %s (id, v) VALUES %s`, tb.name, strings.Join(insert, ", ")))
	if tb.query != "" {
		o.exec(fmt.Sprintf(`INSERT INTO %s (id, v) SELECT row_number() OVER (), q.* FROM (%s) q`, tb.name, tb.query))
		if rows := o.texts(`SELECT FROM ` + tb.name + ` WHERE v IS NOT NULL`); len(rows) == 0 {
			o.t.Errorf("no value of type %s: %s", tb.typ, tb.query)
		}
	}
	if !tb.array {
		return
	}
	var quoted []string
	for _, r := range o.texts(`SELECT v FROM ` + tb.name + ` WHERE v IS NOT NULL ORDER BY id`) {
		quoted = append(quoted, `"`+strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(string(r[0]))+`"`)
	}
	quoted = append(quoted, "NULL")
	all, few := strings.Join(quoted, tb.delimiter), quoted[0]+tb.delimiter+"NULL"
	for i, a := range []string{"{}", "{" + all + "}", "{NULL}", fmt.Sprintf("{{%s}%s{%s}}", all, tb.delimiter, all), "[-1:0]={" + few + "}",
		fmt.Sprintf("[2:2][5:6][0:1]={{{%s}%s{%s}}}", few, tb.delimiter, few)} {
		o.exec(fmt.Sprintf(`INSERT INTO %s VALUES (%d, %s, %s)`, tb.name, 1000+i, "NULL", quoteSQL(a)))
	}
}

// rowToJSON asks the server; only line breaks of json values are changed. Types with a cast to json go as their text.
func (o *oracle) rowToJSON() map[string]string {
	rows := map[string]string{}
	for _, tb := range o.tables {
		query := `SELECT id, row_to_json(t) FROM ` + tb.name + ` t`
		if tb.as != "" {
			query = fmt.Sprintf(`SELECT id, row_to_json(t) FROM (SELECT id, v::text::%[1]s AS v, a::text::%[1]s[] AS a FROM %[2]s) t`, tb.as, tb.name)
		}
		for _, r := range o.texts(query) {
			rows[tb.name+"/"+string(r[0])] = strings.NewReplacer("\n", " ", "\r", " ").Replace(string(r[1]))
		}
	}
	return rows
}

// selected encodes what SELECT gives as text.
func (o *oracle) selected(t *testing.T) map[string]string {
	rows, catalog := map[string]string{}, pgjson.New(o.conn)
	for _, tb := range o.tables {
		results, err := o.conn.PgConn().Exec(t.Context(), `SELECT * FROM `+tb.name).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		refs, names := o.describe(tb)
		types, err := catalog.Types(t.Context(), refs)
		if err != nil {
			t.Fatal(err)
		}
		if got := types[1]; got.Name != tb.typ || got.Base != tb.base || got.Cast != (tb.as != "") {
			t.Errorf("type: got %q of %q, cast %v; want %q of %q, cast %v", got.Name, got.Base, got.Cast, tb.typ, tb.base, tb.as != "")
		}
		for _, r := range results[0].Rows {
			rows[tb.name+"/"+string(r[0])] = encode(t, names, types, r)
		}
	}
	return rows
}

// describe reads the columns from the catalog: SELECT would say of a domain that it is its base type.
func (o *oracle) describe(tb table) (refs []pgjson.Ref, names []string) {
	for _, r := range o.texts(fmt.Sprintf(`SELECT atttypid, atttypmod, attname FROM pg_catalog.pg_attribute WHERE attrelid = '%s'::regclass AND attnum > 0 ORDER BY attnum`, tb.name)) {
		var ref pgjson.Ref
		if _, err := fmt.Sscan(string(r[0])+" "+string(r[1]), &ref.OID, &ref.Typmod); err != nil {
			o.t.Fatal(err)
		}
		refs, names = append(refs, ref), append(names, string(r[2]))
	}
	return refs, names
}

// encode puts a row together; a prefix shows that Append only appends.
func encode(t *testing.T, names []string, types []*pgjson.Type, values [][]byte) string {
	t.Helper()
	b := []byte("{")
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `"%s":`, names[i])
		if v == nil {
			b = append(b, "null"...)
			continue
		}
		var err error
		if b, err = types[i].Append(b, v); err != nil {
			t.Errorf("%s: %v: %q", types[i].Name, err, v)
		}
	}
	return string(append(b, '}'))
}

func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	failed := 0
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] && failed < 20 {
			failed++
			t.Errorf("%s:\n got %.500s\nwant %.500s", k, got[k], want[k])
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d rows, want %d", len(got), len(want))
	}
}

func quoteSQL(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }
