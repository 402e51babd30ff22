package registry_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func point(sequence uint64) sink.Point {
	return sink.Point{Sequence: sequence, Version: event.Version(sequence << 10)}
}

// begun writes that a generation has taken the place of the one before it, as a worker does.
func begun(t *testing.T, r *registry.Registry, name string, at ...sink.Point) {
	t.Helper()
	n := record(t, r, name)
	n.Waits, n.Starts = false, at
	if n.Replay != nil {
		n.Replay.Until = at
	}
	write(t, r, name, n)
}

func write(t *testing.T, r *registry.Registry, name string, record registry.FunctionRecord) {
	t.Helper()
	value, err := json.Marshal(record)
	if err == nil {
		_, err = r.Functions.Put(t.Context(), name, value)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A replay is a new generation; two that were ordered before the first began are one; and a cancelled one goes on where the function was.
func TestOrderReplay(t *testing.T) {
	t.Parallel()
	r := open(t)
	deploy(t, r, source, several)
	first := record(t, r, "many")
	if err := r.SetFunctionState(t.Context(), "many", 0, registry.Halted, "a test"); err != nil {
		t.Fatal(err)
	}
	if ok, err := r.CancelReplay(t.Context(), "many"); ok || err != nil {
		t.Errorf("cancelled nothing: %v, %v", ok, err)
	}
	replay := func(from, to uint64) registry.FunctionRecord {
		t.Helper()
		got, err := r.OrderReplay(t.Context(), "many", registry.Replay{From: point(from), To: to})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := replay(100, 0)
	if got.Generation <= first.Generation || !got.Waits || got.Replaces.Generation != first.Generation || got.State != registry.Running || got.Version != first.Version {
		t.Errorf("%+v", got)
	}
	if got = replay(200, 300); got.Replay.From != point(100) || got.Replaces.Generation != first.Generation {
		t.Errorf("the first one is forgotten: %+v", got)
	}
	begun(t, r, "many", point(500), point(600))
	if p := record(t, r, "many").Replay; p.Over(0, point(299)) || !p.Over(0, point(300)) || !p.Over(1, point(600)) || !p.Over(2, point(1)) {
		t.Errorf("%+v", p)
	}
	if ok, err := r.CancelReplay(t.Context(), "many"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	got = record(t, r, "many")
	if !got.Waits || !got.Replay.Cancelled || len(got.Replay.Until) != 2 || got.Replay.Until[1] != point(600) {
		t.Errorf("%+v", got)
	}
	begun(t, r, "many", point(500), point(600))
	replay(100, 0)
	if ok, err := r.CancelReplay(t.Context(), "many"); !ok || err != nil || record(t, r, "many").Replay != nil {
		t.Errorf("one that has not begun: %v, %v", ok, err)
	}
}

// PostgreSQL has no versions: what would leave old rows, or rows twice, is refused.
func TestReplayIntoPostgreSQL(t *testing.T) {
	t.Parallel()
	r := open(t)
	deploy(t, r, source, strings.Replace(several, `{clickhouse: {url: "${CH_URL}", table: "{table}"}}`, `{postgres: {url: "${COPY_URL}"}}`, 1))
	refused := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	_, err := r.OrderReplay(t.Context(), "many", registry.Replay{From: point(100), To: 200})
	refused(err, "leave out the end")
	if _, err := r.OrderReplay(t.Context(), "many", registry.Replay{From: point(100)}); err != nil {
		t.Fatal(err)
	}
	begun(t, r, "many", point(500))
	_, err = r.CancelReplay(t.Context(), "many")
	refused(err, "cannot be cancelled")
	s := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"}, []event.Column{{Name: "id", Type: "bigint"}})
	if _, err := r.Schemas.Put(t.Context(), s.KVKey(), s.Marshal()); err != nil {
		t.Fatal(err)
	}
	_, err = r.OrderReplay(t.Context(), "many", registry.Replay{From: point(100)})
	refused(err, "public.orders has no key")
}
