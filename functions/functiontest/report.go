package functiontest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/runtime/sink"
)

// Failure is what the suite found, as the shortest history that shows it.
type Failure struct {
	What    string   // in one sentence
	Changes []string // of the source, as events
	Steps   []string // what happened, in order
	Have    []string // the target's rows, where they are what is wrong
	Want    []string // what they should be
	Why     []string // when the runtime does that, and what helps
	Stack   string   // of a panic
}

// entry is a step that happened.
type entry struct {
	kind      string
	partition int
	text      string
}

func (g *play) note(kind, format string, args ...any) {
	g.trace = append(g.trace, entry{kind, -1, fmt.Sprintf(format, args...)})
}

// called notes a call of Handle.
func (g *play) called(w *worker, jobs []*job, err error, f fault, passed bool) {
	kind, more := "write", ""
	switch {
	case f.lost:
		kind, more = "lost", ", and the answer is lost"
	case passed && err != nil:
		kind, more = "cut", ", as the deadline passed"
	case passed:
		kind, more = "cut", ", though the deadline passed meanwhile"
	}
	method := "Handle"
	if jobs[0].sweep {
		method = "Sweep"
	}
	text := fmt.Sprintf("worker %s: %s(%s) = %s%s", w.name, method, g.names(jobs), g.said(err), more)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trace = append(g.trace, entry{kind, jobs[0].partition, text})
}

// said is an error as a report shows it.
func (g *play) said(err error) string {
	if err == nil {
		return "nil"
	}
	text := firstLine(err)
	switch {
	case sink.IsPermanent(err):
		return "permanent: " + text
	case sink.IsHalt(err):
		return "halt: " + text
	}
	return text
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func (g *play) names(jobs []*job) string {
	var parts []string
	for _, j := range jobs {
		parts = append(parts, ranges(j.items))
	}
	return strings.Join(parts, " | ")
}

// ranges prints numbers of items: 1–3, 5.
func ranges(items []int) string {
	parts := []string{}
	if len(items) == 0 {
		parts = append(parts, "nothing, the checkpoint moves")
	}
	for i := 0; i < len(items); {
		j := i
		for j+1 < len(items) && items[j+1] == items[j]+1 {
			j++
		}
		switch {
		case j > i+1:
			parts = append(parts, fmt.Sprintf("%d–%d", items[i]+1, items[j]+1))
		case j > i:
			parts = append(parts, fmt.Sprintf("%d, %d", items[i]+1, items[j]+1))
		default:
			parts = append(parts, fmt.Sprint(items[i]+1))
		}
		i = j + 1
	}
	return strings.Join(parts, ", ")
}

// upTo names the last event below a worker's place.
func (g *play) upTo(partition int) string {
	next := g.worker.lanes[partition].next
	if next == 0 {
		return "its beginning"
	}
	return fmt.Sprint(g.source.parts[partition][next-1] + 1)
}

// sortByPartition gives what partitions did side by side an order.
func sortByPartition(trace []entry) {
	slices.SortStableFunc(trace, func(a, b entry) int { return a.partition - b.partition })
}

// failure makes the report.
func (p *played) failure() *Failure {
	f := &Failure{What: p.found.what, Stack: p.found.stack, Have: slices.Sorted(slices.Values(p.found.have)), Want: slices.Sorted(slices.Values(p.found.want))}
	for _, it := range p.source.items {
		what := it.what
		if it.poison {
			what += " (does not fit its column, may be refused)"
		}
		row := it.row
		if it.sweep || it.skip {
			f.Changes = append(f.Changes, fmt.Sprintf("%d  %s", it.number, what))
			continue
		}
		if row == "" {
			row = strings.TrimSpace(strings.SplitN(strings.SplitN(string(it.message.Data), `"before":`, 2)[1], `,"after"`, 2)[0])
		}
		f.Changes = append(f.Changes, fmt.Sprintf("%d  %s %s", it.number, what, row))
	}
	kinds := map[string]bool{}
	for i := 0; i < len(p.trace); {
		same := 1
		for i+same < len(p.trace) && p.trace[i+same] == p.trace[i] {
			same++
		}
		kinds[p.trace[i].kind] = true
		if same < 3 {
			f.Steps = append(f.Steps, p.trace[i].text)
			i++
			continue
		}
		f.Steps = append(f.Steps, fmt.Sprintf("%s (%d times)", p.trace[i].text, same))
		i += same
	}
	for _, r := range reasons {
		if kinds[r.kind] {
			f.Why = append(f.Why, r.why)
		}
	}
	switch {
	case strings.Contains(strings.Join(f.Have, ""), "###"):
		f.Why = []string{"The target holds bytes of a batch that is over: an event's rows are slices of its message, whose memory is used again. Copy what is kept after Handle has returned."}
	case p.dropped():
		f.Why = []string{"The handler returned nil for an event that it did not write, as if that were done: it is lost, and nobody is told. Refuse what cannot be written with functions.Permanent; it becomes a dead letter."}
	case len(f.Why) == 0 && len(f.Have)+len(f.Want) > 0:
		f.Why = []string{"Nothing went wrong on the way: the handler itself makes of these events something else than the table."}
	}
	return f
}

// dropped says whether the target lacks the row of an event that it may refuse, and the handler did not.
func (p *played) dropped() bool {
	for i, it := range p.source.items {
		if it.poison && p.accepted[i] && slices.Contains(p.found.want, it.row) {
			return true
		}
	}
	return false
}

// reasons say when the runtime does what a history shows, and what a handler does against it.
var reasons = []struct{ kind, why string }{
	{"lost", "A write whose answer does not come is tried again, also where the target has done it. Write so that a repetition changes nothing: by the key, with the event's version."},
	{"cut", "A batch that is not done when its deadline passes is tried again from its beginning. Write so that a repetition changes nothing, and do not say nil for what was not written."},
	{"crash", "After a crash everything since the floor, which is written down at most once a second, comes again. Write so that a repetition changes nothing: by the key, with the event's version."},
	{"land", "A worker that was stopped for longer than its lease, or bytes that lay in a socket, may write old events after others have written newer ones. Keep the version with each row, also of one that is deleted, and write only what is newer."},
	{"replay", "A replay gives everything from some place on again, the oldest first. Write so that a repetition changes nothing."},
}

// Error prints it.
func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", f.What)
	block := func(title string, lines []string) {
		if len(lines) == 0 {
			lines = []string{"(nothing)"}
		}
		fmt.Fprintf(&b, "\n%s:\n", title)
		for _, line := range lines {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	block("events of the source", f.Changes)
	block("what happened (the shortest history that shows it)", f.Steps)
	if len(f.Have)+len(f.Want) > 0 {
		block("the target holds", marked(f.Have, f.Want, "   <- wrong"))
		block("the table holds", marked(f.Want, f.Have, "   <- not in the target"))
	}
	for _, why := range f.Why {
		fmt.Fprintf(&b, "\n%s\n", why)
	}
	if f.Stack != "" {
		fmt.Fprintf(&b, "\n%s", f.Stack)
	}
	return b.String()
}

// marked marks rows that the others lack.
func marked(rows, others []string, mark string) []string {
	left := map[string]int{}
	for _, o := range others {
		left[canonical(o)]++
	}
	var lines []string
	for _, row := range rows {
		if c := canonical(row); left[c] > 0 {
			left[c]--
			lines = append(lines, row)
			continue
		}
		lines = append(lines, row+mark)
	}
	return lines
}
