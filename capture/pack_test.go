package capture_test

import (
	"testing"

	"github.com/runnel-dev/runnel/e2e/check"
)

// TestPacked: what is read at once is published as a group of one message per subject, in messages of at most 1,024 lines; the chain of
// groups has no hole, and each change is there once.
func TestPacked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(3)
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	const rows = 3 * 1024 * partitions
	var ops []op
	for i := range rows {
		ops = append(ops, op{'c', users, 1000 + i}, op{'c', orders, 1000 + i})
	}
	ops = append(ops, op{'t', orders, 0}, op{'u', users, 1000})
	w.db.Commit(ops...)
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(w.first())
	all, err := check.Read(t.Context(), w.st, w.db.source)
	if err != nil {
		t.Fatal(err)
	}
	messages, lines, most, groups := 0, 0, 0, 0
	for _, m := range all {
		n := m.Lines()
		if m.Group.From == m.Group.To { // of the first load
			continue
		}
		messages, lines, most = messages+1, lines+n, max(most, n)
		if m.Group.N > 1 && m.Group.Complete() {
			groups++
		}
	}
	if lines < 2*rows || messages > lines/50 || most > 1024 || groups < 2 {
		t.Errorf("%d lines in %d messages, %d in the largest one, %d groups of several", lines, messages, most, groups)
	}
}
