package sourcetest

import (
	"fmt"
	"strings"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

const tableA = `CREATE TABLE a (id int, part varchar(10), v int, PRIMARY KEY (part, id))`

// traffic changes a, and b beside it, in all ways.
func traffic(w *world, d Database) {
	d.Exec(`INSERT INTO a VALUES (1, 'x', 10), (2, 'x', 20)`,
		`BEGIN`, `INSERT INTO b VALUES (1), (2), (3)`, `UPDATE a SET v = 11 WHERE id = 1`, `UPDATE a SET id = 7 WHERE id = 1`, `DELETE FROM a WHERE id = 2`, `COMMIT`,
		`BEGIN`, `INSERT INTO a VALUES (9, 'y', 1)`, `ROLLBACK`,
		`BEGIN`, `INSERT INTO a VALUES (8, 'y', 1)`, `SAVEPOINT s`, `INSERT INTO a VALUES (9, 'y', 1)`, `ROLLBACK TO SAVEPOINT s`, `COMMIT`,
		`TRUNCATE TABLE a`, `TRUNCATE TABLE b`, `INSERT INTO a VALUES (1, 'z', NULL)`)
	w.suite.Load(d)
}

// changes: each committed change of a captured table comes once, in order, with its old key where that changed; nothing that was rolled back, and of
// no other table.
func changes(w *world) {
	d := w.open(tableA, `CREATE TABLE b (id int PRIMARY KEY)`)
	r, _ := w.started(d.Source("a"))
	traffic(w, d)
	all := only(r.read(), capture.Changed)
	if len(all) < 10 {
		w.Fatalf("got %d changes:\n%s", len(all), lines(all))
	}
	w.expect(lines(all[:10]), `
c a  {"id":1,"part":"x","v":10}
c a  {"id":2,"part":"x","v":20}
u a  {"id":1,"part":"x","v":11}
d a {"id":1,"part":"x"}
c a  {"id":7,"part":"x","v":11}
d a {"id":2,"part":"x"}
c a  {"id":8,"part":"y","v":1}
t a
c a  {"id":1,"part":"z","v":null}
`+lines(all[9:10]))
	if loaded := len(all) - 9; loaded < 2 {
		w.Errorf("%d changes of rows that were loaded at once, want some", loaded)
	}
	for _, i := range all {
		if key := i.Schema.KeyColumns(); len(key) != 2 || key[0] != 1 || key[1] != 0 {
			w.Fatalf("key: columns %v, want part, id", key)
		}
	}
	if n := all[7].Position.Part % 256; n != 0 {
		w.Errorf("the part of a TRUNCATE is %d: no room for partitions", all[7].Position.Part)
	}
}

// transactions: positions grow, a transaction is in one piece, its changes are numbered, and the last one says so.
func transactions(w *world) {
	d := w.open(tableA, `CREATE TABLE b (id int PRIMARY KEY)`)
	r, p := w.started(d.Source())
	traffic(w, d)
	last, open := p.first, []item(nil)
	committed := 0
	for _, i := range r.read() {
		if i.Kind == capture.Structure || i.Kind == capture.Marked {
			continue
		}
		if i.Kind == capture.Changed && i.Position.Compare(last) <= 0 || i.Position.Compare(last) < 0 {
			w.Errorf("%s after %s", i.Position, last)
		}
		if (i.Position.Change == 0) != (i.Kind != capture.Changed) {
			w.Errorf("%s has the position %s", i, i.Position)
		}
		last = i.Position
		switch i.Kind {
		case capture.Changed:
			open = append(open, i)
		case capture.Committed:
			for n, c := range open {
				if c.XID != i.XID || c.Change.Order != int64(n+1) || c.Change.Last != (n+1 == len(open)) || c.Change.CommitMS != open[0].Change.CommitMS {
					w.Errorf("change %d of %d: transaction %d of %d, order %d, last %t: %s", n+1, len(open), c.XID, i.XID, c.Change.Order, c.Change.Last, c)
				}
			}
			if len(open) > 0 {
				committed++
			}
			open = nil
		default:
			if len(open) > 0 {
				w.Errorf("%s within a transaction", i)
			}
		}
	}
	if len(open) > 0 || committed < 6 {
		w.Errorf("%d transactions, and %d changes without an end", committed, len(open))
	}
}

// commitOrder: transactions come in the order of their commits, not of their beginnings.
func commitOrder(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`)
	r, _ := w.started(d.Source())
	other := d.Open()
	other.Exec(`BEGIN`, `INSERT INTO a VALUES (1)`)
	d.Exec(`INSERT INTO a VALUES (2)`)
	other.Exec(`INSERT INTO a VALUES (3)`, `COMMIT`)
	w.expect(lines(only(r.read(), capture.Changed)), "c a  {\"id\":2}\nc a  {\"id\":1}\nc a  {\"id\":3}")
}

// resume: read again from any position that was given, the log gives the same bytes that followed it, nothing twice and nothing less.
func resume(w *world) {
	d := w.open(tableA, `CREATE TABLE b (id int PRIMARY KEY)`)
	s := d.Source("a")
	r, p := w.started(s)
	traffic(w, d)
	all := r.read()
	r.close()
	for n, i := range all {
		if i.Kind == capture.Structure || i.Kind == capture.Marked {
			continue
		}
		p = p.after(i.Position)
		again := w.acquire(s)
		again.startAt(p)
		if got, want := encoded(only(again.read(), capture.Changed)), encoded(only(all[n+1:], capture.Changed)); got != want {
			w.Fatalf("after %s: got:\n%s\nwant:\n%s", i.Position, got, want)
		}
		again.close()
	}
}

// largeTransaction comes in bounded runs.
func largeTransaction(w *world) {
	const rows, bytes = 4000, 2000
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY, v text)`)
	r, _ := w.started(d.Source())
	d.Exec(`BEGIN`)
	for n := 0; n < rows; n += 200 {
		var b strings.Builder
		for i := range 200 {
			fmt.Fprintf(&b, ", (%d, '%s')", n+i, strings.Repeat("x", bytes))
		}
		d.Exec(`INSERT INTO a VALUES` + b.String()[1:])
	}
	d.Exec(`COMMIT`)
	got := 0
	for done := false; !done; {
		run, err := r.Next(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		size := 0
		for _, i := range run.Items {
			done = done || i.Kind == capture.Committed && got > 0
			if i.Kind == capture.Changed {
				got++
				size += len(i.Change.After)
				if i.Change.Order != int64(got) || i.Change.Last != (got == rows) {
					w.Fatalf("change %d has the order %d and last %t", got, i.Change.Order, i.Change.Last)
				}
			}
		}
		if size > rows*bytes/2 {
			w.Errorf("a run of %d bytes", size)
		}
	}
	if got != rows {
		w.Errorf("%d changes, want %d", got, rows)
	}
}

// names: identifiers may hold anything.
func names(w *world) {
	const odd = `"Odd ""Name"" é'x"`
	d := w.open(`CREATE TABLE ` + odd + ` ("K e""y" int PRIMARY KEY, "select" int)`)
	r, _ := w.started(d.Source())
	d.Exec(`INSERT INTO `+odd+` VALUES (1, 2)`, `UPDATE `+odd+` SET "K e""y" = 3`, `TRUNCATE TABLE `+odd)
	all := only(r.read(), capture.Changed)
	w.expect(lines(all), `
c Odd "Name" é'x  {"K e\"y":1,"select":2}
d Odd "Name" é'x {"K e\"y":1}
c Odd "Name" é'x  {"K e\"y":3,"select":2}
t Odd "Name" é'x`)
	d.Exec(`INSERT INTO ` + odd + ` VALUES (4, 5)`)
	c, err := r.Chunk(w.Context(), capture.ChunkRequest{Table: all[0].Schema.Table, MaxRows: 10, MaxBytes: 1 << 20})
	if err != nil || len(c.Rows) != 1 || string(c.Rows[0].JSON) != `{"K e\"y":4,"select":5}` {
		w.Errorf("chunk: %+v, %v", c, err)
	}
}

// keyless: the inserts of a table without a key come, and Tables says that it has none.
func keyless(w *world) {
	d := w.open(`CREATE TABLE a (v int)`)
	r, _ := w.started(d.Source())
	d.Exec(`INSERT INTO a VALUES (1), (1)`)
	all := only(r.read(), capture.Changed)
	w.expect(lines(all), "c a  {\"v\":1}\nc a  {\"v\":1}")
	if all[0].Position == all[1].Position {
		w.Error("two rows have one position")
	}
	tables, err := r.Tables(w.Context())
	if err != nil || len(tables) != 1 || !tables[0].Keyless || len(tables[0].Schema.KeyColumns()) != 0 {
		w.Errorf("tables: %+v, %v", tables, err)
	}
}

// structure: a change has the columns that the table had when it was made, though they are others by the time it is read.
func structure(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY, v varchar(10))`)
	r, _ := w.started(d.Source())
	d.Exec(`INSERT INTO a VALUES (1, 'x')`)
	all := r.read()
	d.Exec(`ALTER TABLE a ADD COLUMN n int`, `INSERT INTO a VALUES (2, 'y', 20)`)
	all = append(all, r.read()...)
	d.Exec(`ALTER TABLE a RENAME COLUMN v TO w`, `UPDATE a SET n = 10 WHERE id = 1`)
	all = append(all, r.read()...)
	d.Exec(`ALTER TABLE a DROP COLUMN w`, `INSERT INTO a VALUES (3, 30)`, `INSERT INTO a VALUES (4, 40)`)
	all = append(all, r.read()...)
	w.expect(lines(only(all, capture.Changed)), `
c a  {"id":1,"v":"x"}
c a  {"id":2,"v":"y","n":20}
u a  {"id":1,"w":"x","n":10}
c a  {"id":3,"n":30}
c a  {"id":4,"n":40}`)
	announced := map[*event.Schema]bool{}
	var last *event.Schema
	for _, i := range all {
		switch i.Kind {
		case capture.Structure:
			announced[i.Schema] = true
		case capture.Changed:
			if last = i.Schema; !announced[last] || i.Change.Schema != last {
				w.Errorf("%s comes before its structure", i)
			}
		default:
		}
	}
	tables, err := r.Tables(w.Context())
	if err != nil || len(tables) != 1 || tables[0].Schema.Fingerprint() != last.Fingerprint() {
		w.Errorf("Tables gives another structure than the log: %+v, %v", tables, err)
	}
}

// otherTables: the position moves on where nothing captured is written.
func otherTables(w *world) {
	d := w.open(`CREATE TABLE a (id int PRIMARY KEY)`, `CREATE TABLE b (id int PRIMARY KEY)`)
	r, p := w.started(d.Source("a"))
	for n := range 5 {
		d.Exec(fmt.Sprintf(`INSERT INTO b VALUES (%d)`, n))
	}
	moved := r.until(func(i item) bool { return i.Position.Change == 0 && i.Position.Compare(p.first) > 0 })
	if c := only(moved, capture.Changed); len(c) > 0 {
		w.Errorf("changes of a table that is not captured:\n%s", lines(c))
	}
}
