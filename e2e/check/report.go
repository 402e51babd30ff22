package check

import (
	"fmt"
	"strings"
)

// Promise is one that Runnel makes, named by what breaks it.
type Promise string

// The promises.
const (
	Lost        Promise = "lost"        // each committed change is in the stream
	Duplicated  Promise = "duplicated"  // and once only
	Disordered  Promise = "disordered"  // in the order of the source's log
	Backwards   Promise = "backwards"   // no row of a target becomes older than it was
	Differing   Promise = "differing"   // at the end each target equals the source, and the stream holds the values that were committed
	Undurable   Promise = "undurable"   // what a checkpoint covers is in the target, what the slot released is in the stream
	Interleaved Promise = "interleaved" // the stream has one writer at a time, each behind a fence
	Delayed     Promise = "delayed"     // a target that is away holds up no other one, nor the source's log
)

// Promises in the order of a report.
var Promises = []Promise{Lost, Duplicated, Disordered, Backwards, Differing, Undurable, Interleaved, Delayed}

// Finding is one breach, in words.
type Finding struct {
	Promise Promise
	Text    string
}

func (f Finding) String() string { return string(f.Promise) + ": " + f.Text }

// shown is how many findings of each promise are kept; all are counted.
const shown = 20

// Report counts what the checkers found. It is not for several goroutines.
type Report struct {
	Findings []Finding // the first ones of each promise
	Events   int64     // of the stream
	Looks    int       // at targets and source that were judged
	Floors   int       // checkpoints that were held against a target

	counts  map[Promise]int
	allowed map[Promise]int
}

// Found counts a breach.
func (r *Report) Found(p Promise, format string, args ...any) {
	if r.counts == nil {
		r.counts = map[Promise]int{}
	}
	if r.counts[p]++; r.counts[p] <= shown {
		r.Findings = append(r.Findings, Finding{p, fmt.Sprintf(format, args...)})
	}
}

// allow counts what a declared exception covers.
func (r *Report) allow(p Promise) {
	if r.allowed == nil {
		r.allowed = map[Promise]int{}
	}
	r.allowed[p]++
}

// Count is how often a promise was broken.
func (r *Report) Count(p Promise) int { return r.counts[p] }

// Allowed is how often it would have been, without the exceptions that the run declared.
func (r *Report) Allowed(p Promise) int { return r.allowed[p] }

// Kept says that nothing was broken.
func (r *Report) Kept() bool { return len(r.Findings) == 0 }

// String is the counts: lost=0 duplicated=0 …
func (r *Report) String() string {
	var b strings.Builder
	for i, p := range Promises {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%d", p, r.counts[p])
	}
	return b.String()
}

// Err is nil, or all findings in words.
func (r *Report) Err() error {
	if r.Kept() {
		return nil
	}
	lines := make([]string, len(r.Findings))
	for i, f := range r.Findings {
		lines[i] = f.String()
	}
	return fmt.Errorf("%s\n%s", r, strings.Join(lines, "\n"))
}
