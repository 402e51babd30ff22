package capture_test

import (
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/event"
)

// restoreAndGrow gives the source another history, beyond the marks with which the stream ends.
func (w *world) restoreAndGrow() {
	w.db.mu.Lock()
	end := w.db.lsn
	w.db.mu.Unlock()
	w.restore(len(w.db.log) - 20)
	w.db.lsn += 3 // no change stands where another one stood
	for w.db.lsn <= end {
		w.db.Commit(op{'u', users, 1}, op{'c', orders, 3})
	}
}

// TestPastAnotherHistory: where only reading the log shows that the source was restored, --resnapshot goes on from where the slot
// stands all the same: all that was committed since is in the stream. (./scripts/crash --seconds 50 --seed 1)
func TestPastAnotherHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(9)
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	w.pastAnotherHistory()
}

// TestPastHalfAGroup: the same, where the stream ends in the middle of a group, of which the other history knows nothing.
func TestPastHalfAGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(9)
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	w.end(p)
	w.dieWithinAGroup(func() { w.traffic(0) })
	w.pastAnotherHistory()
}

func (w *world) pastAnotherHistory() {
	t := w.t
	t.Helper()
	w.restoreAndGrow()
	slot := w.db.confirmed
	all := w.readAgain()
	have := map[string]bool{}
	for _, m := range all {
		events, err := m.Decode(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			have[e.Position.ID()] = true
		}
	}
	for _, id := range w.db.Committed(slot, partitions) {
		if !have[id] {
			t.Errorf("change %s is not in the stream", id)
		}
	}
}

// dieWithinAGroup starts agents that die, a call later each time, until the stream ends in the middle of a group of the log.
func (w *world) dieWithinAGroup(traffic func()) {
	w.t.Helper()
	for n := 1; ; n++ {
		traffic()
		<-w.start(n, false).done
		w.db.Kill()
		end, err := w.st.End(w.t.Context())
		if err != nil || n > 200 {
			w.t.Fatalf("no agent died within a group: %v", err)
		}
		if g := end.Message.Group; !g.Complete() && g.From != g.To {
			return
		}
	}
}

// readAgain is a life of an agent that was ordered to read everything again, with traffic behind it. It gives the stream, which holds the
// source's state.
func (w *world) readAgain() []*event.Message {
	w.t.Helper()
	old := w.record().Load.ID
	p := w.start(0, false, func(c *capture.Config) { c.Resnapshot = true })
	w.until(p, "settled", func() bool { return w.settled() && w.record().Load.ID != old })
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	all, err := check.Read(w.t.Context(), w.st, w.db.source)
	if err != nil {
		w.t.Fatal(err)
	}
	w.equal(all)
	return all
}
