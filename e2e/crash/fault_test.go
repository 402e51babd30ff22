package main

import (
	"slices"
	"testing"

	"github.com/runnel-dev/runnel/runtime/failpoint"
)

// Every failpoint has a fault that reaches it, and no two faults share a name.
func TestFaults(t *testing.T) {
	t.Parallel()
	for kind, db := range databases {
		var names []string
		for _, f := range faults(db) {
			if f.What == "" || f.Inject == nil {
				t.Errorf("%s: %s: says nothing or does nothing", kind, f.Name)
			}
			if slices.Contains(names, f.Name) {
				t.Errorf("%s: %s is there twice", kind, f.Name)
			}
			names = append(names, f.Name)
		}
		for point := range failpoint.Points {
			if triggers[point].hits == 0 || !slices.Contains(names, pointPrefix+string(point)) {
				t.Errorf("%s: nothing brings a process to failpoint %s", kind, point)
			}
		}
	}
}

// The fixed set of runs names every fault.
func TestFixedRunsInjectEveryFault(t *testing.T) {
	t.Parallel()
	for kind, db := range databases {
		if missing := unnamed(db, ciRuns); len(missing) > 0 {
			t.Errorf("%s: no fixed run injects %v", kind, missing)
		}
	}
}

func TestUnknownFaultIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := choose(&World{DB: postgres{}}, []string{"kill.nobody"}); err == nil {
		t.Error("a fault that does not exist was taken")
	}
}
