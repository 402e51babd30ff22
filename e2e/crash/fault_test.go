package main

import (
	"slices"
	"testing"

	"github.com/runnel-dev/runnel/runtime/failpoint"
)

// Every failpoint has a fault that reaches it, and no two faults share a name.
func TestFaults(t *testing.T) {
	t.Parallel()
	var names []string
	for _, f := range faults() {
		if f.What == "" || f.Inject == nil {
			t.Errorf("%s: says nothing or does nothing", f.Name)
		}
		if slices.Contains(names, f.Name) {
			t.Errorf("%s is there twice", f.Name)
		}
		names = append(names, f.Name)
	}
	for point := range failpoint.Points {
		if triggers[point].hits == 0 || !slices.Contains(names, pointPrefix+string(point)) {
			t.Errorf("nothing brings a process to failpoint %s", point)
		}
	}
}

// The fixed set of runs names every fault.
func TestFixedRunsInjectEveryFault(t *testing.T) {
	t.Parallel()
	if missing := unnamed(ciRuns); len(missing) > 0 {
		t.Errorf("no fixed run injects %v", missing)
	}
}

func TestUnknownFaultIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := choose(&World{}, []string{"kill.nobody"}); err == nil {
		t.Error("a fault that does not exist was taken")
	}
}
