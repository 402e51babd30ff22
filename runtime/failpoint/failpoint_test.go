package failpoint_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/failpoint"
)

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := failpoint.Parse("chain.published=kill@137,floor.after=stop@3,write.before=sleep:300ms@5,fetched=kill")
	if err != nil {
		t.Fatal(err)
	}
	want := []failpoint.Trigger{
		{Name: failpoint.ChainPublished, Action: failpoint.Kill, Hit: 137},
		{Name: failpoint.FloorAfter, Action: failpoint.Stop, Hit: 3},
		{Name: failpoint.WriteBefore, Action: failpoint.Sleep, For: 300 * time.Millisecond, Hit: 5},
		{Name: failpoint.Fetched, Action: failpoint.Kill, Hit: 1},
	}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
		if again, err := failpoint.Parse(got[i].String()); err != nil || again[0] != got[i] {
			t.Errorf("%s does not come back: %v %v", got[i], again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, reason := range map[string]string{
		"chain.publish=kill": "no failpoint is named", "fetched": "expected name=action", "fetched=kill@0": "1 or more",
		"fetched=kill@x": "1 or more", "fetched=explode": "expected kill", "fetched=sleep": "expected kill",
		"fetched=sleep:long": "invalid duration", "fetched=kill:1s": "expected kill",
	} {
		if _, err := failpoint.Parse(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: got %v, want %q", text, err, reason)
		}
	}
}

// Each failpoint stands somewhere in the code, under its constant's name.
func TestEveryPointIsReached(t *testing.T) {
	t.Parallel()
	names := regexp.MustCompile(`(?m)^\t([A-Z]\w+) +Name = "([a-z.]+)"`)
	source, err := os.ReadFile("points.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := names.FindAllStringSubmatch(string(source), -1)
	if len(declared) != len(failpoint.Points) {
		t.Errorf("%d constants and %d descriptions", len(declared), len(failpoint.Points))
	}
	var code []byte
	for _, dir := range []string{"../../capture", "../../runtime", "../../functions"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			code = append(code, b...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range declared {
		if !strings.Contains(string(code), "failpoint.At(failpoint."+d[1]+")") {
			t.Errorf("nothing reaches %s", d[2])
		}
		if _, ok := failpoint.Points[failpoint.Name(d[2])]; !ok {
			t.Errorf("%s is not described", d[2])
		}
	}
}
