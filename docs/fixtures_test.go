package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/runtime/fixture"
)

// TestFixtureShown reads what the page shows of a fixture.
func TestFixtureShown(t *testing.T) {
	t.Parallel()
	_, rest, ok := strings.Cut(read(t, "formats.md"), "## Fixtures\n")
	_, rest, ok2 := strings.Cut(rest, "```json\n")
	text, _, ok3 := strings.Cut(rest, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatal("no fixture is shown")
	}
	path := filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	events, err := fixture.ReadFile(path)
	if err != nil || len(events) != 1 {
		t.Fatalf("got %d events, %v", len(events), err)
	}
	if got := string(events[0].Schema.Marshal()) + "\n" + string(fixture.AppendEvent(nil, &events[0])); text != `{"schema":`+strings.Replace(got, "\n", "}\n", 1)+"\n" {
		t.Errorf("shown\n%s\nwritten\n%s", text, got)
	}
}
