package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func init() {
	cases["Evolve"] = testEvolve
	cases["Adopted"] = testAdopted
	cases["Misfits"] = testMisfits
	cases["GeneratedColumns"] = testGeneratedColumns
	cases["AlteredBehindUs"] = testAlteredBehindUs
	cases["Dropped"] = testDropped
	cases["OneTarget"] = testOneTarget
}

func nullable(name, typ string) event.Column {
	return event.Column{Name: name, Type: typ, Nullable: true}
}

// testEvolve: new columns, wider types, dropped columns, all in the middle of a span.
func testEvolve(t *testing.T, w *world) {
	s, f := w.sink(postgres.Config{}), &flow{generation: 1}
	v1 := schema("items", event.Column{Name: "id", Type: "integer", Key: 1}, nullable("name", "character varying(5)"), nullable("n", "numeric(4,1)"), nullable("gone", "text"))
	v2 := schema("items", event.Column{Name: "id", Type: "bigint", Key: 1}, nullable("name", "text"), nullable("n", "numeric(8,2)"), nullable("new", "date"))
	w.claim(s, f)
	f.add(event.Create, v1, `{"id":1,"name":"one","n":1.5,"gone":"g1"}`).add(event.Create, v1, `{"id":2,"name":"two","n":2.5,"gone":"g2"}`).
		add(event.Update, v2, `{"id":2,"name":"longer than five","n":123456.78,"new":"2024-01-01"}`).add(event.Create, v2, `{"id":5000000000,"name":null,"n":null,"new":null}`)
	w.handle(s, f.batch())
	// The whole row of v2 won, so what v1 said of row 2 was never written.
	w.want("SELECT id, name, n::text, gone, new::text FROM items ORDER BY id", "1|one|1.50|g1|<nil>", "2|longer than five|123456.78|<nil>|2024-01-01", "5000000000|<nil>|<nil>|<nil>|<nil>")
	// A worker that starts now, and one that reads an older event again.
	young := w.sink(postgres.Config{})
	if err := young.Check(t.Context(), []*event.Schema{v2, v1}); err != nil {
		t.Error(err)
	}
	w.claim(young, f)
	w.handle(young, f.add(event.Update, v1, `{"id":1,"name":"uno","n":1,"gone":"x"}`).batch())
	w.want("SELECT name FROM items WHERE id = 1", "uno")

	for name, c := range map[string]struct {
		schema *event.Schema
		want   string
	}{
		"Narrower": {schema("items", event.Column{Name: "id", Type: "bigint", Key: 1}, nullable("name", "integer")), `fits`},
		"Other":    {schema("items", event.Column{Name: "id", Type: "bigint", Key: 1}, nullable("new", "timestamp without time zone")), `ALTER TABLE "public"."items" ALTER COLUMN "new" TYPE timestamp without time zone USING "new"::text::timestamp without time zone;`},
		"Key":      {schema("items", event.Column{Name: "id", Type: "bigint", Key: 1}, event.Column{Name: "name", Type: "text", Key: 2}), `CREATE UNIQUE INDEX ON "public"."items" ("id", "name"); ALTER TABLE "public"."items" DROP CONSTRAINT IF EXISTS "items_pkey"`},
	} {
		err := young.Check(t.Context(), []*event.Schema{c.schema})
		if c.want == "fits" {
			if err != nil { // text takes every integer
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !sink.IsHalt(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want a halt with %s", name, err, c.want)
		}
	}
}

// testAdopted: a table of the user must fit when it is met; then it follows the source.
func testAdopted(t *testing.T, w *world) {
	w.exec("CREATE TABLE items (id bigint PRIMARY KEY, note text DEFAULT 'mine')")
	s, f, sc := w.sink(postgres.Config{}), &flow{generation: 1}, items()
	const add = `ALTER TABLE "public"."items" ADD COLUMN "name" text;`
	w.claim(s, f)
	b := f.add(event.Create, sc, `{"id":1,"name":"a"}`).batch()
	if err := s.Handle(t.Context(), b); !sink.IsHalt(err) || !strings.Contains(err.Error(), add) {
		t.Fatalf("got %v, want a halt with %s", err, add)
	}
	w.exec(add)
	w.handle(s, b) // no restart needed
	w.handle(s, f.add(event.Update, items(nullable("extra", "integer")), `{"id":1,"name":"b","extra":7}`).batch())
	w.want("SELECT id, note, name, extra FROM items", "1|mine|b|7")
}

func testMisfits(t *testing.T, w *world) {
	w.exec("CREATE TABLE other (id int PRIMARY KEY)")
	for _, c := range []struct{ name, ddl, want string }{
		{"NoKey", "CREATE TABLE items (id bigint, name text)", `CREATE UNIQUE INDEX ON "public"."items" ("id");`},
		{"DeferrableKey", "CREATE TABLE items (id bigint PRIMARY KEY DEFERRABLE, name text)", `CREATE UNIQUE INDEX`},
		{"PartialKey", "CREATE TABLE items (id bigint, name text); CREATE UNIQUE INDEX ON items (id) WHERE id > 0", `CREATE UNIQUE INDEX`},
		{"NotNull", "CREATE TABLE items (id bigint PRIMARY KEY, name text, must int NOT NULL)", `ALTER TABLE "public"."items" ALTER COLUMN "must" DROP NOT NULL;`},
		{"Type", "CREATE TABLE items (id bigint PRIMARY KEY, name date)", `ALTER TABLE "public"."items" ALTER COLUMN "name" TYPE text USING "name"::text::text;`},
		{"Unique", "CREATE TABLE items (id bigint PRIMARY KEY, name text UNIQUE)", `ALTER TABLE "public"."items" DROP CONSTRAINT IF EXISTS "items_name_key"`},
		{"ForeignKey", "CREATE TABLE items (id bigint PRIMARY KEY, name text, o int REFERENCES other)", `ALTER TABLE "public"."items" DROP CONSTRAINT items_o_fkey;`},
		{"Exclusion", "CREATE TABLE items (id bigint PRIMARY KEY, name text, r int4range, EXCLUDE USING gist (r WITH &&))", `ALTER TABLE "public"."items" DROP CONSTRAINT items_r_excl;`},
		{"View", "CREATE VIEW items AS SELECT 1::bigint AS id, 'x' AS name", "not a table"},
		{"Fits", "CREATE TABLE items (name varchar, id numeric, more text, at timestamptz DEFAULT now() NOT NULL, UNIQUE (id), UNIQUE (id, more))", ""},
		{"Domain", "CREATE DOMAIN whole AS bigint; CREATE TABLE items (id whole PRIMARY KEY, name text)", ""},
	} {
		w.exec("DROP TABLE IF EXISTS items")
		if c.name == "Fits" {
			w.exec("DROP VIEW IF EXISTS items")
		}
		w.exec(c.ddl)
		err := w.sink(postgres.Config{}).Check(t.Context(), []*event.Schema{items()})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!sink.IsHalt(err) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want a halt with %s", c.name, err, c.want)
		}
		if c.name == "View" {
			w.exec("DROP VIEW items")
		}
	}
	w.want("SELECT to_regnamespace('runnel')::text", "<nil>") // Check changes nothing
}

func testGeneratedColumns(t *testing.T, w *world) {
	w.exec("CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, up text GENERATED ALWAYS AS (upper(name)) STORED, seq int GENERATED BY DEFAULT AS IDENTITY, serial serial)")
	s, f, sc := w.sink(postgres.Config{}), &flow{generation: 1}, items(nullable("up", "text"), event.Column{Name: "seq", Type: "integer"})
	w.claim(s, f)
	w.handle(s, f.add(event.Create, sc, `{"id":7,"name":"a","up":"A","seq":70}`).add(event.Create, sc, `{"id":8,"name":"b","up":"B","seq":80}`).batch())
	w.handle(s, f.add(event.Update, sc, `{"id":7,"name":"c","up":"C","seq":71}`).add(event.Update, sc, `{"id":8,"name":"d","up":"D"}`, "seq").batch())
	w.want("SELECT id, name, up, seq FROM items ORDER BY id", "7|c|C|71", "8|d|D|80")
	w.exec("ALTER TABLE items ALTER COLUMN seq SET GENERATED ALWAYS")
	const fix = `ALTER TABLE "public"."items" ALTER COLUMN "seq" SET GENERATED BY DEFAULT;`
	if err := s.Handle(t.Context(), f.add(event.Update, sc, `{"id":7,"name":"e","up":"E","seq":72}`).batch()); !sink.IsHalt(err) || !strings.Contains(err.Error(), fix) {
		t.Errorf("got %v, want a halt with %s", err, fix)
	}
}

// testAlteredBehindUs: what a sink knows of a table can become wrong while it runs.
func testAlteredBehindUs(t *testing.T, w *world) {
	s, f, sc := w.sink(postgres.Config{}), &flow{generation: 1}, items()
	w.claim(s, f)
	w.handle(s, f.add(event.Create, sc, `{"id":1,"name":"a"}`).batch())
	w.exec("ALTER TABLE items DROP COLUMN name")
	w.handle(s, f.add(event.Update, sc, `{"id":1,"name":"b"}`).batch())
	w.want("SELECT * FROM items", "1|b")
}

// testDropped: a table that is gone is not made again in silence, since it would lack what it had. A generation that reads
// from the stream's beginning makes it, and begins above no checkpoint of an older one.
func testDropped(t *testing.T, w *world) {
	s, f, sc := w.sink(postgres.Config{}), &flow{generation: 1}, items()
	w.claim(s, f)
	first, second := f.add(event.Create, sc, `{"id":1,"name":"a"}`).batch(), f.add(event.Create, sc, `{"id":2,"name":"b"}`).batch()
	w.handle(s, first)
	w.exec("DROP TABLE items")
	halts := func(s *postgres.Sink, b sink.Batch) {
		t.Helper()
		err := s.Handle(t.Context(), b)
		for _, want := range []string{`"public"."items" was dropped`, "runnel delete f", "runnel deploy", `CREATE TABLE "public"."items"`} {
			if !sink.IsHalt(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want a halt with %s", err, want)
			}
		}
	}
	halts(s, second)
	young := w.sink(postgres.Config{}) // a restart does not hide it
	if err := young.Check(t.Context(), []*event.Schema{sc}); err != nil {
		t.Error(err)
	}
	if at, err := young.Claim(t.Context(), sink.Claim{Function: "f", Generation: 1, Replay: true}); err != nil || at != first.Spans[0].To {
		t.Errorf("claimed at %v, %v, want %v", at, err, first.Spans[0].To)
	}
	halts(young, second)

	fresh := w.sink(postgres.Config{})
	for p := range 2 {
		if at, err := fresh.Claim(t.Context(), sink.Claim{Function: "f", Generation: 2, Partition: p, Replay: true}); err != nil || at != (sink.Point{}) {
			t.Errorf("partition %d claimed at %v, %v, want the beginning", p, at, err)
		}
	}
	first.Generation, second.Generation = 2, 2
	first.Spans[0].After = sink.Point{}
	w.handle(fresh, first)
	w.handle(fresh, second)
	w.want("SELECT * FROM items ORDER BY id", "1|a", "2|b")
	if err := s.Handle(t.Context(), sink.Batch{Function: "f", Generation: 1, Partitions: 2, Spans: second.Spans}); !errors.Is(err, sink.ErrClosed) && !errors.Is(err, sink.ErrBehind) {
		t.Errorf("the generation before: %v", err)
	}
	w.exec("DROP TABLE items")
	f.generation = 2
	halts(fresh, f.add(event.Create, sc, `{"id":3,"name":"c"}`).batch())
}

func testOneTarget(t *testing.T, w *world) {
	s, f, sc := w.sink(postgres.Config{}), &flow{generation: 1}, items()
	w.claim(s, f)
	w.handle(s, f.add(event.Create, sc, `{"id":1,"name":"a"}`).batch())
	err := w.sink(postgres.Config{Function: "g"}).Check(t.Context(), []*event.Schema{sc})
	if !sink.IsHalt(err) || !strings.Contains(err.Error(), `DELETE FROM runnel.targets WHERE target = '"public"."items"';`) {
		t.Errorf("another function: got %v", err)
	}
	one := w.sink(postgres.Config{Table: "everything"})
	err = one.Check(t.Context(), []*event.Schema{items(), schema("others", event.Column{Name: "id", Type: "bigint", Key: 1})})
	if !sink.IsHalt(err) || !strings.Contains(err.Error(), "shop.public.items and shop.public.others") {
		t.Errorf("two tables: got %v", err)
	}
}
