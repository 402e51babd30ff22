package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "RUNNEL_") && name != "RUNNEL_SERVICES" {
			os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m)
}

// command runs one command line as main does, and gives what it printed: standard output, then standard error with a mark,
// then the exit code if it is not 0.
func command(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	code := execute(t.Context(), args, strings.NewReader(""), &out, &errs)
	var b strings.Builder
	b.WriteString(out.String())
	for line := range strings.Lines(errs.String()) {
		b.WriteString("! " + line)
	}
	if code != 0 {
		fmt.Fprintf(&b, "[exit %d]\n", code)
	}
	return b.String()
}

// Each file in testdata/script holds command lines, after $, with what they print; `env NAME=VALUE` sets a variable.
func TestScripts(t *testing.T) {
	t.Chdir("testdata")
	scripts, err := filepath.Glob("script/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("got %d scripts, %v", len(scripts), err)
	}
	for _, file := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for line := range strings.Lines(string(want)) {
				line = strings.TrimSuffix(line, "\n")
				if set, ok := strings.CutPrefix(line, "env "); ok {
					name, value, _ := strings.Cut(set, "=")
					t.Setenv(name, value)
					got.WriteString(line + "\n")
				}
				if args, ok := strings.CutPrefix(line, "$ runnel"); ok {
					got.WriteString(line + "\n" + command(t, strings.Fields(args)...))
				}
				if strings.HasPrefix(line, "# ") {
					got.WriteString(line + "\n")
				}
			}
			golden(t, file, got.String())
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}
