// Package docs_test checks that docs/formats.md shows what the code stores.
package docs_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEveryGoldenFileIsShown keeps page and golden files together: what is stored is documented.
func TestEveryGoldenFileIsShown(t *testing.T) {
	t.Parallel()
	page := read(t, "formats.md")
	files, err := filepath.Glob("../runtime/event/testdata/*.*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range files {
		// All control characters are too many to show; the rule stands there in words.
		if filepath.Base(path) != "strings.txt" && !strings.Contains(page, "\n"+read(t, path)) {
			t.Errorf("formats.md does not show %s as it is", path)
		}
	}
}

// TestEveryLineShownDecodes takes the page's word for what an event looks like.
func TestEveryLineShownDecodes(t *testing.T) {
	t.Parallel()
	n := 0
	for line := range strings.Lines(read(t, "formats.md")) {
		if !strings.HasPrefix(line, `{"op":`) {
			continue
		}
		n++
		m := event.Message{Subject: "cdc.shop.public.orders.3", Sequence: 1, Data: []byte(line)}
		if _, err := m.Decode(nil); err != nil {
			t.Error(err)
		}
	}
	if n == 0 {
		t.Error("no line is shown")
	}
}

var example = regexp.MustCompile("<!-- registry\\.(\\w+) -->\n```json\n(.*)\n```\n")

// TestRecordsShown reads each record strictly into its type and writes it again.
func TestRecordsShown(t *testing.T) {
	t.Parallel()
	records := map[string]any{
		"SourceRecord": new(registry.SourceRecord), "Capture": new(registry.Capture),
		"FunctionRecord": new(registry.FunctionRecord), "Owner": new(registry.Owner),
	}
	for _, match := range example.FindAllStringSubmatch(read(t, "formats.md"), -1) {
		name, want := match[1], match[2]
		record, ok := records[name]
		if !ok {
			t.Errorf("there is no registry.%s", name)
			continue
		}
		delete(records, name)
		d := json.NewDecoder(strings.NewReader(want))
		d.DisallowUnknownFields()
		if err := d.Decode(record); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got bytes.Buffer
		e := json.NewEncoder(&got)
		e.SetEscapeHTML(false)
		if err := e.Encode(record); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want+"\n", got.String()); diff != "" {
			t.Errorf("%s is not written as it is shown, -want +got:\n%s", name, diff)
		}
		if c, ok := record.(*registry.Capture); ok {
			checkCapture(t, c)
		}
	}
	for name := range records {
		t.Errorf("registry.%s is not shown", name)
	}
}

func checkCapture(t *testing.T, c *registry.Capture) {
	t.Helper()
	for _, p := range []string{c.Position, c.First} {
		if _, err := event.ParsePosition(p); err != nil {
			t.Error(err)
		}
	}
	if _, err := event.ParseGroup(c.Group); err != nil {
		t.Error(err)
	}
	w := event.Writer{Epoch: c.Epoch, Base: c.Base}
	if got := w.Version(c.Sequence, 1); got != c.Version {
		t.Errorf("version of line 1 is %d, shown is %d", got, c.Version)
	}
}
