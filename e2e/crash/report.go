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

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/crash/ledger"
)

// Report is what a run injected and found.
type Report struct {
	mu      sync.Mutex
	ledger  ledger.Ledger
	slowest map[string]time.Duration // recovery by fault
	checked check.Report
	found   ledger.Counts // by runs that were merged
	lines   []string      // why the run failed
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
		if point, ok := strings.CutPrefix(n, pointPrefix); ok {
			r.ledger.Failpoints[point]++
		}
		r.slowest[n] = max(r.slowest[n], recovery)
	}
}

// failed notes why the run failed, and what helps to look into it.
func (r *Report) failed(err error, hints ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(append(r.lines, "failed: "+err.Error()), hints...)
}

// counts are the checkers' findings.
func (r *Report) counts() ledger.Counts {
	n := r.checked.Count
	c := ledger.Counts{
		Lost: n(check.Lost) + n(check.Undurable), Duplicated: n(check.Duplicated), Disordered: n(check.Disordered) + n(check.Interleaved) + n(check.Delayed),
		Backwards: n(check.Backwards), Differing: n(check.Differing),
	}
	c.Add(r.found)
	return c
}

// merge puts another run's account to this one.
func (r *Report) merge(o *Report) {
	r.ledger.Add(&o.ledger)
	for name, d := range o.slowest {
		r.slowest[name] = max(r.slowest[name], d)
	}
	r.found.Add(o.counts())
	r.checked.Events += o.checked.Events
	r.checked.Looks += o.checked.Looks
	r.checked.Floors += o.checked.Floors
}

// record adds the account to a ledger, under its source.
func (r *Report) record(path, source string) error {
	l, err := ledger.Read(path)
	if err != nil {
		return err
	}
	r.ledger.Found = r.counts()
	of := l.Of(source)
	of.Add(&r.ledger)
	db, err := databaseOf(source)
	if err != nil {
		return err
	}
	for _, f := range faults(db) { // those that did not come yet are there with 0
		of.Faults[f.Name] += 0
	}
	return l.Write(path)
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
	fmt.Fprintf(w, "checked: %d messages, %d looks at targets and source, %d checkpoints\n", r.checked.Events, r.checked.Looks, r.checked.Floors)
	if len(r.lines) > 0 {
		fmt.Fprintln(w, strings.Join(r.lines, "\n"))
	}
	c := r.counts()
	fmt.Fprintf(w, "crash: events=%d kills=%d faults=%d lost=%d duplicated=%d disordered=%d backwards=%d differing=%d\n",
		r.ledger.Events, r.ledger.Kills, faults, c.Lost, c.Duplicated, c.Disordered, c.Backwards, c.Differing)
}
