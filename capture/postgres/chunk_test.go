package postgres_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
)

func (r *reader) chunk(q capture.ChunkRequest) *capture.Chunk {
	r.t.Helper()
	c, err := r.snapshotter().Chunk(r.t.Context(), q)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// all reads a table in chunks of n rows.
func (r *reader) all(table string, n, bytes int) *capture.Chunk {
	r.t.Helper()
	schema, name, _ := strings.Cut(table, ".")
	q := capture.ChunkRequest{Table: event.Table{Schema: schema, Name: name}, MaxRows: n, MaxBytes: bytes}
	all := &capture.Chunk{}
	for {
		c := r.chunk(q)
		if n > 0 && len(c.Rows) > n {
			r.t.Errorf("%d rows, asked for %d", len(c.Rows), n)
		}
		all.Schema, all.Rows = c.Schema, append(all.Rows, c.Rows...)
		if q.After = c.Next; q.After == "" {
			return all
		}
	}
}

func rows(c *capture.Chunk) string {
	var b strings.Builder
	for _, r := range c.Rows {
		fmt.Fprintf(&b, "%s\n", r.JSON)
	}
	return b.String()
}

// TestChunkKeys pages over keys of many types: every row comes once, in the bytes and with the key that the log has.
func TestChunkKeys(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE first (k int PRIMARY KEY)`)
	r := started(t, d.source())
	for name, c := range map[string]struct{ setup, columns, values string }{
		"Int":         {"", `k bigint`, `SELECT g - 20 FROM generate_series(1, 37) g`},
		"Numeric":     {"", `k numeric`, `SELECT g / 7.0 FROM generate_series(-20, 16) g`},
		"Text":        {"", `k text`, `SELECT chr(30 + g) || '''\' FROM generate_series(1, 37) g`},
		"Collated":    {"", `k text COLLATE "en-x-icu"`, `SELECT chr(60 + g) FROM generate_series(1, 37) g`},
		"Char":        {"", `k char(4)`, `SELECT chr(64 + g) FROM generate_series(1, 37) g`},
		"Enum":        {`CREATE TYPE e AS ENUM ('z', 'a b', 'm', '''', 'c')`, `k e`, `SELECT unnest(enum_range(NULL::e))`},
		"UUID":        {"", `k uuid`, `SELECT md5(g::text)::uuid FROM generate_series(1, 37) g`},
		"Timestamptz": {"", `k timestamptz`, `SELECT '2024-03-31 00:30+00'::timestamptz + g * interval '17 minutes 1 microsecond' FROM generate_series(1, 37) g`},
		"Date":        {"", `k date`, `SELECT '0002-01-01 BC'::date + g * 100 FROM generate_series(1, 37) g`},
		"Float":       {"", `k float8`, `SELECT g / 3.0 FROM generate_series(1, 37) g UNION ALL SELECT unnest('{NaN,Infinity,-Infinity}'::float8[])`},
		"Bytea":       {"", `k bytea`, `SELECT decode(md5(g::text), 'hex') FROM generate_series(1, 37) g`},
		"Bool":        {"", `k bool`, `SELECT unnest('{t,f}'::bool[])`},
		"Array":       {"", `k int[]`, `SELECT ARRAY[g % 5, g] FROM generate_series(1, 37) g`},
		"Range":       {"", `k int4range`, `SELECT int4range(g % 5, g + 10) FROM generate_series(1, 37) g`},
		"Inet":        {"", `k inet`, `SELECT '10.0.0.0'::inet + g FROM generate_series(1, 37) g`},
		"Interval":    {"", `k interval`, `SELECT g * interval '1 hour 1 day' FROM generate_series(1, 37) g`},
		"Domain":      {`CREATE DOMAIN dom AS varchar(10) CHECK (VALUE <> '')`, `k dom`, `SELECT 'x' || g FROM generate_series(1, 37) g`},
		"Composite":   {`CREATE TYPE pair AS (a int, b text)`, `k pair`, `SELECT ROW(g % 3, 'x"y,' || g)::pair FROM generate_series(1, 37) g`},
		"Two":         {"", `k text, l int, m date`, `SELECT chr(64 + g % 3), g % 7, '2024-01-01'::date + g FROM generate_series(1, 37) g`},
	} {
		t.Run(name, func(t *testing.T) {
			d.exec(c.setup)
			table := "of_" + strings.ToLower(name)
			key := []string{}
			for _, k := range strings.Split(c.columns, ", ") {
				key = append(key, strings.Fields(k)[0])
			}
			d.exec(`CREATE TABLE ` + table + ` (pad int, ` + c.columns + `, v text DEFAULT 'x', PRIMARY KEY (` + strings.Join(key, ", ") + `))`)
			d.exec(`ALTER PUBLICATION runnel_` + d.name + ` ADD TABLE ` + table)
			d.exec(`INSERT INTO ` + table + ` (` + strings.Join(key, ", ") + `) ` + c.values)
			var want []string
			changes := r.changes()
			for _, c := range changes {
				key, err := c.Schema.AppendKey(nil, event.RowOf(c.After))
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, fmt.Sprintf("%q %s", key, c.After))
			}
			for _, n := range []int{1, 5, 1000} {
				var got []string
				for _, row := range r.all("public."+table, n, 0).Rows {
					got = append(got, fmt.Sprintf("%q %s", row.Key, row.JSON))
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("in chunks of %d: got %d rows:\n%s\nwant %d:\n%s", n, len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
				}
			}
		})
	}
}

// TestChunkExtensionKey: the operators of citext are not in pg_catalog.
func TestChunkExtensionKey(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	if _, err := d.Exec(t.Context(), `CREATE EXTENSION citext`); err != nil {
		t.Skip("no citext: ", err)
	}
	d.exec(`CREATE TABLE a (n int, k citext, PRIMARY KEY (n, k)); INSERT INTO a SELECT g % 2, chr(97 + g) FROM generate_series(0, 25) g; INSERT INTO a SELECT g % 2, upper(chr(97 + g)) || 'x' FROM generate_series(0, 25) g`)
	r := started(t, d.source())
	c := r.all("public.a", 3, 0)
	if len(c.Rows) != 52 {
		t.Errorf("%d rows, want 52", len(c.Rows))
	}
}

// TestChunkExtensionCast: row_to_json calls a cast of hstore, which the log cannot.
func TestChunkExtensionCast(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	if _, err := d.Exec(t.Context(), `CREATE EXTENSION hstore`); err != nil {
		t.Skip("no hstore: ", err)
	}
	d.exec(`CREATE TYPE wrap AS (h hstore, n int); CREATE TABLE a (id int PRIMARY KEY, h hstore, w wrap, hs hstore[])`)
	r := started(t, d.source())
	d.exec(`INSERT INTO a VALUES (1, 'a=>1', ROW('b=>2', 3), ARRAY['c=>3'::hstore])`)
	expect(t, rows(r.all("public.a", 1, 0)), afters(r.changes()))
}

func afters(changes []event.Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s\n", c.After)
	}
	return b.String()
}

func TestChunkBytes(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, v text, j json); INSERT INTO a SELECT g, repeat(E'x\t\\', 10000), E'[1,\n\r\t2]' FROM generate_series(1, 50) g`)
	r := started(t, d.source())
	c := r.chunk(capture.ChunkRequest{Table: event.Table{Schema: "public", Name: "a"}, MaxRows: 50, MaxBytes: 300000})
	if n := len(c.Rows); n < 3 || n > 10 || c.Next == "" {
		t.Errorf("%d rows, next %q", n, c.Next)
	}
	if j := c.Rows[0].JSON; !bytes.HasSuffix(j, []byte("\"j\":[1,  \t2]}")) {
		t.Errorf("row ends with %q", j[len(j)-20:])
	}
	if n := len(r.all("public.a", 20, 300000).Rows); n != 50 {
		t.Errorf("%d rows, want 50", n)
	}
	c = r.chunk(capture.ChunkRequest{Table: event.Table{Schema: "public", Name: "a"}, MaxRows: 50, MaxBytes: 1})
	if len(c.Rows) != 1 || c.Next != `["1"]` {
		t.Errorf("%d rows, next %q: one row always fits", len(c.Rows), c.Next)
	}
	if c = r.chunk(capture.ChunkRequest{Table: event.Table{Schema: "public", Name: "a"}, MaxRows: 5, Where: "id > 47"}); len(c.Rows) != 3 {
		t.Errorf("%d rows, want 3", len(c.Rows))
	}
}

// TestChunkVisible: what a chunk shows is what Visible says, also where a commit is in the log and not yet visible.
func TestChunkVisible(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	r := started(t, d.source())
	d.exec(`INSERT INTO a VALUES (1)`)
	release := d.waitingCommit(`INSERT INTO a VALUES (2)`)
	d.exec(`INSERT INTO a VALUES (3)`)
	changes := r.changes()
	expect(t, afters(changes), "{\"id\":1}\n{\"id\":2}\n{\"id\":3}")
	for _, n := range []int{2, 3} {
		c := r.all("public.a", 0, 0)
		one := r.chunk(capture.ChunkRequest{Table: event.Table{Schema: "public", Name: "a"}})
		if len(c.Rows) != n {
			t.Errorf("%d rows, want %d", len(c.Rows), n)
		}
		for i, visible := range []bool{true, n == 3, true} {
			if one.Visible(changes[i].TxID) != visible {
				t.Errorf("transaction of row %d: visible %t", i+1, !visible)
			}
		}
		if n == 2 {
			release()
		}
	}
	d.exec(`BEGIN; INSERT INTO a VALUES (4); PREPARE TRANSACTION 'p` + d.name + `'`)
	if w, err := r.snapshotter().Waiting(t.Context()); err != nil || len(w) != 1 {
		t.Errorf("waiting: %v, %v", w, err)
	}
	d.exec(`ROLLBACK PREPARED 'p` + d.name + `'`)
}

func TestWhole(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (v int, w text); INSERT INTO a SELECT g, 'x' FROM generate_series(1, 10000) g`)
	r := acquire(t, d.source())
	d.exec(`INSERT INTO a VALUES (0, 'later')`)
	table, n := event.Table{Schema: "public", Name: "a"}, 0
	read := func() error {
		return r.snapshotter().Whole(t.Context(), table, func(c *capture.Chunk) error { n += len(c.Rows); return nil })
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	if n != 10000 {
		t.Errorf("%d rows, want 10000", n)
	}
	r.start(r.Info().Confirmed)
	expect(t, lines(r.changes()), `c public.a {"v":0,"w":"later"} last`)
	if err := read(); !errors.Is(err, capture.ErrNoSnapshot) {
		t.Errorf("got %v", err)
	}
}

// TestRowSecurity: rows that a policy hides are an error, not missing.
func TestRowSecurity(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	role := "rls_" + d.name
	d.exec(`CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a ENABLE ROW LEVEL SECURITY; CREATE ROLE ` + role + ` LOGIN REPLICATION; GRANT SELECT ON a TO ` + role + `; CREATE PUBLICATION mine FOR TABLE a`)
	r := started(t, d.source(func(c *postgres.Config) {
		c.Publication, c.URL = "mine", strings.Replace(c.URL, "postgres@", role+"@", 1)
	}))
	if _, err := r.snapshotter().Chunk(t.Context(), capture.ChunkRequest{Table: event.Table{Schema: "public", Name: "a"}}); err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("got %v", err)
	}
}
