package mutation_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/e2e/mutate/mutation"
)

const root = "../../.."

// Each mutation still applies, and what it makes compiles: else its checker would seem to find it.
func TestMutationsApply(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	var rounds [][]*mutation.Mutation // each file once in a round, so one build serves many
	for i := range mutation.All {
		m := &mutation.All[i]
		if names[m.Name] || m.Breaks == "" || len(m.By) == 0 {
			t.Errorf("mutation %q is there twice, or not whole", m.Name)
		}
		names[m.Name] = true
		n := 0
		for n < len(rounds) && slices.ContainsFunc(rounds[n], func(o *mutation.Mutation) bool { return o.File == m.File }) {
			n++
		}
		if n == len(rounds) {
			rounds = append(rounds, nil)
		}
		rounds[n] = append(rounds[n], m)
	}
	for _, round := range rounds {
		overlay, err := mutation.Overlay(root, t.TempDir(), round...)
		if err != nil {
			t.Error(err)
			continue
		}
		args := []string{"build", "-overlay=" + overlay}
		for _, m := range round {
			if !slices.Contains(args, m.Dir()) {
				args = append(args, m.Dir())
			}
		}
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = root
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("a mutation does not compile: %v\n%s", err, text)
		}
	}
}

func TestBroken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/a.go", []byte("package a // one, two, two"), 0o600); err != nil {
		t.Fatal(err)
	}
	once := &mutation.Mutation{Name: "once", File: "a.go", Old: "one", New: "1"}
	if got, err := once.Broken(dir); got != "package a // 1, two, two" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for _, old := range []string{"two", "three"} {
		m := &mutation.Mutation{Name: "x", File: "a.go", Old: old}
		if _, err := m.Broken(dir); err == nil || !strings.Contains(err.Error(), "not once") {
			t.Errorf("%s: %v", old, err)
		}
	}
	if _, err := mutation.Overlay(dir, t.TempDir(), once, once); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("one file twice: %v", err)
	}
	if _, err := mutation.Find("nothing"); err == nil {
		t.Error("a mutation that is not there was found")
	}
}
