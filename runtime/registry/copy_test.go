package registry_test

import (
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// copied makes a copy of the function "many" that reads all that there is.
func copied(t *testing.T, r *registry.Registry, into string, whole bool) registry.FunctionRecord {
	t.Helper()
	p, err := r.PlanCopy(t.Context(), "many", into)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.OrderCopy(t.Context(), "many", p, &registry.Replay{From: point(3), Until: []sink.Point{point(9)}}, sink.Point{}, whole)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A copy is a function of the same specification with another name and another target; a swap gives the function a new generation, once, and
// until that has begun nothing else changes it.
func TestCopyAndSwap(t *testing.T) {
	t.Parallel()
	r := open(t)
	deploy(t, r, source, several)
	first := record(t, r, "many")
	if _, err := r.OrderSwap(t.Context(), "many", false); err == nil || !strings.Contains(err.Error(), "has no copy") {
		t.Errorf("without a copy: %v", err)
	}
	c := copied(t, r, "{table}_v2", true)
	want := strings.NewReplacer("name: many", "name: \"many-copy\"", `table: "{table}"`, `table: "{table}_v2"`).Replace(several)
	if c.Spec != want || c.Start != point(3) || c.Copy.Of != "many" || c.State != registry.Running || c.Replaces != nil {
		t.Errorf("got %+v, want the specification\n%s", c, want)
	}
	if _, err := r.PlanCopy(t.Context(), "many", "{table}_v3"); err == nil || !strings.Contains(err.Error(), "has a copy already") {
		t.Errorf("a second copy: %v", err)
	}
	swap := func() registry.FunctionRecord {
		t.Helper()
		got, err := r.OrderSwap(t.Context(), "many", false)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := swap()
	if got.Generation <= first.Generation || !got.Waits || got.Swap.Copy != "many-copy" || got.Swap.Generation != c.Generation || got.Swap.Into != "{table}_v2" {
		t.Errorf("%+v", got)
	}
	if again := swap(); again.Generation != got.Generation {
		t.Errorf("ordered again: generation %d, want %d", again.Generation, got.Generation)
	}
	if _, err := r.OrderReplay(t.Context(), "many", registry.Replay{From: point(1)}); err == nil || !strings.Contains(err.Error(), "--cancel") {
		t.Errorf("a replay meanwhile: %v", err)
	}
	if _, err := r.Deploy(t.Context(), files(t, several+"filter: after.id > 3\n")); err == nil || !strings.Contains(err.Error(), "--cancel") {
		t.Errorf("a deployment meanwhile: %v", err)
	}
	if ok, err := r.CancelSwap(t.Context(), "many"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if now := record(t, r, "many"); now.Swap != nil || !now.Waits || now.Replaces.Generation != first.Generation {
		t.Errorf("cancelled: %+v", now)
	}
	swap()
	marked := record(t, r, "many")
	marked.Swap.Marked = true
	write(t, r, "many", marked)
	if _, err := r.CancelSwap(t.Context(), "many"); err == nil || !strings.Contains(err.Error(), "cannot be cancelled") {
		t.Errorf("cancelled once the target may have swapped: %v", err)
	}
}

// A swap is refused where the copy does not hold what the function would.
func TestSwapRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		whole  bool
		before func(*testing.T, *registry.Registry)
		want   string
	}{
		"Part":    {false, func(*testing.T, *registry.Registry) {}, "since sequence 3"},
		"Changed": {true, func(t *testing.T, r *registry.Registry) { deploy(t, r, several+"filter: after.id > 3\n") }, "has changed since"},
		"Paused": {true, func(t *testing.T, r *registry.Registry) {
			if err := r.SetFunctionState(t.Context(), "many-copy", 0, registry.Paused, ""); err != nil {
				t.Fatal(err)
			}
		}, "`runnel resume many-copy`"},
		"Backfill": {true, func(t *testing.T, r *registry.Registry) {
			if _, err := r.OrderBackfill(t.Context(), "many", registry.Backfill{Start: point(5), Why: "a test"}); err != nil {
				t.Fatal(err)
			}
		}, "is not done yet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t)
			deploy(t, r, source, several)
			copied(t, r, "{table}_v2", c.whole)
			c.before(t, r)
			if _, err := r.OrderSwap(t.Context(), "many", false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// A copy needs a name for its target that nobody writes.
func TestCopyRefused(t *testing.T) {
	t.Parallel()
	r := open(t)
	deploy(t, r, source, strings.Replace(several, "public.orders]", "public.*]", 1))
	copied(t, r, "{table}_v2", true)
	deploy(t, r, strings.Replace(several, "public.orders]", "public.*]", 1)+"batch: {rows: 7}\n") // which the copy does not forbid
	if err := r.DeleteFunction(t.Context(), "many-copy"); err != nil {
		t.Fatal(err)
	}
	for into, want := range map[string]string{"{table}": "is called \"{table}\" itself", "{tabel}_v2": "{tabel}"} {
		if _, err := r.PlanCopy(t.Context(), "many", into); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("into %s: %v, want %q", into, err, want)
		}
	}
}
