package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
)

func TestStructureChanges(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE a (id int PRIMARY KEY, v varchar(5))`)
	r := started(t, d.source())
	for _, sql := range []string{
		`INSERT INTO a VALUES (1, 'x')`,
		`ALTER TABLE a ADD m mood DEFAULT 'ok'`,
		`INSERT INTO a VALUES (2, 'y')`,
		`ALTER TABLE a ALTER v TYPE text`,
		`ALTER TABLE a DROP m`,
		`ANALYZE a`,
		`INSERT INTO a VALUES (3, 'z')`,
		`ALTER TABLE a RENAME v TO w`,
		`INSERT INTO a VALUES (4, 'z')`,
		`BEGIN; INSERT INTO a VALUES (5); ALTER TABLE a ADD n int; UPDATE a SET n = 1 WHERE id = 5; COMMIT`,
		`ALTER TABLE a DROP CONSTRAINT a_pkey, ADD PRIMARY KEY (n, id)`,
	} {
		if strings.HasPrefix(sql, "ALTER TABLE a DROP CONSTRAINT") {
			d.exec(`DELETE FROM a WHERE id < 5`)
		}
		d.exec(sql)
	}
	d.exec(`UPDATE a SET n = 2 WHERE id = 5`)
	var b strings.Builder
	for _, i := range r.items() {
		switch i.Kind {
		case capture.Structure:
			fmt.Fprintf(&b, "structure")
			for _, c := range i.Schema.Columns {
				fmt.Fprintf(&b, " %s:%s:%d", c.Name, c.BaseType(), c.Key)
			}
			b.WriteByte('\n')
		case capture.Changed:
			fmt.Fprintf(&b, "%s %s\n", i.Change.Op, i.Change.After)
		default:
		}
	}
	// What is read again after the key was changed is described with the key that its old rows have.
	expect(t, b.String(), `
structure id:integer:1 v:character varying(5):0
c {"id":1,"v":"x"}
structure id:integer:1 v:character varying(5):0 m:enum:0
c {"id":2,"v":"y","m":"ok"}
structure id:integer:1 v:text:0
c {"id":3,"v":"z"}
structure id:integer:1 w:text:0
c {"id":4,"w":"z"}
c {"id":5,"w":null}
structure id:integer:1 w:text:0 n:integer:0
u {"id":5,"w":null,"n":1}
d 
d 
d 
d 
structure id:integer:2 w:text:0 n:integer:1
d 
c {"id":5,"w":null,"n":2}`)
}

func TestPartitionedTable(t *testing.T) {
	t.Parallel()
	for _, major := range versions {
		d := newDatabase(t, major)
		d.exec(`CREATE TABLE m (day int, id int, v text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
			CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10); CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (10) TO (20)`)
		r := started(t, d.source())
		d.exec(`INSERT INTO m VALUES (1, 1, 'a'), (11, 2, 'b')`)
		d.exec(`CREATE TABLE m3 (v text, id int NOT NULL, day int NOT NULL, PRIMARY KEY (day, id)); ALTER TABLE m ATTACH PARTITION m3 FOR VALUES FROM (20) TO (30)`)
		d.exec(`UPDATE m SET day = 21 WHERE id = 1`)
		d.exec(`UPDATE m SET v = 'c' WHERE id = 1`)
		d.exec(`TRUNCATE m`)
		expect(t, lines(r.changes()), `
c public.m {"day":1,"id":1,"v":"a"}
c public.m {"day":11,"id":2,"v":"b"} last
d public.m {"day":1,"id":1} ->
c public.m {"day":21,"id":1,"v":"a"} last
u public.m {"day":21,"id":1,"v":"c"} last
t public.m last`)
		d.exec(`INSERT INTO m VALUES (1, 1, 'a'), (11, 2, 'b'), (21, 3, 'c')`)
		expect(t, rows(r.all("public.m", 2, 0)), `{"day":1,"id":1,"v":"a"}
{"day":11,"id":2,"v":"b"}
{"day":21,"id":3,"v":"c"}`)
		tables, err := r.snapshotter().Tables(t.Context())
		if err != nil || len(tables) != 1 {
			t.Errorf("%v, %v", tables, err)
		}
	}
}

// TestPublicationOfUser: column list and row filter are followed, by the log and by the snapshot.
func TestPublicationOfUser(t *testing.T) {
	t.Parallel()
	for _, major := range versions {
		d := newDatabase(t, major)
		d.exec(`CREATE TABLE a (id int PRIMARY KEY, secret text, v int, twice int GENERATED ALWAYS AS (v * 2) STORED); CREATE TABLE b (id int PRIMARY KEY)`)
		d.exec(`CREATE PUBLICATION mine FOR TABLE a (v, id) WHERE (id > 10 OR id = 5), b`)
		r := started(t, d.source(func(c *postgres.Config) { c.Publication, c.Tables = "mine", []string{"public.a"} }))
		d.exec(`INSERT INTO a SELECT g, 'x', g FROM generate_series(4, 12) g; INSERT INTO b VALUES (1)`)
		got := r.changes()
		expect(t, lines(got), `
c public.a {"id":5,"v":5}
c public.a {"id":11,"v":11}
c public.a {"id":12,"v":12} last`)
		expect(t, rows(r.all("public.a", 1, 0)), "{\"id\":5,\"v\":5}\n{\"id\":11,\"v\":11}\n{\"id\":12,\"v\":12}")
		if s := r.all("public.a", 0, 0).Schema; s.Fingerprint() != got[0].Schema.Fingerprint() {
			t.Error("log and snapshot differ in the schema")
		}
	}
}

// TestGeneratedColumns are published where the publication says so, which 18 can.
func TestGeneratedColumns(t *testing.T) {
	t.Parallel()
	for major, want := range map[int]string{15: `{"id":1,"v":2}`, 17: `{"id":1,"v":2}`, 18: `{"id":1,"v":2,"twice":4}`} {
		d := newDatabase(t, major)
		d.exec(`CREATE TABLE a (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED)`)
		with := ""
		if major >= 18 {
			with = " WITH (publish_generated_columns = stored)"
			d.exec(`ALTER TABLE a ADD virtual int GENERATED ALWAYS AS (v * 3) VIRTUAL`)
		}
		d.exec(`CREATE PUBLICATION mine FOR ALL TABLES` + with)
		r := started(t, d.source(func(c *postgres.Config) { c.Publication, c.Tables = "mine", nil }))
		d.exec(`INSERT INTO a VALUES (1, 2)`)
		expect(t, lines(r.changes()), "c public.a "+want+" last")
		expect(t, rows(r.all("public.a", 0, 0)), want)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE SCHEMA "Übung . *"; CREATE TABLE "Übung . *"."a""b" ("t" int, "s" int, "__row2" text, "we'ird "" \ col" text, PRIMARY KEY (s, t))`)
	r := started(t, d.source(func(c *postgres.Config) { c.Tables = []string{"*.*"} }))
	d.exec(`INSERT INTO "Übung . *"."a""b" VALUES (1, 2, E'\n\\n', 'y')`)
	changes := r.changes()
	want := `{"t":1,"s":2,"__row2":"\n\\n","we'ird \" \\ col":"y"}`
	if len(changes) != 1 || string(changes[0].After) != want {
		t.Errorf("got %s", lines(changes))
	}
	expect(t, rows(r.chunk(capture.ChunkRequest{Table: changes[0].Schema.Table, MaxRows: 10})), want)
}

// TestStructureUnderSynchronousReplication: a table is made and filled in a transaction that no SELECT shows yet.
func TestStructureUnderSynchronousReplication(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY); CREATE PUBLICATION mine FOR ALL TABLES`)
	r := started(t, d.source(func(c *postgres.Config) { c.Publication = "mine" }))
	release := d.waitingCommit(`CREATE TYPE pair AS (x int, y int); CREATE TABLE b (k int NOT NULL, p pair, id int PRIMARY KEY); ALTER TABLE b REPLICA IDENTITY FULL; INSERT INTO b VALUES (1, ROW(2, 3), 4)`)
	got := make(chan []event.Change)
	go func() { got <- r.changes() }()
	d.eventually(`SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle' AND query LIKE '%pg_type%'`)
	release()
	changes := <-got
	expect(t, lines(changes), `c public.b {"k":1,"p":{"x":2,"y":3},"id":4} last`)
	if k := changes[0].Schema.KeyColumns(); len(k) != 1 || k[0] != 2 {
		t.Errorf("key columns %v", k)
	}
}

// TestDroppedTable: the log reaches back to before a table was dropped, and its type.
func TestDroppedTable(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE a (m mood, b int, a int, PRIMARY KEY (a, b))`)
	r := started(t, d.source())
	d.exec(`INSERT INTO a VALUES ('ok', 1, 2)`)
	d.exec(`DROP TABLE a; DROP TYPE mood`)
	changes := r.changes()
	expect(t, lines(changes), `c public.a {"m":"ok","b":1,"a":2} last`)
	if k := changes[0].Schema.KeyColumns(); len(k) != 2 {
		t.Errorf("key columns %v", k)
	}
}

// TestAliases: columns have the names that our own statements use.
func TestAliases(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a ("__row" int PRIMARY KEY, s int, k int, k0 int, r int, p int, j text); ALTER TABLE a ALTER j SET STORAGE EXTERNAL`)
	d.exec(`CREATE TABLE w ("__row" int, s int, j int)`)
	d.exec(`INSERT INTO a VALUES (1, 2, 3, 4, 5, 6, repeat('j', 5000)); INSERT INTO w VALUES (7, 8, 9)`)
	r := acquire(t, d.source())
	var whole string
	err := r.snapshotter().Whole(t.Context(), event.Table{Schema: "public", Name: "w"}, func(c *capture.Chunk) error {
		whole += rows(c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, whole, `{"__row":7,"s":8,"j":9}`)
	r.start(r.Info().Confirmed)
	want := `{"__row":1,"s":2,"k":3,"k0":4,"r":5,"p":6,"j":"` + strings.Repeat("j", 5000) + `"}`
	expect(t, rows(r.all("public.a", 0, 0)), want)
	d.exec(`UPDATE a SET s = 2`)
	expect(t, lines(r.changes()), "u public.a "+want+" last")
}
