package registry_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

const several = `kind: function
name: many
from: [shop.public.orders]
to: {clickhouse: {url: "${CH_URL}", table: "{table}"}}
`

// A change of what is read or written makes a new generation, which waits for the old one and reads again what the target lacks.
func TestGenerations(t *testing.T) {
	t.Parallel()
	wider := strings.Replace(several, "[shop", "[shop.public.items, shop", 1)
	for name, c := range map[string]struct {
		document  string
		succeeds  bool
		backfills []registry.Backfill
	}{
		"Batch":    {several + "batch: {rows: 7}\n", false, nil},
		"Filter":   {several + "filter: after.id > 3\n", true, []registry.Backfill{{Why: "filter, ops, columns, set or mask changed"}}},
		"Set":      {several + "set: {x: \"1\"}\n", true, []registry.Backfill{{Why: "filter, ops, columns, set or mask changed"}}},
		"Wider":    {wider, true, []registry.Backfill{{Why: "from has more tables", Tables: []string{"shop.public.items"}}}},
		"Wildcard": {strings.Replace(several, "orders", "*", 1), true, []registry.Backfill{{Why: "from has more tables", Tables: []string{"shop.public.*"}}}},
		"NoRows":   {several + "ops: [c, u, d]\n", true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t)
			deploy(t, r, source, several)
			first := record(t, r, "many")
			deploy(t, r, c.document)
			got := record(t, r, "many")
			want := first
			want.Spec, want.Version = strings.TrimSuffix(c.document, "\n"), 2
			if c.succeeds {
				want.Generation, want.Waits, want.Backfills = first.Generation+1, true, c.backfills
				want.Replaces = &registry.Replaced{Generation: first.Generation}
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(registry.FunctionRecord{}, "Updated"), cmpopts.IgnoreFields(registry.Backfill{}, "ID", "Ordered")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// One that has not begun yet is replaced itself, and what it had ordered is still to be done; narrowing needs nothing to be read.
func TestGenerationsInARow(t *testing.T) {
	t.Parallel()
	r := open(t)
	wide := strings.Replace(several, "[shop", "[shop.public.items, shop", 1)
	deploy(t, r, source, wide)
	first := record(t, r, "many")
	deploy(t, r, wide+"filter: after.id > 3\n")
	deploy(t, r, several+"filter: after.id > 3\n")
	got := record(t, r, "many")
	if got.Generation != first.Generation+2 || !got.Waits || got.Replaces.Generation != first.Generation || len(got.Backfills) != 1 || got.Version != 3 {
		t.Errorf("got %+v", got)
	}
	id := got.Backfills[0].ID
	if _, err := r.OrderBackfill(t.Context(), "many", registry.Backfill{Where: "true", Start: sink.Point{Sequence: 7}}); err != nil {
		t.Fatal(err)
	}
	pending := func() int {
		t.Helper()
		all, err := r.PendingBackfills(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if n := pending(); n != 0 {
		t.Errorf("%d backfills of a generation that has not begun", n)
	}
	got = record(t, r, "many")
	got.Waits = false
	value, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Functions.Put(t.Context(), "many", value); err != nil {
		t.Fatal(err)
	}
	if n := pending(); n != 2 {
		t.Errorf("%d backfills, want 2", n)
	}
	status := registry.BackfillStatus{Done: true}
	if _, err := r.Snapshots.Put(t.Context(), registry.BackfillKey("shop", registry.BackfillLoad("many", id)), status.Bytes()); err != nil {
		t.Fatal(err)
	}
	gone, err := r.CancelBackfills(t.Context(), "many")
	if err != nil || len(gone) != 1 || gone[0].Where != "true" {
		t.Errorf("withdrawn: %+v, %v", gone, err)
	}
	if got := record(t, r, "many"); len(got.Backfills) != 1 || got.Backfills[0].ID != id {
		t.Errorf("kept: %+v", got.Backfills)
	}
}

// What would have to be read again and cannot be is refused.
func TestGenerationWithoutAKey(t *testing.T) {
	t.Parallel()
	r := open(t)
	s := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"}, []event.Column{{Name: "id", Type: "bigint"}})
	if _, err := r.Schemas.Put(t.Context(), s.KVKey(), s.Marshal()); err != nil {
		t.Fatal(err)
	}
	deploy(t, r, source, several)
	_, err := r.Deploy(t.Context(), files(t, several+"filter: after.id > 3\n"))
	if err == nil || !strings.Contains(err.Error(), "public.orders has no key") {
		t.Errorf("got %v", err)
	}
}

// Rows of other tables never come among those that the target has.
func TestGenerationOfOtherTables(t *testing.T) {
	t.Parallel()
	r := open(t)
	fixed := strings.Replace(several, "{table}", "things", 1)
	deploy(t, r, source, fixed)
	_, err := r.Deploy(t.Context(), files(t, strings.Replace(fixed, "orders", "items", 1)))
	if err == nil || !strings.Contains(err.Error(), "clickhouse things holds the rows") {
		t.Errorf("got %v", err)
	}
	if got := record(t, r, "many"); got.Version != 1 {
		t.Errorf("a refused deploy changed the record: %+v", got)
	}
}
