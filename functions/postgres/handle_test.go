package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func init() {
	cases["Again"] = testAgain
	cases["Restored"] = testRestored
	cases["Unavailable"] = testUnavailable
	cases["Keyless"] = testKeyless
	cases["OneBadEvent"] = testOneBadEvent
	cases["DeferredConstraint"] = testDeferredConstraint
	cases["Race"] = testRace
	cases["CutConnections"] = testCutConnections
	cases["Generations"] = testGenerations
	cases["KeySpelling"] = testKeySpelling
}

func testAgain(t *testing.T, w *world) {
	s, f, sc := w.sink(postgres.Config{}), &flow{generation: 1}, items()
	w.claim(s, f)
	first := f.add(event.Create, sc, `{"id":1,"name":"old"}`).batch()
	w.handle(s, first)
	w.handle(s, first)
	second := f.add(event.Update, sc, `{"id":1,"name":"new"}`).add(event.Delete, sc, `{"id":2}`).batch()
	w.handle(s, second)
	w.handle(s, first) // older after newer
	w.want("SELECT * FROM items", "1|new")
	// A batch that the checkpoint covers in part: only the rest is written.
	f.add(event.Create, sc, `{"id":5,"name":"five"}`)
	third := f.batch()
	joined := second
	joined.Spans = []sink.Span{{After: second.Spans[0].After, To: third.Spans[0].To, Events: append(second.Spans[0].Events, third.Spans[0].Events...)}}
	w.exec("UPDATE items SET name = 'mine'")
	w.handle(s, joined)
	w.want("SELECT * FROM items ORDER BY id", "1|mine", "5|five")
}

func testRestored(t *testing.T, w *world) {
	s, f, sc := w.sink(postgres.Config{}), &flow{generation: 1}, items()
	w.claim(s, f)
	w.handle(s, f.add(event.Create, sc, `{"id":1,"name":"1"}`).batch())
	w.exec("CREATE TABLE backup AS SELECT * FROM runnel.checkpoints")
	w.handle(s, f.add(event.Create, sc, `{"id":2,"name":"2"}`).batch())
	w.exec("DELETE FROM items WHERE id = 2; UPDATE runnel.checkpoints c SET version = b.version, sequence = b.sequence FROM backup b")
	b := f.add(event.Create, sc, `{"id":3,"name":"3"}`).batch()
	if err := s.Handle(t.Context(), b); !errors.Is(err, sink.ErrBehind) {
		t.Fatalf("got %v, want ErrBehind", err)
	}
	w.claim(s, f)
	if f.at.Sequence != 1 {
		t.Fatalf("claimed at %d, want 1", f.at.Sequence)
	}
	for _, lost := range []string{"DELETE FROM runnel.checkpoints", "DROP SCHEMA runnel CASCADE"} {
		w.exec(lost)
		if err := s.Handle(t.Context(), b); !errors.Is(err, sink.ErrBehind) {
			t.Fatalf("%s: got %v, want ErrBehind", lost, err)
		}
	}
	w.claim(s, f) // makes the schema again
	w.handle(s, f.add(event.Create, sc, `{"id":2,"name":"2"}`).batch())
	w.want("SELECT * FROM items ORDER BY id", "1|1", "2|2")
}

func testUnavailable(t *testing.T, w *world) {
	w.exec("CREATE TABLE items (id bigint PRIMARY KEY, name text NOT NULL, big text NOT NULL, other text)")
	s, f := w.sink(postgres.Config{}), &flow{generation: 1}
	sc := items(event.Column{Name: "big", Type: "text"}, event.Column{Name: "other", Type: "text", Nullable: true})
	w.claim(s, f)
	f.add(event.Create, sc, `{"id":1,"name":"a","big":"B","other":"o"}`).add(event.Update, sc, `{"id":1,"name":"a2","other":"o2"}`, "big").
		add(event.Update, sc, `{"id":1,"name":"a3","big":"B3"}`, "other").add(event.Update, sc, `{"id":1,"name":"a4","other":"o4"}`, "big").
		add(event.Update, sc, `{"id":1,"name":"a5","other":"o5"}`, "big").
		add(event.Update, sc, `{"id":7,"name":"gone","other":"o"}`, "big"). // its row is not there
		add(event.Create, sc, `{"id":2,"name":"b","big":"B","other":null}`).add(event.Update, sc, `{"id":2,"name":"b2","other":"x"}`, "big").
		add(event.Update, sc, `{"id":2,"name":"b3","big":"all","other":null}`). // a whole row wins over what came before
		add(event.Create, sc, `{"id":3,"name":"c","big":"C","other":null}`).add(event.Update, sc, `{"id":3}`, "name", "big", "other")
	w.handle(s, f.batch())
	w.want("SELECT * FROM items ORDER BY id", "1|a5|B3|o5", "2|b3|all|<nil>", "3|c|C|<nil>")
	w.handle(s, f.add(event.Update, sc, `{"id":1,"name":"a6","other":"o6"}`, "big").add(event.Delete, sc, `{"id":3}`).batch())
	w.want("SELECT * FROM items ORDER BY id", "1|a6|B3|o6", "2|b3|all|<nil>")
}

func testKeyless(t *testing.T, w *world) {
	s, f := w.sink(postgres.Config{}), &flow{generation: 1}
	sc := schema("log", event.Column{Name: "line", Type: "text", Nullable: true})
	w.claim(s, f)
	b := f.add(event.Create, sc, `{"line":"a"}`).add(event.Create, sc, `{"line":"a"}`).add(event.Read, sc, `{"line":"b"}`).batch()
	w.handle(s, b)
	w.handle(s, b)
	w.want("SELECT * FROM log", "a", "a", "b")
	f.add(event.Create, sc, ``).add(event.Create, sc, `{"line":"c"}`)
	err := s.Handle(t.Context(), f.batch())
	var be *sink.BatchError
	if !errors.As(err, &be) || be.Failed[0].Event != 0 || !sink.IsPermanent(err) {
		t.Errorf("an event without a row: got %v, want it refused", err)
	}
	f.at = b.Spans[0].To
	// Put aside, it is not refused again when it comes once more with what the checkpoint covers.
	again := f.add(event.Create, sc, ``).add(event.Create, sc, `{"line":"c"}`).batch()
	rest := again
	rest.Spans = []sink.Span{again.Spans[0]}
	rest.Spans[0].Events = again.Spans[0].Events[1:]
	w.handle(s, rest)
	w.handle(s, again)
	w.want("SELECT * FROM log", "a", "a", "b", "c")
	err = s.Handle(t.Context(), f.add(event.Delete, sc, `{"line":"a"}`).batch())
	if !sink.IsHalt(err) || !strings.Contains(err.Error(), "primary key") {
		t.Errorf("got %v, want a halt that asks for a primary key", err)
	}
}

func testOneBadEvent(t *testing.T, w *world) {
	w.exec("CREATE TABLE items (id bigint PRIMARY KEY, name text CHECK (name <> 'bad'), doc jsonb)")
	s, f, sc := w.sink(postgres.Config{}), &flow{generation: 1}, items(event.Column{Name: "doc", Type: "jsonb", Nullable: true})
	w.claim(s, f)
	for i := range 1000 {
		switch i {
		case 317:
			f.add(event.Create, sc, `{"id":317,"name":"nul","doc":{"x":"a\u0000b"}}`)
		case 800:
			f.add(event.Create, sc, `{"id":800,"name":"bad","doc":null}`)
		default:
			f.add(event.Create, sc, fmt.Sprintf(`{"id":%d,"name":"n","doc":{"i":%d}}`, i, i))
		}
	}
	b := f.batch()
	err := s.Handle(t.Context(), b)
	var be *sink.BatchError
	if !errors.As(err, &be) || len(be.Failed) != 1000 {
		t.Fatalf("got %v, want a BatchError of 1000", err)
	}
	for i, want := range []int{317, 800} {
		if got := be.Failed[i]; got.Event != want || !sink.IsPermanent(got.Err) {
			t.Errorf("failure %d: got event %d (%v), want %d, permanent", i, got.Event, got.Err, want)
		}
	}
	if sink.IsPermanent(be.Failed[2].Err) {
		t.Errorf("a good event is permanent: %v", be.Failed[2].Err)
	}
	w.want("SELECT count(*) FROM items", "0")
	w.want("SELECT sequence FROM runnel.checkpoints", "0")
	// The host has put both aside, and gives the rest again.
	ev := b.Spans[0].Events
	b.Spans[0].Events = append(append(append([]event.Event{}, ev[:317]...), ev[318:800]...), ev[801:]...)
	w.handle(s, b)
	w.want("SELECT count(*), sum((doc->>'i')::int) FROM items", fmt.Sprintf("998|%d", 999*1000/2-317-800))
}

// testDeferredConstraint: an error that comes with the commit is no success.
func testDeferredConstraint(t *testing.T, w *world) {
	w.exec(`CREATE TABLE items (id bigint PRIMARY KEY, name text);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.name = 'bad' THEN RAISE 'refused'; END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON items DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	s, f, sc := w.sink(postgres.Config{}), &flow{generation: 1}, items()
	w.claim(s, f)
	err := s.Handle(t.Context(), f.add(event.Create, sc, `{"id":1,"name":"good"}`).add(event.Create, sc, `{"id":2,"name":"bad"}`).batch())
	var be *sink.BatchError
	if !errors.As(err, &be) || be.Failed[0].Event != 1 || !sink.IsPermanent(be.Failed[0].Err) {
		t.Fatalf("got %v, want event 1 refused", err)
	}
	w.want("SELECT count(*) FROM items", "0")
	w.want("SELECT sequence FROM runnel.checkpoints", "0")
}

// testRace: two workers believe that they own a partition, and both write all of it. Every event counts once.
func testRace(t *testing.T, w *world) {
	w.exec("CREATE TABLE log (line text)")
	sc := schema("log", event.Column{Name: "line", Type: "text", Nullable: true})
	var batches []sink.Batch
	f := &flow{generation: 1}
	for i := range 60 {
		batches = append(batches, f.add(event.Create, sc, fmt.Sprintf(`{"line":"%d a"}`, i)).add(event.Create, sc, fmt.Sprintf(`{"line":"%d b"}`, i)).batch())
	}
	var wg sync.WaitGroup
	for range 2 {
		s := w.sink(postgres.Config{})
		if _, err := s.Claim(t.Context(), (&flow{generation: 1}).claim()); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for _, b := range batches {
				if err := s.Handle(t.Context(), b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	w.want("SELECT count(*), count(DISTINCT line) FROM log", "120|120")
}

// testCutConnections: writes that are cut at any moment, also while they commit. Rows without a key would show a repetition.
func testCutConnections(t *testing.T, w *world) {
	s, f := w.sink(postgres.Config{}), &flow{generation: 1}
	sc := schema("log", event.Column{Name: "line", Type: "text", Nullable: true})
	w.claim(s, f)
	cut, found := 0, 0
	for i := range 40 {
		for range 20 {
			f.add(event.Create, sc, fmt.Sprintf(`{"line":"%d"}`, i))
		}
		b := f.batch()
		for limit := time.Duration(i%8) * 250 * time.Microsecond; ; limit += 500 * time.Microsecond {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			err := s.Handle(ctx, b)
			cancel()
			if err == nil {
				break
			}
			if cut++; sink.IsHalt(err) || sink.IsPermanent(err) {
				t.Fatal(err)
			}
			if len(w.rows("SELECT FROM runnel.checkpoints WHERE version = $1", b.Spans[0].To.Version)) > 0 {
				found++ // committed, though we were not told
			}
		}
	}
	t.Logf("%d writes cut, %d of them after they had committed", cut, found)
	w.want("SELECT count(*), count(DISTINCT line) FROM log", "800|40")
}

func testGenerations(t *testing.T, w *world) {
	s, sc := w.sink(postgres.Config{}), items()
	claim := func(gen int64, start uint64, replay bool) (uint64, error) {
		at, err := s.Claim(t.Context(), sink.Claim{Function: "f", Generation: gen, Start: point(start), Replay: replay})
		return at.Sequence, err
	}
	if at, err := claim(1, 10, false); at != 10 || err != nil {
		t.Fatal(at, err)
	}
	f := &flow{generation: 1, at: point(10)}
	b := f.add(event.Create, sc, `{"id":1,"name":"x"}`).batch()
	w.handle(s, b)
	for _, c := range []struct {
		gen    int64
		start  uint64
		replay bool
		want   uint64
	}{
		{1, 10, false, 11}, // again: what the row says
		{2, 11, false, 11},
		{3, 5, false, 11}, // taken over: the older checkpoint is ahead of the floors
		{4, 5, true, 5},   // a replay goes back
		{5, 9, true, 5},   // but not over what the one before had not reached
		{6, 9, false, 9},  // the target lost its past: the caller compares with its floor
	} {
		if at, err := claim(c.gen, c.start, c.replay); at != c.want || err != nil {
			t.Errorf("generation %d: got %d, %v, want %d", c.gen, at, err, c.want)
		}
	}
	// One that takes the place of another goes on from its checkpoint alone, or from its own beginning where that one never came.
	for _, c := range []struct {
		gen, replaces int64
		start         uint64
		replay        bool
		want          uint64
	}{
		{10, 6, 7, false, 9},   // generation 6 was ahead of its floor
		{11, 10, 12, false, 9}, // and this target was restored: back to what it knows
		{12, 11, 4, true, 4},
		{14, 13, 6, true, 6},  // 13 was to begin at 6, and never came here; what is left of 12 says nothing
		{15, 14, 9, true, 6},  // never over what it had not reached
		{17, 16, 5, false, 5}, // 16 never came, and 15 was ahead
		{19, 18, 9, false, 5}, // 18 never came, and the target knows less than it began with
		{21, 18, 3, false, 5}, // 19 came, and JetStream has lost it
	} {
		at, err := s.Claim(t.Context(), sink.Claim{Function: "f", Generation: c.gen, Start: point(c.start), Replay: c.replay, Replaces: c.replaces})
		if at.Sequence != c.want || err != nil {
			t.Errorf("generation %d: got %d, %v, want %d", c.gen, at.Sequence, err, c.want)
		}
	}
	if _, err := claim(5, 9, false); !errors.Is(err, sink.ErrClosed) {
		t.Errorf("an older generation: got %v, want ErrClosed", err)
	}
	if err := s.Handle(t.Context(), f.add(event.Create, sc, `{"id":2,"name":"x"}`).batch()); !errors.Is(err, sink.ErrClosed) {
		t.Errorf("a write of an older generation: got %v, want ErrClosed", err)
	}
	w.want("SELECT * FROM items", "1|x")
}

// testKeySpelling: equal keys that look different are one row, and it looks as the source's newest.
func testKeySpelling(t *testing.T, w *world) {
	w.exec("CREATE EXTENSION citext SCHEMA public; CREATE TABLE mails (m public.citext, n numeric, v int, PRIMARY KEY (m, n))")
	s, f := w.sink(postgres.Config{}), &flow{generation: 1}
	sc := schema("mails", event.Column{Name: "m", Type: "public.citext", Base: "text", Key: 1}, event.Column{Name: "n", Type: "numeric", Key: 2}, event.Column{Name: "v", Type: "integer"})
	w.claim(s, f)
	f.add(event.Create, sc, `{"m":"Ann","n":1.0,"v":1}`).add(event.Update, sc, `{"m":"ann","n":1.00,"v":2}`)
	w.handle(s, f.batch())
	w.handle(s, f.add(event.Update, sc, `{"m":"ANN","n":1,"v":3}`).batch())
	w.want("SELECT m::text, n::text, v FROM mails", "ANN|1|3")
	w.handle(s, f.add(event.Delete, sc, `{"m":"aNN","n":1.000}`).batch())
	w.want("SELECT count(*) FROM mails", "0")
}
