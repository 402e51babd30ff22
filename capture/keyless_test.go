package capture_test

import (
	"fmt"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestDeathsWithoutAKey: the load of a table without a key is interrupted, and the agent that begins it over with a new slot dies
// too, around its fence and its record, and within the t that takes the first rows back.
func TestDeathsWithoutAKey(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("After=", after), func(t *testing.T) {
			t.Parallel()
			for n := 11; n < 18; n += max(1, *stride/5) {
				deathsWithoutAKey(t, n, after)
			}
		})
	}
}

func deathsWithoutAKey(t *testing.T, n int, after bool) {
	t.Helper()
	w := newWorld(t, uint64(n))
	w.db.tables = append(w.db.tables, notes)
	w.fill(8)
	for at := 10; ; at++ { // until rows are in the stream
		<-w.start(at, true).done
		w.db.Kill()
		if _, err := w.st.LastOn(t.Context(), event.Subject(w.db.source, notes, 0)); err == nil {
			break
		}
	}
	w.traffic(0) // a new slot stands elsewhere
	p := w.start(n, after)
	<-p.done
	w.db.Kill()
	w.traffic(0)
	p = w.start(0, false)
	w.until(p, fmt.Sprintf("settled after a death at call %d", n), w.settled)
	w.end(p)
	w.verify(w.first())
	e, err := snapshots.Get(t.Context(), capture.ProgressKey(w.db.source, w.record().Load.ID, notes))
	if err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.Fatalf("after a death at call %d: %s", n, e.Value)
	}
}

// TestHalfAGroupIsLeftBehind: where everything is read again with a new slot, the old one's log does not come any more, and with it not
// the rest of a group of which the stream holds the beginning. (./scripts/crash --simulate --seed 30357)
func TestHalfAGroupIsLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.db.tables = append(w.db.tables, notes)
	w.fill(9)
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	w.end(p)
	w.dieWithinAGroup(func() { w.db.Commit(op{'t', users, 0}) })
	w.readAgain()
}
