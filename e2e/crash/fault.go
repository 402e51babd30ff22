package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/runtime/failpoint"
)

// Fault is one kind of trouble.
type Fault struct {
	Name string // group.what, such as kill.agent
	What string // one line for the docs: what happens, and what must happen then

	// Needs says whether the world has what the fault needs; nil means that every world has it.
	Needs func(w *World) bool

	// Exclusive faults run alone: they move what others stand on, or declare a loss.
	Exclusive bool

	// Late faults come at the end of the first round: they need a world that has lived for a while.
	Late bool

	// Inject injects the fault and heals it; it returns when all is healed. The runner then waits until changes flow into every
	// target again, and measures that. An error means that the fault could not be injected, or that the system did not react
	// as it must: the run fails. ctx ends after limitInject. Everything random comes from r.
	Inject func(ctx context.Context, w *World, r *rand.Rand) error
}

// lane is what a fault acts on. Faults of one lane wait for each other, or undo what the other does.
func (f Fault) lane() string {
	if point, ok := strings.CutPrefix(f.Name, pointPrefix); ok {
		return string(failpoint.Points[failpoint.Name(point)].Role)
	}
	parts := strings.Split(f.Name, ".")
	switch parts[0] {
	case "kill", "restart", "freeze", "second":
		if parts[1] == "worker" {
			return "worker"
		}
		return "agent"
	case "net":
		if last := parts[len(parts)-1]; last != "target" {
			return "net." + last
		}
		return "target"
	case "store":
		return "nats"
	default:
		return parts[0]
	}
}

// faults is everything that can be injected with a kind of source.
func faults(db database) []Fault {
	return slices.Concat(killFaults, netFaults, natsFaults, storeFaults, db.Faults(), targetFaults, operatorFaults)
}

// choose gives the faults that the patterns name (path.Match; none means all) and that this world can have, in a fixed order.
func choose(w *World, patterns []string) ([]Fault, error) {
	var out []Fault
	used := map[string]bool{}
	for _, f := range faults(w.DB) {
		named := len(patterns) == 0
		for _, p := range patterns {
			ok, err := path.Match(p, f.Name)
			if err != nil {
				return nil, fmt.Errorf("--faults %s: %w", p, err)
			}
			if ok {
				named, used[p] = true, true
			}
		}
		if named && (f.Needs == nil || f.Needs(w)) {
			out = append(out, f)
		}
	}
	for _, p := range patterns {
		if !used[p] {
			return nil, fmt.Errorf("--faults %s: no fault has such a name; --list shows them", p)
		}
	}
	return out, nil
}
