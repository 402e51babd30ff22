package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/runnel-dev/runnel/e2e/crash/ledger"
)

// Report is what a run injected and found.
type Report struct {
	mu      sync.Mutex
	ledger  ledger.Ledger
	slowest map[string]time.Duration // recovery by fault
	found   []string
}

// NewReport is an empty one of a single run.
func NewReport() *Report {
	return &Report{ledger: ledger.Ledger{Runs: 1, Faults: map[string]int{}, Failpoints: map[string]int{}}, slowest: map[string]time.Duration{}}
}

// injected counts faults that were injected at the same time, with the recovery after them.
func (r *Report) injected(names []string, recovery time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range names {
		r.ledger.Faults[n]++
		r.slowest[n] = max(r.slowest[n], recovery)
	}
}

// find adds what a checker found to the counters and to what is printed.
func (r *Report) find(c ledger.Counts, lines ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ledger.Found.Add(c)
	r.found = append(r.found, lines...)
}

// print writes the table, what was found, and the line of verdict as the last one.
func (r *Report) print(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "fault\ttimes\tslowest recovery\n")
	faults, slowest := 0, ""
	for _, n := range slices.Sorted(maps.Keys(r.ledger.Faults)) {
		faults += r.ledger.Faults[n]
		fmt.Fprintf(table, "%s\t%d\t%.1f s\n", n, r.ledger.Faults[n], r.slowest[n].Seconds())
		if slowest == "" || r.slowest[n] > r.slowest[slowest] {
			slowest = n
		}
	}
	_ = table.Flush() // what w cannot take is nobody's
	if slowest != "" {
		fmt.Fprintf(w, "slowest recovery: %.1f s after %s\n", r.slowest[slowest].Seconds(), slowest)
	}
	if len(r.found) > 0 {
		fmt.Fprintln(w, strings.Join(r.found, "\n"))
	}
	c := r.ledger.Found
	fmt.Fprintf(w, "crash: events=%d kills=%d faults=%d lost=%d duplicated=%d disordered=%d backwards=%d differing=%d\n",
		r.ledger.Events, r.ledger.Kills, faults, c.Lost, c.Duplicated, c.Disordered, c.Backwards, c.Differing)
}
