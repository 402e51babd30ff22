package main

import (
	"testing"

	"github.com/runnel-dev/runnel/e2e/mutate/mutation"
)

// Two mutations are tried always, so that this way of trying is known to work; scripts/crash --mutate all tries them all.
func TestCaught(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"slot-without-horizon", "chunk-not-visible"} {
		found, err := mutation.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		res, err := try(t.Context(), "../..", found[0], found[0].By[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f s, %s", name, res.Seconds, res.Finding)
		if !res.Caught || res.Finding == "" {
			t.Errorf("%s is not found by %s", name, res.By)
		}
	}
}

// What a catcher prints is told by its first finding.
func TestFinding(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"--- FAIL: TestX\n    x_test.go:12: 3 events missing\n    x_test.go:13: more\n", "x_test.go:12: 3 events missing"},
		{"lost=1\nlost: change 7 is not in the stream\n", "lost: change 7 is not in the stream"},
		{"seed 4: order: message 7\n    simulation_test.go:9: seed 4\n", "seed 4: order: message 7"},
		{"ok  \tpackage\n", ""},
	} {
		if got := finding([]byte(c.text)); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	for line, want := range map[string]bool{
		"crash: events=9 kills=1 faults=1 lost=0 duplicated=0 disordered=0 backwards=0 differing=2": true,
		"crash: events=0 kills=0 faults=0 lost=0 duplicated=0 disordered=0 backwards=0 differing=0": false,
	} {
		if got := counted.MatchString(line); got != want {
			t.Errorf("%s: got %v", line, got)
		}
	}
}
