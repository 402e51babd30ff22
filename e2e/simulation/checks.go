package simulation

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
)

func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// confirms is asked by the source before its slot moves.
func (w *world) confirms(p event.Position) {
	var forgotten []string
	w.m.mu.Lock()
	from := max(w.m.below, w.d.confirmed, w.d.first)
	w.m.mu.Unlock()
	for _, t := range w.d.log {
		if t.commit < from || t.commit >= p.Commit {
			continue
		}
		forgotten = append(forgotten, t.ids()...)
	}
	w.m.Confirm(p, forgotten)
}

// unequal says what is not right yet; "" if all is.
func (w *world) unequal() string {
	w.m.mu.Lock()
	below := w.m.below
	w.m.mu.Unlock()
	if id := w.m.Missing(w.d.Committed(max(below, w.d.First()))); id != "" {
		return "no gap: change " + id + " is not in the stream"
	}
	w.mu.Lock()
	targets := maps.Clone(w.targets)
	w.mu.Unlock()
	for _, name := range names(targets) {
		for _, t := range w.d.tables {
			want, got := w.d.Rows(t), targets[name].Rows(t)
			if why := w.lacking(name, want, got); why != "" {
				return why
			}
			if t == notes {
				want = once(want)
			}
			if !maps.Equal(want, got) {
				return fmt.Sprintf("final equality: %s holds of %s what the source does not, or lacks it (revisions by key): %s", name, t.Name, difference(want, got))
			}
		}
	}
	return ""
}

// lacking leaves rows out of what is wanted and of what there is whose newest event the target refused for good: that must be a
// dead letter, and nothing is said of the row.
func (w *world) lacking(target string, want, got map[int]int) string {
	for key, revision := range want {
		if !w.c.refuses(target, revision) {
			continue
		}
		if !w.m.Letter(letter{target, revision}) {
			return fmt.Sprintf("no gap: %s refused revision %d for good, and there is no dead letter", target, revision)
		}
		if got[key] != revision {
			w.c.count("a row is missing whose event is a dead letter")
		}
		delete(want, key)
		delete(got, key)
	}
	return ""
}

// once is how a target shows rows without a key: how often each revision is there.
func once(rows map[int]int) map[int]int {
	out := map[int]int{}
	for _, revision := range rows {
		out[revision]++
	}
	return out
}

func difference(want, got map[int]int) string {
	keys := map[int]bool{}
	for k := range want {
		keys[k] = true
	}
	for k := range got {
		keys[k] = true
	}
	out := ""
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		w, wanted := want[k]
		g, there := got[k]
		switch {
		case !there:
			out += fmt.Sprintf(" %d: %d is missing;", k, w)
		case !wanted:
			out += fmt.Sprintf(" %d: %d should not be there;", k, g)
		case w != g:
			out += fmt.Sprintf(" %d: is %d, should be %d;", k, g, w)
		}
	}
	return out
}

// finally checks what only the end shows.
func (w *world) finally() {
	w.h.note("world", "all is equal, %s after the faults", time.Since(w.h.began)-w.quiet-w.active)
	if id := w.m.OfTheDead(); id != "" {
		w.h.fail("no gap", "change %s was taken back by a failover, is in the stream, and no gap was declared", id)
	}
}
