package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func init() { cases["Swap"] = testSwap }

// testSwap: the copy's table comes in the place of the function's with its checkpoints, once, however often and by how many it is asked for;
// and who still writes for the generations before changes nothing.
func testSwap(t *testing.T, w *world) {
	x := items()
	live, own := w.sink(postgres.Config{Table: "items"}), &flow{generation: 1}
	w.claim(live, own)
	w.handle(live, own.add(event.Create, x, `{"id":1,"name":"old"}`).add(event.Create, x, `{"id":2,"name":"gone"}`).batch())
	w.exec(`DO $$ BEGIN CREATE ROLE reader; EXCEPTION WHEN duplicate_object THEN END $$`)
	w.exec(`GRANT SELECT ON items TO reader`)

	copied, c := w.sink(postgres.Config{Function: "f-copy", Table: "items_v2"}), &flow{generation: 7}
	if taken, err := copied.Taken(t.Context(), []*event.Schema{x}); err != nil || len(taken) > 0 {
		t.Fatalf("taken before the copy: %v, %v", taken, err)
	}
	at, err := copied.Claim(t.Context(), sink.Claim{Function: "f-copy", Generation: 7, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	c.at = at
	w.handle(copied, c.add(event.Create, x, `{"id":1,"name":"new"}`).batch())
	if taken, err := copied.Taken(t.Context(), []*event.Schema{x}); err != nil || strings.Join(taken, " ") != `"public"."items_v2"` {
		t.Fatalf("taken by the copy: %v, %v", taken, err)
	}

	order := sink.Swap{Generation: 2, Copy: "f-copy", CopyGeneration: 7, Into: "items_v2", Schemas: []*event.Schema{x}}
	w.exec(`CREATE VIEW seen AS SELECT * FROM items`)
	if _, err := live.Marks(t.Context(), order); !sink.IsHalt(err) || !strings.Contains(err.Error(), "DROP VIEW public.seen;") {
		t.Fatalf("with a view: %v", err)
	}
	w.exec(`DROP VIEW seen`)
	if order.Marks, err = live.Marks(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	if ends, err := live.End(t.Context(), 2, 2); err != nil || ends[0] != own.at || ends[1] != (sink.Point{}) {
		t.Errorf("the function has come to %v, %v; want %v in partition 0", ends, err, own.at)
	}
	var several sync.WaitGroup
	for range 4 {
		several.Go(func() {
			if err := live.Swap(t.Context(), order); err != nil {
				t.Error(err)
			}
		})
	}
	several.Wait()
	w.want(`SELECT (SELECT string_agg(name, ' ' ORDER BY id) FROM items), (SELECT string_agg(name, ' ' ORDER BY id) FROM items_v2)`, "new|old gone")
	w.want(`SELECT target, function FROM runnel.targets`, `"public"."items"|f`)
	w.want(`SELECT has_table_privilege('reader', 'items', 'SELECT')`, "true")

	late := own.add(event.Create, x, `{"id":3,"name":"late"}`).batch()
	if err := live.Handle(t.Context(), late); !errors.Is(err, sink.ErrClosed) {
		t.Errorf("the generation before still writes: %v", err)
	}
	late = c.add(event.Create, x, `{"id":3,"name":"late"}`).batch()
	if err := copied.Handle(t.Context(), late); !errors.Is(err, sink.ErrClosed) {
		t.Errorf("the copy still writes: %v", err)
	}
	if _, err := copied.Claim(t.Context(), sink.Claim{Function: "f-copy", Generation: 7, Fresh: true}); !errors.Is(err, sink.ErrClosed) {
		t.Errorf("the copy can be claimed: %v", err)
	}

	after, next := w.sink(postgres.Config{Table: "items"}), &flow{generation: 2}
	if next.at, err = after.Claim(t.Context(), sink.Claim{Function: "f", Generation: 2, Replaces: 1}); err != nil || next.at != at && next.at.Sequence != 1 {
		t.Fatalf("the function goes on at %v, %v; want where the copy stood", next.at, err)
	}
	w.handle(after, next.add(event.Update, x, `{"id":1,"name":"newest"}`).batch())
	if err := live.Swap(t.Context(), order); err != nil { // by who has slept
		t.Error(err)
	}
	w.want(`SELECT name FROM items`, "newest")

	// A later copy begins at its own place, and not where this one had come.
	again := w.sink(postgres.Config{Function: "f-copy", Table: "items_v3"})
	start := point(1000)
	if at, err := again.Claim(t.Context(), sink.Claim{Function: "f-copy", Generation: 9, Start: start, Fresh: true}); err != nil || at != start {
		t.Errorf("another copy begins at %v, %v; want %v", at, err, start)
	}
}
