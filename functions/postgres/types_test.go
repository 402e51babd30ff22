package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
)

func init() {
	cases["Types"] = testTypes
	cases["UnknownTypes"] = testUnknownTypes
}

// values of every built-in type, and of types that users make.
var values = []struct{ typ, a, b string }{
	{"smallint", "-32768", "32767"}, {"integer", "-2147483648", "2147483647"}, {"bigint", "-9223372036854775808", "9223372036854775807"},
	{"numeric", "'NaN'", "1234567890123456789012345678901234567890.0123456789"}, {"numeric(12,2)", "-0.10", "9999999999.99"}, {"numeric(40,10)", "1e-10", "0"},
	{"real", "'-Infinity'", "3.4028235e38"}, {"double precision", "'-0'", "5e-324"}, {"money", "'-12.34'", "92233720368547758.07"},
	{"boolean", "true", "false"}, {`"char"`, "'x'", "''"}, {"character(5)", "'ab'", "''"}, {"character varying(10)", "'ü€😀'", "''"}, {"text", `E'\x01\t\n\r"\\/\x7f'`, "repeat('long', 5000)"}, {"name", "'n'", "''"},
	{"bytea", `'\x00ff'`, `'\x'`}, {"date", "'infinity'", "'4713-01-01 BC'"}, {"time without time zone", "'24:00'", "'00:00:00.000001'"}, {"time with time zone", "'12:00+05:30'", "'00:00-15:59'"},
	{"timestamp without time zone", "'infinity'", "'0044-03-15 12:00:00.123456 BC'"}, {"timestamp with time zone", "'2024-02-29 23:59:59.999999+13'", "'-infinity'"}, {"timestamp(3) without time zone", "'2024-01-01 00:00:00.123'", "'2024-01-01'"},
	{"interval", "'-1 year 2 mons -3 days 04:05:06.7'", "'0'"}, {"uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"},
	{"json", `'{"b":1,"a":[1, 2.50,"x"],"b":2}'`, `'"s"'`}, {"jsonb", `'{"b":1.00,"a":{"n":null}}'`, "'[]'"}, {"xml", "'<a>b</a>'", "''"}, {"jsonpath", `'$."a"[*]'`, "'$'"},
	{"inet", "'::1/64'", "'10.0.0.1'"}, {"cidr", "'10.0.0.0/8'", "'::/0'"}, {"macaddr", "'08:00:2b:01:02:03'", "'00:00:00:00:00:00'"}, {"macaddr8", "'08:00:2b:01:02:03:04:05'", "'00:00:00:00:00:00:00:00'"},
	{"bit(3)", "B'101'", "B'000'"}, {"bit varying(8)", "B'1'", "B''"}, {"point", "'(1.5,-2)'", "'(NaN,Infinity)'"}, {"line", "'{1,2,3}'", "'{0,1,0}'"}, {"lseg", "'[(1,2),(3,4)]'", "'[(0,0),(0,0)]'"},
	{"box", "'(3,4),(1,2)'", "'(0,0),(0,0)'"}, {"path", "'[(1,2),(3,4)]'", "'((1,2))'"}, {"polygon", "'((1,2),(3,4),(5,6))'", "'((0,0))'"}, {"circle", "'<(1,2),3>'", "'<(0,0),0>'"},
	{"int4range", "'[1,5)'", "'empty'"}, {"int8range", "'[1,)'", "'(,)'"}, {"numrange", "'(1.5,2.50]'", "'empty'"}, {"tsrange", "'[2024-01-01,2024-01-02)'", "'empty'"}, {"tstzrange", "'[2024-01-01,)'", "'empty'"}, {"daterange", "'[2024-01-01,2024-01-05)'", "'empty'"},
	{"int4multirange", "'{[1,2),[5,7)}'", "'{}'"}, {"datemultirange", "'{[2024-01-01,2024-01-05)}'", "'{}'"}, {"tsvector", "to_tsvector('simple', 'the fat cat')", "''"}, {"tsquery", "'a & !b'", "''"},
	{"oid", "4294967295", "0"}, {"xid", "'1'", "'0'"}, {"xid8", "'18446744073709551615'", "'0'"}, {"cid", "'1'", "'0'"}, {"tid", "'(1,2)'", "'(0,0)'"}, {"pg_lsn", "'16/B374D848'", "'0/0'"}, {"pg_snapshot", "'10:20:10,14'", "'1:1:'"},
	{"regtype", "'integer'", "'text'"}, {"regclass", "'pg_class'", "'pg_type'"}, {"integer[]", "'{1,NULL,3}'", "'{}'"}, {"text[]", `'{"a,b","\"","",NULL}'`, "'{}'"}, {"numeric(12,2)[]", "'{{1.5,2},{3,4}}'", "'{}'"}, {"timestamp with time zone[]", "'{2024-01-01}'", "'{}'"}, {"jsonb[]", `'{"{\"a\": 1}","[2]"}'`, "'{}'"}, {"bytea[]", `'{"\\x00"}'`, "'{}'"},
	{"public.mood", "'sad'", "'happy'"}, {"public.mood[]", "'{sad,happy}'", "'{}'"}, {"public.positive", "7", "1"}, {"public.pair", `'(1,"a b")'`, "'(,)'"}, {"public.pair[]", `'{"(1,x)"}'`, "'{}'"}, {"public.span", "'[1.5,2]'", "'empty'"},
}

const userTypes = `CREATE TYPE public.mood AS ENUM ('sad', 'happy'); CREATE DOMAIN public.positive AS integer CHECK (VALUE > 0);
CREATE TYPE public.pair AS (a integer, b text); CREATE TYPE public.span AS RANGE (subtype = float8)`

// catalogSchema reads a table's schema as a capture agent would.
func catalogSchema(w *world, table string, bases map[string]string) *event.Schema {
	w.t.Helper()
	r, err := w.db.Query(w.t.Context(), "SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 ORDER BY attnum", table)
	if err != nil {
		w.t.Fatal(err)
	}
	cols, err := pgx.CollectRows(r, func(r pgx.CollectableRow) (c event.Column, err error) {
		return c, r.Scan(&c.Name, &c.Type, &c.Nullable)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range cols {
		cols[i].Base = bases[cols[i].Type]
	}
	cols[0].Key = 1
	return schema("wide", cols...)
}

func makeWide(w *world) {
	w.exec(userTypes)
	defs, a, b, nulls := []string{"id integer PRIMARY KEY"}, []string{"1"}, []string{"2"}, []string{"3"}
	for i, v := range values {
		defs = append(defs, fmt.Sprintf("c%d %s", i, v.typ))
		a, b, nulls = append(a, v.a), append(b, v.b), append(nulls, "NULL")
	}
	defs = append(defs, "v int2vector", "o oidvector")
	a, b, nulls = append(a, "'1 2'", "'3 4'"), append(b, "''", "''"), append(nulls, "NULL", "NULL")
	w.exec("CREATE SCHEMA src")
	w.exec("CREATE TABLE src.wide (" + strings.Join(defs, ", ") + ")")
	for _, row := range [][]string{a, b, nulls} {
		w.exec("INSERT INTO src.wide VALUES (" + strings.Join(row, ", ") + ")")
	}
}

func copyWide(t *testing.T, from, to *world, bases map[string]string) {
	from.exec("ALTER ROLE postgres IN DATABASE " + from.name() + " SET search_path = ''")
	from.db.Reset()
	s, f := to.sink(postgres.Config{Table: "copy.{table}"}), &flow{generation: 1}
	sc := catalogSchema(from, "src.wide", bases)
	to.claim(s, f)
	for _, row := range from.rows("SELECT row_to_json(t)::text FROM src.wide t ORDER BY id") {
		f.add(event.Create, sc, row)
	}
	b := f.batch()
	to.handle(s, b)
	f.at, f.events = b.Spans[0].To, nil
	for i := range b.Spans[0].Events { // and all of them again, as updates
		f.add(event.Update, sc, string(b.Spans[0].Events[i].After.Raw()))
	}
	to.handle(s, f.batch())
	to.want("SELECT count(*) FROM copy.wide", "3")
}

func testTypes(t *testing.T, w *world) {
	makeWide(w)
	copyWide(t, w, w, nil)
	for i, v := range values {
		for _, r := range w.rows(fmt.Sprintf("SELECT s.id, s.c%[1]d::text, t.c%[1]d::text FROM src.wide s JOIN copy.wide t USING (id) WHERE s.c%[1]d::text IS DISTINCT FROM t.c%[1]d::text", i)) {
			t.Errorf("%s: %s", v.typ, r)
		}
	}
	w.want("SELECT v::text, o::text FROM copy.wide ORDER BY id", "{1,2}|{3,4}", "{}|{}", "<nil>|<nil>") // int2vector, oidvector
	w.want("SELECT count(*) FROM pg_attribute a JOIN pg_attribute b USING (attname) WHERE a.attrelid = 'src.wide'::regclass AND b.attrelid = 'copy.wide'::regclass AND a.attnum > 0 AND (a.atttypid, a.atttypmod) <> (b.atttypid, b.atttypmod) AND attname LIKE 'c%'", "0")
}

// testUnknownTypes: a target that lacks the source's own types gets what they are based on.
func testUnknownTypes(t *testing.T, w *world) {
	makeWide(w)
	other := w.another()
	copyWide(t, w, other, map[string]string{"public.mood": "enum", "public.mood[]": "enum[]", "public.positive": "integer", "public.pair": "composite", "public.pair[]": "composite[]", "public.span": "range"})
	var got []string
	for i, v := range values {
		if strings.HasPrefix(v.typ, "public.") {
			got = append(got, other.rows(fmt.Sprintf("SELECT format_type(atttypid, atttypmod), c%[1]d::text FROM pg_attribute, copy.wide WHERE attrelid = 'copy.wide'::regclass AND attname = 'c%[1]d' AND id = 1", i))...)
		}
	}
	want := []string{"text|sad", "text[]|{sad,happy}", "integer|7", `jsonb|{"a": 1, "b": "a b"}`, `jsonb|[{"a": 1, "b": "x"}]`, "text|[1.5,2]"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
