package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres"
)

// TestDrift: a table that was dropped and created again is in no publication, and a new one neither.
func TestDrift(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p DEFAULT`)
	r := started(t, d.source())
	missing := func() string {
		tables, err := postgres.Unpublished(t.Context(), r.Log)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(tables)
	}
	if got := missing(); got != "[]" {
		t.Errorf("missing at first: %s", got)
	}
	d.exec(`DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE c (id int); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)`)
	if got := missing(); got != "[public.a public.c]" {
		t.Errorf("missing: %s", got)
	}
}

func TestLargeRow(t *testing.T) {
	t.Parallel()
	const size = 20 << 20
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, v text, n int)`)
	r := started(t, d.source())
	d.exec(`INSERT INTO a SELECT g, repeat('x', $1::int / (1 + g % 2 * 1000)), 0 FROM generate_series(1, 4) g`, size)
	d.exec(`UPDATE a SET n = 1`)
	d.exec(`INSERT INTO a VALUES (5, 'small', 0)`)
	changes := r.changes()
	if len(changes) != 9 {
		t.Fatalf("%d changes", len(changes))
	}
	for i, c := range changes[4:8] {
		if want := size / (1 + (i+1)%2*1000); strings.Count(string(c.After), "x") != want || c.Unavailable != nil {
			t.Errorf("row %d: %d bytes, want %d", i+1, len(c.After), want)
		}
	}
}

// TestOneLargeTransaction is given in bounded runs.
func TestOneLargeTransaction(t *testing.T) {
	t.Parallel()
	const rows = 100_000
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, v text)`)
	r := started(t, d.source())
	d.exec(`INSERT INTO a SELECT g, repeat('x', 100) FROM generate_series(1, $1::int) g`, rows)
	n, runs, last := 0, 0, 0
	for last == 0 {
		run, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		runs++
		if len(run.Items) > 4102 {
			t.Errorf("%d items at once", len(run.Items))
		}
		for _, i := range run.Items {
			if i.Kind != capture.Changed {
				continue
			}
			if n++; i.Change.Order != int64(n) {
				t.Fatalf("change %d has order %d", n, i.Change.Order)
			}
			if i.Change.Last {
				last = n
			}
		}
	}
	if n != rows || last != rows || runs < rows/4102 {
		t.Errorf("%d changes, the last at %d, in %d runs", n, last, runs)
	}
}
