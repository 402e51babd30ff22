package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// open gives a registry on a JetStream of its own.
func open(t *testing.T) *registry.Registry {
	t.Helper()
	server, err := stream.Start(stream.Embedded{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	conn, err := server.Connect(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	r, err := registry.Open(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const source = `kind: source
name: shop
postgres: {url: "${SHOP_URL}"}
tables: [public.orders, public.items]
`

const function = `kind: function
name: search
from: shop.public.orders
to: {elasticsearch: {url: "${ES_URL}"}}
`

func files(t *testing.T, documents ...string) *registry.Files {
	t.Helper()
	file := filepath.Join(t.TempDir(), "spec.yaml")
	if err := os.WriteFile(file, []byte(strings.Join(documents, "---\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := registry.ReadFiles(file)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func deploy(t *testing.T, r *registry.Registry, documents ...string) string {
	t.Helper()
	steps, err := r.Deploy(t.Context(), files(t, documents...))
	if err != nil {
		t.Fatal(err)
	}
	return actions(steps)
}

func actions(steps []registry.Step) string {
	var all []string
	for _, s := range steps {
		all = append(all, s.Action+" "+s.Name)
	}
	return strings.Join(all, ", ")
}

func record(t *testing.T, r *registry.Registry, name string) registry.FunctionRecord {
	t.Helper()
	_, n, err := r.FunctionOf(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return n.Record
}

func TestDeploy(t *testing.T) {
	t.Parallel()
	r := open(t)
	before := time.Now().Unix()
	plan, err := r.Plan(t.Context(), files(t, source, function))
	if got, want := actions(plan), "create shop, create search"; err != nil || got != want {
		t.Errorf("plan: got %s, %v, want %s", got, err, want)
	}
	if all, err := r.ListFunctions(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("a plan deployed %v, %v", all, err)
	}
	if got, want := deploy(t, r, source, function), "create shop, create search"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	first := record(t, r, "search")
	if first.Version != 1 || first.Generation < before || first.State != registry.Running || first.Spec+"\n" != function {
		t.Errorf("got %+v", first)
	}
	if got, want := deploy(t, r, source, function), "unchanged shop, unchanged search"; got != want {
		t.Errorf("again: got %s, want %s", got, want)
	}

	// What is deployed counts for files that do not have it.
	changed := function + "batch: {rows: 10}\n"
	steps, err := r.Deploy(t.Context(), files(t, changed))
	if err != nil || actions(steps) != "change search" {
		t.Fatalf("got %s, %v", actions(steps), err)
	}
	if want := "+ batch: {rows: 10}\n"; !strings.HasSuffix(steps[0].Diff, want) {
		t.Errorf("diff: got %q, want the end %q", steps[0].Diff, want)
	}
	second := record(t, r, "search")
	if second.Version != 2 || second.Generation != first.Generation {
		t.Errorf("got %+v after %+v", second, first)
	}
}

func TestDeployRefuses(t *testing.T) {
	t.Parallel()
	r := open(t)
	deploy(t, r, source, function)
	for name, c := range map[string]struct{ document, want string }{
		"URL":        {strings.Replace(function, "${ES_URL}", "${OTHER_URL}", 1), `function "search": its target cannot change in place`},
		"Kind":       {strings.Replace(function, "elasticsearch", "postgres", 1), `function "search": its target cannot change in place`},
		"SameTarget": {strings.Replace(function, "name: search", "name: copy", 1), `:4:5: function "copy" and function "search" would both write elasticsearch "orders" at the same URL`},
		"NoSource":   {strings.Replace(strings.Replace(function, "search", "x", 1), "shop.", "shp.", 1), `:3:7: no source "shp", neither in the files nor deployed; did you mean "shop"?`},
		"NoTable":    {strings.Replace(strings.Replace(function, "search", "x", 1), "orders", "order", 1), `:3:7: source "shop" does not capture public.order; its tables are public.orders, public.items`},
		"Partitions": {source + "stream: {partitions: 4}\n", `source "shop": stream.partitions is 8 and cannot change`},
		"Slot":       {strings.Replace(source, `"}`, `", slot: other}`, 1), `source "shop": postgres.slot is "runnel_shop" and cannot change`},
	} {
		_, err := r.Deploy(t.Context(), files(t, c.document))
		var configuration interface{ Configuration() bool }
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &configuration) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	if got := record(t, r, "search"); got.Version != 1 {
		t.Errorf("a refused deploy changed the record: %+v", got)
	}
}

// A changed specification lets what halted try again; what the operator paused stays paused.
func TestDeployAndState(t *testing.T) {
	t.Parallel()
	r := open(t)
	deploy(t, r, source, function)
	generation := record(t, r, "search").Generation
	set := func(generation int64, s registry.State, reason string) {
		t.Helper()
		if err := r.SetFunctionState(t.Context(), "search", generation, s, reason); err != nil {
			t.Fatal(err)
		}
	}
	state := func(want registry.State, reason string) {
		t.Helper()
		if got := record(t, r, "search"); got.State != want || got.Reason != reason {
			t.Errorf("got %s %q, want %s %q", got.State, got.Reason, want, reason)
		}
	}
	set(generation-1, registry.Halted, "an old worker")
	state(registry.Running, "")
	set(generation, registry.Halted, "a column is missing")
	state(registry.Halted, "a column is missing")
	deploy(t, r, function)
	state(registry.Halted, "a column is missing")
	deploy(t, r, function+"batch: {rows: 10}\n")
	state(registry.Running, "")
	set(0, registry.Paused, "")
	set(generation, registry.Halted, "a worker that had not seen it")
	state(registry.Paused, "")
	deploy(t, r, function+"batch: {rows: 20}\n")
	state(registry.Paused, "")
}

// A function of the same name gets another generation, although its clock stands still.
func TestGenerationIsNeverReused(t *testing.T) {
	t.Parallel()
	r := open(t)
	deploy(t, r, source)
	last := int64(0)
	for range 3 {
		deploy(t, r, function)
		got := record(t, r, "search").Generation
		if got <= last {
			t.Fatalf("got %d after %d", got, last)
		}
		last = got
		if _, err := r.Owners.Put(t.Context(), "search."+strconv.FormatInt(got, 10)+".0", []byte(`{"turn":1,"floor":{"sequence":7,"version":8}}`)); err != nil {
			t.Fatal(err)
		}
		if owners, err := r.OwnersOf(t.Context(), "search", got); err != nil || owners[0].Floor.Sequence != 7 {
			t.Errorf("owners: got %v, %v", owners, err)
		}
		if err := r.DeleteFunction(t.Context(), "search"); err != nil {
			t.Fatal(err)
		}
		if owners, err := r.OwnersOf(t.Context(), "search", got); err != nil || len(owners) != 0 {
			t.Errorf("owners after delete: got %v, %v", owners, err)
		}
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	r := open(t)
	deploy(t, r, source, function)
	if err := r.DeleteSource(t.Context(), "shop"); err == nil || !strings.Contains(err.Error(), `function "search" reads from it`) {
		t.Errorf("got %v", err)
	}
	if err := r.DeleteFunction(t.Context(), "serch"); err == nil || !strings.Contains(err.Error(), `did you mean "search"?`) {
		t.Errorf("got %v", err)
	}
	for _, do := range []func() error{
		func() error { return r.DeleteFunction(t.Context(), "search") },
		func() error { return r.DeleteSource(t.Context(), "shop") },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := r.SourceOf(t.Context(), "shop")
	var absent *registry.NotDeployedError
	if !errors.As(err, &absent) {
		t.Errorf("got %v", err)
	}
	if got, want := deploy(t, r, source), "create shop"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Operators who deploy at the same time do not overwrite each other, and none is turned away.
func TestConcurrentDeploys(t *testing.T) {
	t.Parallel()
	r := open(t)
	var all []*registry.Files
	for i := range 5 {
		all = append(all, files(t, source, function+"batch: {rows: "+strconv.Itoa(i+1)+"}\n"))
	}
	var wait sync.WaitGroup
	for _, f := range all {
		wait.Go(func() {
			if _, err := r.Deploy(t.Context(), f); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got := record(t, r, "search").Version; got != len(all) {
		t.Errorf("got version %d, want %d", got, len(all))
	}
}

func TestCaptureOf(t *testing.T) {
	t.Parallel()
	r := open(t)
	if _, ok, err := r.CaptureOf(t.Context(), "shop"); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	if _, err := r.Captures.Put(t.Context(), "shop", []byte(`{"position":"1@0/16B3748","load":{"id":"x","done":true}}`)); err != nil {
		t.Fatal(err)
	}
	got, ok, err := r.CaptureOf(t.Context(), "shop")
	want := registry.Capture{Position: "1@0/16B3748", Load: registry.Load{ID: "x", Done: true}}
	if d := cmp.Diff(want, got); err != nil || !ok || d != "" {
		t.Errorf("got %v, %v (-want +got):\n%s", ok, err, d)
	}
}
