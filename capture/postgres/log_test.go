package postgres_test

import (
	"testing"
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
