package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// Every file in testdata/faults is refused with exactly the messages that stand beside it.
func TestFaults(t *testing.T) {
	t.Chdir("testdata/faults")
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".yaml"), func(t *testing.T) {
			_, err := registry.ReadFiles(file)
			var faults registry.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want faults", err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", faults.Error()+"\n")
		})
	}
}

func TestFaultsOfSeveralFiles(t *testing.T) {
	t.Chdir("testdata/faults")
	_, err := registry.ReadFiles("names.yaml", "absent.yaml", "unknown_field.yaml")
	if err == nil {
		t.Fatal("got no error")
	}
	var files []string
	for line := range strings.Lines(err.Error()) {
		name, _, _ := strings.Cut(line, ":")
		if len(files) == 0 || files[len(files)-1] != name {
			files = append(files, name)
		}
	}
	if d := cmp.Diff([]string{"names.yaml", "absent.yaml", "unknown_field.yaml"}, files); d != "" {
		t.Errorf("files in order (-want +got):\n%s", d)
	}
}

func TestReadFiles(t *testing.T) {
	f, err := registry.ReadFiles("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	failover := false
	want := &registry.Files{
		Sources: []registry.Source{{
			Name:     "shop",
			Postgres: &registry.PostgresSource{URL: "${SHOP_URL}", Slot: "runnel_shop", Publication: "runnel_shop", Failover: &failover, Heartbeat: 5 * time.Second},
			Tables:   []string{"public.orders", "public.inv_*"},
			Stream:   registry.StreamSettings{Partitions: 8, MaxAge: 14 * 24 * time.Hour, MaxBytes: 500e6},
			Snapshot: registry.SnapshotSettings{Parallel: 2, ChunkRows: 10_000},
		}},
		Functions: []registry.Function{{
			Name:     "orders-search",
			From:     []string{"shop.public.orders"},
			To:       registry.Target{Elasticsearch: &registry.ElasticsearchTarget{URL: "${ES_URL}", User: "elastic", Password: "${ES_PASSWORD}", Index: "orders"}},
			Batch:    registry.Batching{Rows: 5000, Bytes: 8 << 20},
			Ordering: registry.OrderKey,
			Truncate: registry.TruncateApply,
		}, {
			Name:     "copy",
			From:     []string{"shop.public.orders", "shop.public.inv_stock"},
			To:       registry.Target{Postgres: &registry.PostgresTarget{URL: "postgres://runnel:${PASSWORD}@db/copy", Table: "{schema}.{table}"}},
			Batch:    registry.Batching{Rows: 100, Bytes: 1 << 20, Age: 50 * time.Millisecond},
			Ordering: registry.OrderSource, Rate: 0.5,
			Truncate: registry.TruncateIgnore,
		}},
	}
	if d := cmp.Diff(want, &registry.Files{Sources: f.Sources, Functions: f.Functions}, cmp.Comparer(func(a, b map[string]string) bool { return true }), cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "documents" || p.String() == "copies" }, cmp.Ignore())); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	// What is kept in KV reads back as the same.
	source, err := registry.ParseSource("shop", f.Text["source/shop"])
	if d := cmp.Diff(&f.Sources[0], source); err != nil || d != "" {
		t.Errorf("source from its text: %v\n%s", err, d)
	}
	for i := range f.Functions {
		name := f.Functions[i].Name
		fn, err := registry.ParseFunction(name, f.Text["function/"+name])
		if d := cmp.Diff(&f.Functions[i], fn); err != nil || d != "" {
			t.Errorf("function %s from its text: %v\n%s", name, err, d)
		}
	}
	if _, err := registry.ParseFunction("other", f.Text["function/copy"]); err == nil {
		t.Error("a document under another name was accepted")
	}
}

// An empty document between others hides none of them.
func TestEmptyDocument(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	source := "kind: source\nname: a\npostgres: {url: \"${A}\"}\ntables: public.x\n"
	content := "---\n---\n# nothing\n---\n" + source + "--- # second\n" + strings.Replace(source, "name: a", "name: b", 1) + "...\n"
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := registry.ReadFiles(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Sources) != 2 || f.Sources[1].Name != "b" {
		t.Errorf("got %v", f.Sources)
	}
}

func TestResolve(t *testing.T) {
	t.Setenv("RUNNEL_TEST_PASSWORD", "s3cret")
	got, err := registry.Resolve("postgres://u:${RUNNEL_TEST_PASSWORD}@h/${RUNNEL_TEST_PASSWORD}")
	if want := "postgres://u:s3cret@h/s3cret"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	_, err = registry.Resolve("${RUNNEL_TEST_PASSWORD}${RUNNEL_TEST_A}${RUNNEL_TEST_B}")
	if want := "environment variables RUNNEL_TEST_A, RUNNEL_TEST_B are not set: export them where runnel runs"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	var missing *registry.MissingError
	if !errors.As(err, &missing) {
		t.Errorf("got %T", err)
	}
}

func TestMatches(t *testing.T) {
	f := registry.Function{From: []string{"shop.public.*", "shop.a%2Eb.x"}}
	for table, want := range map[event.Table]bool{
		{Schema: "public", Name: "orders"}: true,
		{Schema: "a.b", Name: "x"}:         true,
		{Schema: "a.b", Name: "y"}:         false,
		{Schema: "sales", Name: "orders"}:  false,
	} {
		if got := f.Matches(table); got != want {
			t.Errorf("%s: got %v, want %v", table, got, want)
		}
	}
}
