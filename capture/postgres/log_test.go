package postgres_test

import (
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

var versions = []int{15, 17, 18}

func TestLog(t *testing.T) {
	t.Parallel()
	for _, major := range versions {
		t.Run(string(rune('0'+major/10))+string(rune('0'+major%10)), func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, major)
			d.exec(`CREATE TABLE a (id int PRIMARY KEY, v text, n numeric)`)
			r := started(t, d.source())
			if !r.Info().NewSlot {
				t.Error("the slot is not new")
			}
			d.exec(`INSERT INTO a VALUES (1, 'x"y', 1.50), (2, NULL, 'NaN')`)
			d.exec(`UPDATE a SET v = 'z' WHERE id = 1`)
			d.exec(`UPDATE a SET id = 3 WHERE id = 1`)
			d.exec(`DELETE FROM a WHERE id = 2`)
			d.exec(`TRUNCATE a`)
			expect(t, lines(r.changes()), `
c public.a {"id":1,"v":"x\"y","n":1.50}
c public.a {"id":2,"v":null,"n":"NaN"} last
u public.a {"id":1,"v":"z","n":1.50} last
d public.a {"id":1} ->
c public.a {"id":3,"v":"z","n":1.50} last
d public.a {"id":2} -> last
t public.a last`)
		})
	}
}

// TestPositions reads the same log again from every position that was given: nothing comes twice, nothing is left out.
func TestPositions(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY)`)
	s := d.source()
	r := started(t, s)
	d.exec(`INSERT INTO a SELECT g, 'v' FROM generate_series(1, 5) g`)
	if _, err := d.PgConn().CopyFrom(t.Context(), newLines("11\tx", "12\ty", "13\tz"), `COPY a FROM STDIN`); err != nil {
		t.Fatal(err)
	}
	d.exec(`UPDATE a SET id = id + 100 WHERE id < 3`)
	d.exec(`BEGIN; INSERT INTO b VALUES (1); SAVEPOINT s; INSERT INTO b VALUES (2); ROLLBACK TO s; INSERT INTO b VALUES (3); COMMIT`)
	d.exec(`TRUNCATE a, b`)
	all := r.items()
	var last event.Position
	for _, i := range all {
		if i.Kind == capture.Structure {
			continue
		}
		if i.Position.Compare(last) <= 0 {
			t.Errorf("%s after %s", i.Position, last)
		}
		last = i.Position
	}
	r.close()
	for n, from := range all {
		if from.Kind == capture.Structure {
			continue
		}
		r := acquire(t, s)
		if err := r.Check(t.Context(), from.Position, event.Position{}, r.Info().Identity); err != nil {
			t.Fatal(err)
		}
		r.start(from.Position)
		var got, want []event.Change
		got = r.changes()
		for _, i := range all[n+1:] {
			if i.Kind == capture.Changed {
				want = append(want, i.Change)
			}
		}
		if g, w := encoded(got), encoded(want); g != w {
			t.Errorf("from %s: got:\n%s\nwant:\n%s", from.Position, g, w)
		}
		r.close()
	}
}
