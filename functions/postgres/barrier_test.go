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
	cases["Truncate"] = testTruncate
	cases["TruncateReferenced"] = testTruncateReferenced
	cases["Backfill"] = testBackfill
	cases["BackfillsOverlap"] = testBackfillsOverlap
	cases["SweepWithoutBeginning"] = testSweepWithoutBeginning
}

// barrier is a t at these sequences, as the partition of f meets it; 0: not in the stream yet.
func barrier(f *flow, sc *event.Schema, at ...uint64) sink.Barrier {
	b := sink.Barrier{Claim: f.claim(), Schema: sc, After: f.at}
	for _, seq := range at {
		if p := point(seq); seq > 0 {
			b.At = append(b.At, p)
		} else {
			b.At = append(b.At, sink.Point{})
		}
	}
	return b
}

func (w *world) truncate(s *postgres.Sink, f *flow, b sink.Barrier, want sink.Outcome) {
	w.t.Helper()
	got, err := s.Truncate(w.t.Context(), b)
	if err != nil || got != want {
		w.t.Errorf("partition %d: got %v, %v, want %v", f.partition, got, err, want)
	}
	if got == sink.Passed {
		f.at = b.At[f.partition]
	}
}

// partitions are flows of one generation, claimed by one sink.
func (w *world) partitions(s *postgres.Sink, generation int64, n int) []*flow {
	w.t.Helper()
	flows := make([]*flow, n)
	for i := range flows {
		flows[i] = &flow{generation: generation, partition: i}
		w.claim(s, flows[i])
	}
	return flows
}

func testTruncate(t *testing.T, w *world) {
	s, sc := w.sink(postgres.Config{}), items()
	p := w.partitions(s, 1, 3)
	for i, f := range p {
		w.handle(s, f.add(event.Create, sc, `{"id":`+string(rune('1'+i))+`,"name":"a"}`).batch())
	}
	// The stream has 20, 21, 22: t in each partition.
	w.truncate(s, p[0], barrier(p[0], sc, 20, 0, 0), sink.Wait)
	w.truncate(s, p[0], barrier(p[0], sc, 20, 21, 22), sink.Wait)
	w.truncate(s, p[2], barrier(p[2], sc, 20, 21, 22), sink.Wait)
	w.truncate(s, p[0], barrier(p[0], sc, 20, 21, 22), sink.Wait)
	w.want("SELECT count(*) FROM items", "3")
	w.truncate(s, p[1], barrier(p[1], sc, 20, 21, 22), sink.Passed) // the last one does it
	w.want("SELECT count(*) FROM items", "0")
	w.want("SELECT partition, sequence FROM runnel.checkpoints ORDER BY partition", "0|20", "1|21", "2|22")
	// Who passed goes on at once; the others come later and must not truncate again.
	p[1].at = point(21)
	w.handle(s, p[1].add(event.Create, sc, `{"id":9,"name":"new"}`).batch())
	w.truncate(s, p[0], barrier(p[0], sc, 20, 21, 22), sink.Passed)
	p[2].at = point(1) // a worker that does not know yet
	w.truncate(s, p[2], barrier(p[2], sc, 20, 21, 22), sink.Passed)
	w.want("SELECT id FROM items", "9")

	// A part of it comes again (a successor published it again): a sibling past its t means done.
	w.truncate(s, p[0], barrier(p[0], sc, 40, 21, 22), sink.Passed)
	w.want("SELECT id FROM items", "9")
	w.want("SELECT sequence FROM runnel.checkpoints WHERE partition = 0", "40")
	// Behind, and closed.
	b := barrier(p[0], sc, 60, 61, 62)
	b.After = point(50)
	if _, err := s.Truncate(t.Context(), b); !errors.Is(err, sink.ErrBehind) {
		t.Errorf("got %v, want ErrBehind", err)
	}
	w.partitions(s, 2, 1)
	if _, err := s.Truncate(t.Context(), barrier(p[0], sc, 60, 61, 62)); !errors.Is(err, sink.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	// The table, and then the target's memory, is gone.
	f := &flow{generation: 2, at: point(40)}
	w.exec("DROP TABLE items")
	if _, err := s.Truncate(t.Context(), barrier(f, sc, 60)); err == nil || sink.IsHalt(err) {
		t.Errorf("got %v, want a plain error", err)
	}
	if _, err := s.Truncate(t.Context(), barrier(f, sc, 60)); !sink.IsHalt(err) {
		t.Errorf("got %v, want a halt", err)
	}
	w.exec("CREATE TABLE items (id bigint PRIMARY KEY, name text)")
	w.truncate(s, f, barrier(f, sc, 60), sink.Passed)
	w.exec("DROP SCHEMA runnel CASCADE")
	if _, err := s.Truncate(t.Context(), barrier(f, sc, 70)); !errors.Is(err, sink.ErrBehind) {
		t.Errorf("got %v, want ErrBehind", err)
	}
	if err := s.Begin(t.Context(), f.claim(), sc, point(70)); !errors.Is(err, sink.ErrBehind) {
		t.Errorf("got %v, want ErrBehind", err)
	}
}

func testTruncateReferenced(t *testing.T, w *world) {
	s, sc := w.sink(postgres.Config{}), items()
	p := w.partitions(s, 1, 1)
	w.handle(s, p[0].add(event.Create, sc, `{"id":1,"name":"a"}`).batch())
	w.exec("CREATE TABLE notes (item bigint CONSTRAINT of_item REFERENCES items)")
	const fix = `ALTER TABLE notes DROP CONSTRAINT of_item;`
	want := strings.Replace(fix, "notes", "public.notes", 1)
	if _, err := s.Truncate(t.Context(), barrier(p[0], sc, 5)); !sink.IsHalt(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want a halt with %s", err, want)
	}
	w.exec(fix)
	w.truncate(s, p[0], barrier(p[0], sc, 5), sink.Passed)
	w.want("SELECT count(*) FROM items", "0")
}

// sweep is the t that ends a backfill whose m had that version.
func sweep(f *flow, sc *event.Schema, cutoff event.Version, at ...uint64) sink.Barrier {
	b := barrier(f, sc, at...)
	b.Cutoff = cutoff
	return b
}

func (w *world) begin(s *postgres.Sink, f *flow, sc *event.Schema, seq uint64) {
	w.t.Helper()
	if err := s.Begin(w.t.Context(), f.claim(), sc, point(seq)); err != nil {
		w.t.Fatal(err)
	}
	f.at = point(seq)
}

func testBackfill(t *testing.T, w *world) {
	s := w.sink(postgres.Config{})
	// A key with a type whose text depends on the session, and one column beside it.
	sc := schema("items", event.Column{Name: "at", Type: "timestamp with time zone", Key: 2}, event.Column{Name: "id", Type: "bigint", Key: 1}, nullable("name", "text"))
	row := func(id, name string) string {
		return `{"at":"2024-01-01T00:00:00+00:00","id":` + id + `,"name":"` + name + `"}`
	}
	p := w.partitions(s, 1, 2)
	for i, ids := range [][]string{{"1", "3", "5"}, {"2", "4"}} {
		for _, id := range ids {
			p[i].add(event.Create, sc, row(id, "old"))
		}
		w.handle(s, p[i].batch())
	}
	w.begin(s, p[0], sc, 100)
	w.begin(s, p[1], sc, 101)
	w.begin(s, p[1], sc, 101) // again
	// 3 and 4 vanished in the source without an event; 5 is deleted and 6 made meanwhile; 1 has an update that lacks a column.
	w.handle(s, p[0].add(event.Update, sc, `{"at":"2024-01-01T00:00:00+00:00","id":1}`, "name").add(event.Delete, sc, row("5", "")).batch())
	w.handle(s, p[1].add(event.Read, sc, row("2", "read")).batch())
	// Another process takes partition 1 over in the middle, and a new generation both.
	young := w.sink(postgres.Config{})
	q := []*flow{{generation: 2, partition: 0, at: p[0].at}, {generation: 2, partition: 1, at: p[1].at}}
	w.claim(young, q[0])
	w.claim(young, q[1])
	w.handle(young, q[1].add(event.Create, sc, row("6", "new")).batch())
	w.want("SELECT target, count(*) FROM runnel.seen GROUP BY 1", `"public"."items"|3`)
	v := writer.Version(101, 1) // of any partition's m
	w.truncate(young, q[1], sweep(q[1], sc, v, 200, 201), sink.Wait)
	w.truncate(young, q[0], sweep(q[0], sc, v, 200, 201), sink.Passed)
	w.truncate(young, q[1], sweep(q[1], sc, v, 200, 201), sink.Passed)
	w.want("SELECT id, name FROM items ORDER BY id", "1|old", "2|read", "6|new")
	w.want("SELECT (SELECT count(*) FROM runnel.seen), (SELECT count(*) FROM runnel.backfills)", "0|0")
	w.handle(young, q[1].add(event.Create, sc, row("8", "later")).batch()) // nothing is kept any more
	w.want("SELECT count(*) FROM runnel.seen", "0")
}

// testBackfillsOverlap: the first one's end must not take rows that only the second one has still to show.
func testBackfillsOverlap(t *testing.T, w *world) {
	s, sc := w.sink(postgres.Config{}), items()
	p := w.partitions(s, 1, 1)
	w.handle(s, p[0].add(event.Create, sc, `{"id":1,"name":"a"}`).add(event.Create, sc, `{"id":2,"name":"a"}`).add(event.Create, sc, `{"id":3,"name":"a"}`).batch())
	w.begin(s, p[0], sc, 100)
	w.handle(s, p[0].add(event.Read, sc, `{"id":1,"name":"b"}`).add(event.Read, sc, `{"id":2,"name":"b"}`).batch())
	w.begin(s, p[0], sc, 200)
	w.truncate(s, p[0], sweep(p[0], sc, writer.Version(100, 1), 210), sink.Passed)
	w.want("SELECT id FROM items ORDER BY id", "1", "2")
	w.handle(s, p[0].add(event.Read, sc, `{"id":1,"name":"c"}`).batch())
	w.truncate(s, p[0], sweep(p[0], sc, writer.Version(200, 1), 220), sink.Passed)
	w.want("SELECT id, name FROM items", "1|c")
}

// testSweepWithoutBeginning: a target that knows nothing of a backfill loses nothing at its end.
func testSweepWithoutBeginning(t *testing.T, w *world) {
	s, sc := w.sink(postgres.Config{}), items()
	p := w.partitions(s, 1, 2)
	w.handle(s, p[0].add(event.Create, sc, `{"id":1,"name":"a"}`).batch())
	w.begin(s, p[1], sc, 100) // in one partition only
	w.truncate(s, p[0], sweep(p[0], sc, writer.Version(100, 1), 210, 211), sink.Wait)
	w.truncate(s, p[1], sweep(p[1], sc, writer.Version(100, 1), 210, 211), sink.Passed)
	w.want("SELECT id FROM items", "1")
	w.want("SELECT count(*) FROM runnel.backfills", "0")
	// Somebody else moved the checkpoint: what lies between must not be skipped.
	other := w.sink(postgres.Config{})
	o := &flow{generation: 1}
	w.claim(other, o)
	w.truncate(s, p[0], sweep(p[0], sc, writer.Version(100, 1), 210, 211), sink.Passed)
	w.handle(s, p[0].add(event.Create, sc, `{"id":2,"name":"a"}`).batch())
	o.at = point(210)
	if err := other.Begin(t.Context(), o.claim(), sc, point(300)); !errors.Is(err, sink.ErrBehind) {
		t.Errorf("got %v, want ErrBehind", err)
	}
}
