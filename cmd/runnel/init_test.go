package main

import (
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A project is written once, is formatted, and its cases pass. (That it compiles and passes its tests is shown by TestGuide of e2e.)
func TestInit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "orders-cache")
	list := command(t, "init", dir, "--dry-run")
	if _, err := os.Stat(dir); err == nil || !strings.Contains(list, filepath.Join(dir, "store_test.go")+"\n") {
		t.Errorf("a dry run wrote %v, and says\n%s", err == nil, list)
	}
	contains(t, "init", command(t, "init", dir), list, "go test ./...")
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != strings.Count(list, "\n") {
		t.Errorf("got %d files, %v, of\n%s", len(files), err, list)
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(f.Name()) == ".go" {
			if formatted, err := format.Source(content); err != nil || string(formatted) != string(content) {
				t.Errorf("%s is not formatted: %v", f.Name(), err)
			}
		}
		if strings.Contains(string(content), "{{") {
			t.Errorf("%s: not filled in:\n%s", f.Name(), content)
		}
	}
	contains(t, "test", command(t, "test", filepath.Join(dir, "cases.yaml")), "2 cases, 0 failed\n")

	store := filepath.Join(dir, "store.go")
	if err := os.WriteFile(store, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "main.go")); err != nil {
		t.Fatal(err)
	}
	contains(t, "again", command(t, "init", dir), store+", ", "there already; nothing is written", "[exit 3]")
	if b, _ := os.ReadFile(store); string(b) != "mine" {
		t.Errorf("%s was overwritten", store)
	}
	if _, err := os.Stat(filepath.Join(dir, "main.go")); err == nil {
		t.Error("a part was written beside what was there")
	}
	contains(t, "name", command(t, "init", filepath.Join(t.TempDir(), "My Cache")), "named after its folder", "[exit 3]")
	contains(t, "two", command(t, "init", "a", "b"), "expected one folder", "[exit 2]")
}
