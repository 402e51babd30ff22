package sourcetest

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

func request(d Database, table string) capture.ChunkRequest {
	return capture.ChunkRequest{Table: event.Table{Schema: d.Schema(), Name: table}, MaxRows: 1000, MaxBytes: 1 << 20}
}

// sameBytes: a row is the same line in the log and in a chunk, under the same key and structure.
func sameBytes(w *world) {
	d := w.open(`CREATE TABLE a (id bigint PRIMARY KEY, i smallint, n decimal(20,4), f double precision, c char(6), t varchar(200), x text, d date, ts timestamp NULL)`)
	r, _ := w.started(d.Source())
	d.Exec(`INSERT INTO a VALUES (1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`,
		`INSERT INTO a VALUES (-9223372036854775808, -32768, -1.5, 0.1, 'x', '', 'it''s "q" \n é 😀', '2024-02-29', '2024-02-29 12:00:00')`,
		`INSERT INTO a VALUES (9223372036854775807, 32767, 1234567890123456.7891, -1e300, 'äö', '`+"a\tb\nc\x01\x7f\u2028"+`', '', '1000-01-01', '2037-12-31 23:59:59')`)
	want := map[string]string{}
	all := only(r.read(), capture.Changed)
	for _, i := range all {
		key, err := i.Schema.AppendKey(nil, event.RowOf(i.Change.After))
		if err != nil {
			w.Fatal(err)
		}
		want[string(key)] = string(i.Change.After)
	}
	c, err := r.Chunk(w.Context(), request(d, "a"))
	if err != nil {
		w.Fatal(err)
	}
	if len(want) != 3 || len(c.Rows) != 3 || c.Schema.Fingerprint() != all[0].Schema.Fingerprint() {
		w.Fatalf("%d changes, %d rows, want 3; structures %s, %s", len(want), len(c.Rows), all[0].Schema.Fingerprint(), c.Schema.Fingerprint())
	}
	for _, row := range c.Rows {
		if got := want[string(row.Key)]; got != string(row.JSON) {
			w.Errorf("key %q\nlog   %s\nchunk %s", row.Key, got, row.JSON)
		}
	}
}

// chunks: chunks of any size give each row once, in the order of the key; a chunk ends near its bounds, and not before its first row.
func chunks(w *world) {
	d := w.open(`CREATE TABLE a (pad varchar(2000), g varchar(5), id int, PRIMARY KEY (g, id))`, `CREATE TABLE b (id int PRIMARY KEY)`)
	r, _ := w.started(d.Source())
	var rows strings.Builder
	for n := range 60 {
		fmt.Fprintf(&rows, ", ('%s', '%c', %d)", strings.Repeat("x", 1000), 'a'+n%4, n-30)
	}
	d.Exec(`INSERT INTO a VALUES` + rows.String()[1:])
	for _, limit := range []struct{ rows, bytes, most int }{{1, 1 << 20, 1}, {7, 1 << 20, 7}, {1000, 1 << 20, 60}, {1000, 1, 60}} {
		q, seen, last := request(d, "a"), map[string]bool{}, keyOfA{}
		q.MaxRows, q.MaxBytes = limit.rows, limit.bytes
		for n := 0; ; n++ {
			c, err := r.Chunk(w.Context(), q)
			if err != nil {
				w.Fatal(err)
			}
			if len(c.Rows) > limit.most || len(c.Rows) == 0 && len(seen) < 60 || n > 60 {
				w.Fatalf("chunk %d of %d rows at most has %d", n, limit.most, len(c.Rows))
			}
			if age := time.Since(time.UnixMilli(c.ReadMS)); age.Abs() > time.Hour {
				w.Errorf("read %s ago", age)
			}
			for _, row := range c.Rows {
				place := placeOf(w, row.JSON)
				if cmp.Or(strings.Compare(place.g, last.g), cmp.Compare(place.id, last.id)) <= 0 {
					w.Errorf("%v after %v", place, last)
				}
				last = place
				if seen[string(row.Key)] {
					w.Errorf("%q is there twice", row.Key)
				}
				seen[string(row.Key)] = true
			}
			if q.After = c.Next; c.Next == "" {
				break
			}
		}
		if len(seen) != 60 {
			w.Errorf("in chunks of %d rows and %d bytes: %d rows, want 60", limit.rows, limit.bytes, len(seen))
		}
	}
	q := request(d, "a")
	q.Where = "id >= 20"
	if c, err := r.Chunk(w.Context(), q); err != nil || len(c.Rows) != 10 {
		w.Errorf("where %s: %+v, %v", q.Where, c, err)
	}
	if c, err := r.Chunk(w.Context(), request(d, "b")); err != nil || len(c.Rows) != 0 || c.Next != "" {
		w.Errorf("a table without rows: %+v, %v", c, err)
	}
}

type keyOfA struct {
	g  string
	id int
}

func placeOf(w *world, line []byte) keyOfA {
	row := event.RowOf(line)
	g, _ := row.Column("g")
	id, _ := row.Column("id")
	n, err := strconv.Atoi(id.Text())
	if err != nil {
		w.Fatal(err)
	}
	return keyOfA{g.Text(), n}
}

// visible: a chunk says which transactions it shows: those whose rows it has, and none that was open then.
func visible(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	r, _ := w.started(d.Source())
	other := d.Open()
	d.Exec(`INSERT INTO a VALUES (1)`)
	other.Exec(`BEGIN`, `INSERT INTO a VALUES (2)`)
	d.Exec(`INSERT INTO a VALUES (3)`)
	c, err := r.Chunk(w.Context(), request(d, "a"))
	if err != nil {
		w.Fatal(err)
	}
	shows, err := r.Visible(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	if err := r.Mark(w.Context(), "behind"); err != nil {
		w.Fatal(err)
	}
	other.Exec(`COMMIT`)
	d.Exec(`INSERT INTO a VALUES (4)`)
	rows := map[string]bool{}
	for _, row := range c.Rows {
		rows[string(row.JSON)] = true
	}
	behind := false
	all := r.read()
	for _, i := range all {
		behind = behind || i.Kind == capture.Marked && i.Mark == "behind"
		if i.Kind != capture.Changed {
			continue
		}
		line := string(i.Change.After)
		if want := line == `{"id":1}` || line == `{"id":3}`; rows[line] != want || c.Visible(i.XID) != want || shows(i.XID) != want || behind == want {
			w.Errorf("%s: in the chunk %t, visible to it %t, to the snapshot after it %t, behind the mark %t", line, rows[line], c.Visible(i.XID), shows(i.XID), behind)
		}
	}
	if n := len(only(all, capture.Changed)); n != 4 || !behind {
		w.Errorf("%d changes, mark %t", n, behind)
	}
	if again, err := r.Visible(w.Context()); err != nil || !again(only(all, capture.Changed)[3].XID) {
		w.Errorf("a later snapshot does not show what came since: %v", err)
	}
}

// marks come back each once, in order, also on a server where nothing happens.
func marks(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	r, _ := w.started(d.Source())
	for n := range 5 {
		if err := r.Mark(w.Context(), fmt.Sprint(n)); err != nil {
			w.Fatal(err)
		}
	}
	all := only(r.read(), capture.Marked)
	w.expect(lines(all[:len(all)-1]), "mark 0\nmark 1\nmark 2\nmark 3\nmark 4")
	if again := only(r.read(), capture.Marked); len(again) != 1 {
		w.Errorf("marks come twice:\n%s", lines(again))
	}
}

// beside: chunks are read by several goroutines while another one reads the log.
func beside(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	r, _ := w.started(d.Source())
	d.Exec(`INSERT INTO a VALUES (1), (2), (3)`)
	g, ctx := errgroup.WithContext(w.Context())
	for n := range 8 {
		g.Go(func() error {
			c, err := r.Chunk(ctx, request(d, "a"))
			if err == nil && len(c.Rows) != 3 {
				err = fmt.Errorf("%d rows", len(c.Rows))
			}
			if err == nil && n == 0 {
				err = r.Holds(ctx)
			}
			return err
		})
	}
	g.Go(func() error {
		c, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		for {
			run, err := r.Next(c)
			if err != nil {
				return err
			}
			for _, i := range run.Items {
				if i.Kind == capture.Changed && i.Change.Last {
					return nil
				}
			}
		}
	})
	if err := g.Wait(); err != nil {
		w.Error(err)
	}
}
