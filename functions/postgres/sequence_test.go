package postgres_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func init() {
	cases["Order/Unique"] = testUniqueInOrder
	cases["Order/References"] = testReferencesInOrder
	cases["Order/Loads"] = testReferencesOfALoad
	cases["Order/Backfill"] = testBackfillInOrder
	cases["Order/Again"] = testTransactionAgain
	cases["Order/Zombie"] = testZombieTransaction
	cases["Order/BadEvents"] = testBadEventsInOrder
	cases["Order/Structure"] = testStructureInATransaction
	cases["Order/Large"] = testLargeTransaction
	cases["Order/Takeover"] = testTakeoverOfPartitions
	cases["Order/Needed"] = testOrderIsNeeded
	cases["Order/OlderStates"] = testOlderStates
}

// sequence gives transactions to a sink as the host would.
type sequence struct {
	w    *world
	s    *postgres.Sink
	flow flow
}

func (w *world) sequence(generation int64) *sequence {
	q := &sequence{w: w, s: w.sink(postgres.Config{InOrder: true}), flow: flow{generation: generation, partition: sink.All}}
	w.claim(q.s, &q.flow)
	return q
}

func (q *sequence) add(op event.Op, s *event.Schema, row string, lacks ...string) *sequence {
	q.flow.add(op, s, row, lacks...)
	return q
}

// place gives the newest event a position in the source's log.
func (q *sequence) place(change uint64, part uint32) *sequence {
	q.flow.events[len(q.flow.events)-1].Position = event.Position{Commit: 1, Change: change, Part: part}
	return q
}

// take are the events that were added, and where they reach.
func (q *sequence) take() ([]event.Event, sink.Point) {
	b := q.flow.batch()
	return b.Spans[0].Events, b.Spans[0].To
}

func (q *sequence) open() sink.Transaction {
	q.w.t.Helper()
	tx, err := q.s.Open(q.w.t.Context(), q.flow.claim(), q.flow.at)
	if err != nil {
		q.w.t.Fatal(err)
	}
	q.w.t.Cleanup(tx.Rollback)
	return tx
}

// try applies and commits what was added.
func (q *sequence) try() error {
	q.w.t.Helper()
	tx := q.open()
	before := q.flow.at
	events, to := q.take()
	err := tx.Apply(q.w.t.Context(), events)
	if err == nil {
		err = tx.Commit(q.w.t.Context(), to)
	}
	if err != nil {
		tx.Rollback()
		q.flow.at = before
	}
	return err
}

func (q *sequence) commit() {
	q.w.t.Helper()
	if err := q.try(); err != nil {
		q.w.t.Fatal(err)
	}
}

// Values that rows exchange go through the states that they had in the source.
func testUniqueInOrder(t *testing.T, w *world) {
	w.exec("CREATE TABLE items (id bigint PRIMARY KEY, name text UNIQUE); CREATE TABLE seats (id bigint PRIMARY KEY, at int, UNIQUE (at) DEFERRABLE)")
	q, sc, seats := w.sequence(1), items(), schema("seats", event.Column{Name: "id", Type: "bigint", Key: 1}, event.Column{Name: "at", Type: "integer", Nullable: true})
	for i := range 200 {
		q.add(event.Create, sc, fmt.Sprintf(`{"id":%d,"name":"n%d"}`, i, i))
	}
	q.commit()
	for i := 0; i < 200; i += 2 { // by way of a third value, as a constraint that is checked at once wants it
		q.add(event.Update, sc, fmt.Sprintf(`{"id":%d,"name":null}`, i)).add(event.Update, sc, fmt.Sprintf(`{"id":%d,"name":"n%d"}`, i+1, i)).
			add(event.Update, sc, fmt.Sprintf(`{"id":%d,"name":"n%d"}`, i, i+1))
	}
	q.add(event.Delete, sc, `{"id":7}`).add(event.Create, sc, `{"id":1000,"name":"n6"}`)
	q.commit()
	w.want("SELECT count(*) FROM items WHERE name = 'n' || (id # 1)", "199")
	w.want("SELECT id FROM items WHERE name = 'n6'", "1000")

	q.add(event.Create, seats, `{"id":1,"at":1}`).add(event.Create, seats, `{"id":2,"at":2}`)
	q.commit()
	q.add(event.Update, seats, `{"id":1,"at":2}`).add(event.Update, seats, `{"id":2,"at":1}`) // directly: checked at the commit
	q.commit()
	w.want("SELECT id, at FROM seats ORDER BY id", "1|2", "2|1")
	q.add(event.Update, seats, `{"id":1,"at":1}`)
	if err := q.try(); !sink.IsHalt(err) || !strings.Contains(err.Error(), "seats_at_key") {
		t.Errorf("got %v, want a halt that names the constraint", err)
	}
}

var (
	people = schema("people", event.Column{Name: "id", Type: "bigint", Key: 1}, event.Column{Name: "boss", Type: "bigint", Nullable: true})
	pets   = schema("pets", event.Column{Name: "id", Type: "bigint", Key: 1}, event.Column{Name: "owner", Type: "bigint", Nullable: true})
)

const family = `CREATE TABLE people (id bigint PRIMARY KEY, boss bigint REFERENCES people %[1]s);
CREATE TABLE pets (id bigint PRIMARY KEY, owner bigint NOT NULL REFERENCES people %[1]s)`

func testReferencesInOrder(t *testing.T, w *world) {
	w.exec(fmt.Sprintf(family, "ON DELETE CASCADE ON UPDATE CASCADE"))
	q := w.sequence(1)
	q.add(event.Create, people, `{"id":1,"boss":null}`).add(event.Create, people, `{"id":2,"boss":1}`).add(event.Create, pets, `{"id":1,"owner":2}`).add(event.Create, pets, `{"id":2,"owner":1}`)
	q.commit()
	// The key of a row that others refer to changes; the source's own cascade follows.
	q.add(event.Delete, people, `{"id":2}`).place(10, 0).add(event.Create, people, `{"id":20,"boss":1}`).place(10, 1).add(event.Update, pets, `{"id":1,"owner":20}`)
	q.commit()
	w.want("SELECT id, owner FROM pets ORDER BY id", "1|20", "2|1")
	w.want("SELECT id, boss FROM people ORDER BY id", "1|<nil>", "20|1")
	// The row is not there, or the new key is.
	q.add(event.Delete, people, `{"id":70}`).place(20, 0).add(event.Create, people, `{"id":71,"boss":null}`).place(20, 1).
		add(event.Delete, people, `{"id":71}`).place(30, 0).add(event.Create, people, `{"id":1,"boss":null}`).place(30, 1)
	q.commit()
	w.want("SELECT id, boss FROM people ORDER BY id", "1|<nil>", "20|1")
	q.add(event.Delete, people, `{"id":20}`).add(event.Delete, pets, `{"id":1}`)
	q.commit()
	w.want("SELECT id, owner FROM pets", "2|1")
	// All tables of one TRUNCATE are truncated at once, after what came before it.
	q.add(event.Create, people, `{"id":5,"boss":1}`).add(event.Create, pets, `{"id":5,"owner":5}`).add(event.Truncate, people, "").place(40, 0).
		add(event.Truncate, pets, "").place(40, 256).add(event.Create, people, `{"id":6,"boss":null}`)
	q.commit()
	w.want("SELECT id FROM people", "6")
	w.want("SELECT id FROM pets")
	q.add(event.Truncate, people, "").place(50, 0)
	if err := q.try(); !sink.IsHalt(err) || !strings.Contains(err.Error(), "DROP CONSTRAINT pets_owner_fkey") {
		t.Errorf("a table that others refer to: got %v", err)
	}
}

// Rows of a load come before those that they refer to. Where the role may, foreign keys are not looked at then; else it says how.
func testReferencesOfALoad(t *testing.T, w *world) {
	w.exec(fmt.Sprintf(family, "DEFERRABLE"))
	q := w.sequence(1)
	q.add(event.Read, pets, `{"id":1,"owner":2}`)
	q.flow.events[0].Snapshot = true
	q.commit()
	q.add(event.Create, pets, `{"id":2,"owner":3}`) // beside the load, and checked at the commit
	err := q.try()
	if err == nil || sink.IsHalt(err) || sink.IsPermanent(err) {
		t.Fatalf("got %v, want that it is tried again", err)
	}
	q.add(event.Create, pets, `{"id":2,"owner":3}`)
	q.commit()
	w.exec("ALTER TABLE pets ALTER CONSTRAINT pets_owner_fkey NOT DEFERRABLE")
	q.add(event.Create, pets, `{"id":3,"owner":4}`) // at once
	q.commit()
	q.add(event.Read, people, `{"id":4,"boss":null}`).add(event.Read, people, `{"id":2,"boss":3}`).add(event.Read, people, `{"id":3,"boss":null}`)
	q.commit()
	w.want("SELECT id, owner FROM pets ORDER BY id", "1|2", "2|3", "3|4")

	w.exec("CREATE ROLE loader LOGIN; GRANT CREATE ON DATABASE " + w.name() + " TO loader; GRANT ALL ON SCHEMA public TO loader; GRANT ALL ON ALL TABLES IN SCHEMA public TO loader; DROP SCHEMA runnel CASCADE")
	q.s = w.sink(postgres.Config{InOrder: true, URL: w.as("loader")})
	w.claim(q.s, &q.flow)
	for _, deferrable := range []string{"NOT DEFERRABLE", "DEFERRABLE"} {
		w.exec("ALTER TABLE pets ALTER CONSTRAINT pets_owner_fkey " + deferrable)
		q.add(event.Read, pets, `{"id":9,"owner":9}`)
		q.flow.events[0].Snapshot = true
		if err := q.try(); !sink.IsHalt(err) || !strings.Contains(err.Error(), "GRANT SET ON PARAMETER session_replication_role") {
			t.Errorf("%s: got %v, want the GRANT", deferrable, err)
		}
	}
}

// The m and the t of a load stand among the events.
func testBackfillInOrder(t *testing.T, w *world) {
	q, sc := w.sequence(1), items()
	q.add(event.Create, sc, `{"id":1,"name":"gone"}`).add(event.Create, sc, `{"id":2,"name":"old"}`)
	q.commit()
	mark := writer.Version(q.flow.at.Sequence+1, 1)
	q.add(event.Mark, sc, "").add(event.Read, sc, `{"id":2,"name":"new"}`)
	q.commit()
	q = w.again(q)
	q.add(event.Create, sc, `{"id":3,"name":"beside"}`).add(event.Truncate, sc, "").add(event.Create, sc, `{"id":4,"name":"after"}`)
	q.flow.events[1].Cutoff, q.flow.events[1].Snapshot = mark, true
	q.commit()
	w.want("SELECT * FROM items ORDER BY id", "2|new", "3|beside", "4|after")
	w.want("SELECT * FROM runnel.backfills")
	w.want("SELECT * FROM runnel.seen")
}

// again is the sequence in another process.
func (w *world) again(q *sequence) *sequence {
	w.t.Helper()
	n := &sequence{w: w, s: w.sink(postgres.Config{InOrder: true}), flow: q.flow}
	w.claim(n.s, &n.flow)
	return n
}

// An answer that was lost, and a target that was restored.
func testTransactionAgain(t *testing.T, w *world) {
	q, sc := w.sequence(1), schema("log", event.Column{Name: "line", Type: "text", Nullable: true})
	before := q.flow.at
	q.add(event.Create, sc, `{"line":"a"}`).add(event.Create, sc, `{"line":"b"}`)
	events := q.flow.events
	q.commit()
	after := q.flow.at
	q.flow.at, q.flow.events = before, events
	q.commit()
	w.want("SELECT * FROM log ORDER BY 1", "a", "b")
	w.exec("UPDATE runnel.checkpoints SET version = 0")
	if _, err := q.s.Open(t.Context(), q.flow.claim(), after); !errors.Is(err, sink.ErrBehind) {
		t.Errorf("got %v, want ErrBehind", err)
	}
	w.exec("UPDATE runnel.checkpoints SET closed = true")
	if _, err := q.s.Open(t.Context(), q.flow.claim(), after); !errors.Is(err, sink.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// What a worker that lost the function holds open is never committed, and nobody waits for it.
func testZombieTransaction(t *testing.T, w *world) {
	q, sc := w.sequence(1), items()
	zombie := q.open()
	start := q.flow.at
	q.add(event.Create, sc, `{"id":1,"name":"zombie"}`)
	events, to := q.take()
	if err := zombie.Apply(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	q.flow.at = start
	heir := w.again(q)
	heir.add(event.Create, sc, `{"id":1,"name":"heir"}`)
	heir.commit()
	if err := zombie.Commit(t.Context(), to); err == nil {
		t.Error("a zombie has committed")
	}
	w.want("SELECT * FROM items", "1|heir")
	// An older generation.
	older := heir.open()
	heir.add(event.Update, sc, `{"id":1,"name":"older"}`)
	if events, to = heir.take(); older.Apply(t.Context(), events) != nil {
		t.Fatal("not applied")
	}
	w.sequence(2).add(event.Update, sc, `{"id":1,"name":"newer"}`).commit()
	if err := older.Commit(t.Context(), to); err == nil {
		t.Error("an older generation has committed")
	}
	w.want("SELECT * FROM items", "1|newer")
}

func testBadEventsInOrder(t *testing.T, w *world) {
	w.exec("CREATE TABLE items (id bigint PRIMARY KEY, name text CHECK (name <> 'bad'))")
	q, sc := w.sequence(1), items()
	for i := range 500 {
		name := "good"
		if i == 123 || i == 400 {
			name = "bad"
		}
		q.add(event.Create, sc, fmt.Sprintf(`{"id":%d,"name":%q}`, i, name))
	}
	tx := q.open()
	events, to := q.take()
	err := tx.Apply(t.Context(), events)
	var be *sink.BatchError
	if !errors.As(err, &be) || len(be.Failed) != 2 || be.Failed[0].Event != 123 || be.Failed[1].Event != 400 || !sink.IsPermanent(be.Failed[0].Err) {
		t.Fatalf("got %v, want two events that are refused", err)
	}
	good := append(append(append([]event.Event{}, events[:123]...), events[124:400]...), events[401:]...)
	if err := tx.Apply(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	w.want("SELECT count(*), count(*) FILTER (WHERE name = 'good') FROM items", "498|498")
}

// A table that is altered within a transaction; one that is refused leaves nothing of it.
func testStructureInATransaction(t *testing.T, w *world) {
	q := w.sequence(1)
	wide := items(event.Column{Name: "more", Type: "integer", Nullable: true})
	tx := q.open()
	q.add(event.Create, items(), `{"id":1,"name":"a"}`).add(event.Create, wide, `{"id":2,"name":"b","more":2}`)
	start := q.flow.at
	events, _ := q.take()
	if err := tx.Apply(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	tx.Rollback()
	w.want("SELECT to_regclass('public.items') IS NULL", "true")
	q.flow.at = start
	q.add(event.Create, items(), `{"id":1,"name":"a"}`).add(event.Create, wide, `{"id":2,"name":"b","more":2}`)
	q.commit()
	w.want("SELECT * FROM items ORDER BY id", "1|a|<nil>", "2|b|2")
	w.exec("ALTER TABLE items DROP COLUMN more") // behind our back
	q.add(event.Create, wide, `{"id":3,"name":"c","more":3}`)
	for err := q.try(); err != nil; err = q.try() { // what was prepared does not fit any more
		if sink.IsHalt(err) || sink.IsPermanent(err) {
			t.Fatal(err)
		}
		q.add(event.Create, wide, `{"id":3,"name":"c","more":3}`)
	}
	w.want("SELECT * FROM items ORDER BY id", "1|a|<nil>", "2|b|<nil>", "3|c|3")
}

// One transaction of the target however large it is; nothing of it is kept here.
func testLargeTransaction(t *testing.T, w *world) {
	q, sc := w.sequence(1), items()
	tx := q.open()
	var memory runtime.MemStats
	high, began := uint64(0), time.Now()
	const rows, step = 60_000, 2000
	var to sink.Point
	for i := 0; i < rows; i += step {
		for k := range step {
			q.add(event.Create, sc, fmt.Sprintf(`{"id":%d,"name":"%s"}`, i+k, strings.Repeat("x", 100)))
		}
		var events []event.Event
		if events, to = q.take(); tx.Apply(t.Context(), events) != nil {
			t.Fatal("not applied")
		}
		if i == rows/2 {
			w.want("SELECT to_regclass('public.items') IS NULL", "true")
		}
		runtime.ReadMemStats(&memory)
		high = max(high, memory.HeapInuse)
	}
	if err := tx.Commit(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	w.want("SELECT count(*) FROM items", fmt.Sprint(rows))
	t.Logf("%d rows in %v, at most %d MiB in use", rows, time.Since(began), high>>20)
}

// A function whose partitions were written side by side goes on with whole transactions, and back: nothing comes twice.
func testTakeoverOfPartitions(t *testing.T, w *world) {
	sc := schema("log", event.Column{Name: "line", Type: "text", Nullable: true})
	s, zero, one := w.sink(postgres.Config{}), &flow{generation: 1}, &flow{generation: 1, partition: 1}
	w.claim(s, zero)
	w.claim(s, one)
	first := zero.add(event.Create, sc, `{"line":"a"}`).add(event.Create, sc, `{"line":"b"}`).batch()
	w.handle(s, first)
	w.handle(s, one.add(event.Create, sc, `{"line":"x"}`).batch())

	q := w.sequence(2)
	if q.flow.at != (sink.Point{}) {
		t.Fatalf("claimed at %+v, want the start", q.flow.at)
	}
	q.add(event.Create, sc, `{"line":"a"}`).add(event.Create, sc, `{"line":"b"}`).add(event.Create, sc, `{"line":"c"}`)
	for i := range q.flow.events {
		q.flow.events[i].Partition = 0
	}
	q.commit()
	q = w.again(q)
	q.add(event.Create, sc, `{"line":"d"}`)
	q.commit()
	w.want("SELECT line FROM log ORDER BY 1", "a", "b", "c", "d", "x")

	back := &flow{generation: 3, partition: 1}
	w.claim(w.sink(postgres.Config{}), back)
	if back.at != q.flow.at {
		t.Errorf("claimed at %+v, want %+v", back.at, q.flow.at)
	}
}

func testOrderIsNeeded(t *testing.T, w *world) {
	w.exec(fmt.Sprintf(family, "") + "; CREATE TABLE items (id bigint PRIMARY KEY, name text UNIQUE)")
	for _, sc := range []*event.Schema{items(), pets} {
		err := w.sink(postgres.Config{}).Check(t.Context(), []*event.Schema{sc})
		if !sink.IsHalt(err) || !strings.Contains(err.Error(), "ordering: source") {
			t.Errorf("%s: got %v, want a halt that names ordering: source", sc.Table, err)
		}
		if err := w.sink(postgres.Config{InOrder: true}).Check(t.Context(), []*event.Schema{sc}); err != nil {
			t.Errorf("%s in order: %v", sc.Table, err)
		}
	}
}

// Where older states come again over newer rows, these make room, and come again themselves: in a load that sweeps, in a generation that
// goes back, and where the stream lost its end.
func testOlderStates(t *testing.T, w *world) {
	w.exec("CREATE TABLE items (id bigint PRIMARY KEY, name text UNIQUE); CREATE TABLE tags (item bigint REFERENCES items ON DELETE CASCADE, tag text, PRIMARY KEY (item, tag)); " +
		"INSERT INTO items VALUES (1, 'a'), (2, 'b'), (3, 'c'), (9, 'gone'); INSERT INTO tags SELECT id, 'x' FROM items WHERE id < 9")
	q, sc := w.sequence(1), items()
	mark := writer.Version(1, 1)
	q.add(event.Mark, sc, "")
	q.commit()
	q.add(event.Read, sc, `{"id":1,"name":"b"}`).add(event.Read, sc, `{"id":2,"name":"a"}`).add(event.Update, sc, `{"id":3,"name":"gone"}`).add(event.Truncate, sc, "")
	for i := range q.flow.events {
		q.flow.events[i].Snapshot = q.flow.events[i].Op != event.Update
	}
	q.flow.events[3].Cutoff = mark
	q.commit()
	w.want("SELECT * FROM items ORDER BY id", "1|b", "2|a", "3|gone")
	w.want("SELECT item FROM tags ORDER BY 1", "1", "2", "3")

	history := func(q *sequence) *sequence {
		return q.add(event.Update, sc, `{"id":1,"name":null}`).add(event.Update, sc, `{"id":2,"name":"b"}`).add(event.Update, sc, `{"id":1,"name":"a"}`).
			add(event.Update, sc, `{"id":3,"name":"c"}`).add(event.Update, sc, `{"id":1,"name":"free"}`).add(event.Update, sc, `{"id":3,"name":"a"}`)
	}
	history(q).commit()
	w.want("SELECT * FROM items ORDER BY id", "1|free", "2|b", "3|a")

	back := &sequence{w: w, s: w.sink(postgres.Config{InOrder: true}), flow: flow{generation: 2, partition: sink.All}}
	c := back.flow.claim()
	c.Replay = true
	if _, err := back.s.Claim(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	history(back).commit()
	w.want("SELECT * FROM items ORDER BY id", "1|free", "2|b", "3|a")
	w.want("SELECT item FROM tags ORDER BY 1", "1", "2", "3")

	history(back) // of a later epoch, and lower sequences
	later := event.Writer{Epoch: writer.Epoch + 1}
	for i := range back.flow.events {
		e := &back.flow.events[i]
		e.Sequence = uint64(i + 2)
		e.Version = later.Version(e.Sequence, 1)
	}
	back.commit()
	w.want("SELECT * FROM items ORDER BY id", "1|free", "2|b", "3|a")

	back.add(event.Create, sc, `{"id":50,"name":"a"}`) // but in the ordinary course that is refused
	back.flow.events[0].Sequence = 5000
	back.flow.events[0].Version = later.Version(5000, 1)
	if err := back.try(); !sink.IsPermanent(err) {
		t.Errorf("got %v, want that it is refused", err)
	}
}
