package capture_test

import (
	"sync/atomic"
	"testing"

	"github.com/runnel-dev/runnel/capture"
)

// TestOrderToTwoAgents: an order to read everything again that two agents were given is carried out once, by whoever gets the log
// first; the other one, which may take over much later, goes on as any standby does. (./scripts/crash --simulate --seed 60719)
func TestOrderToTwoAgents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(9)
	first := w.start(0, false)
	w.until(first, "settled", w.settled)
	old := w.record().Load.ID

	var agents [2]*process
	var states [2]atomic.Value
	for i := range agents {
		agents[i] = w.start(0, false, func(c *capture.Config) {
			c.Resnapshot = true
			c.Observer.State = func(s capture.State, _ string) { states[i].Store(s) }
		})
		w.until(agents[i], "standby", func() bool { return states[i].Load() == capture.Standby })
	}
	w.end(first)
	w.until(agents[0], "all is read again", func() bool { l := w.record().Load; return l.ID != old && l.Done })
	w.traffic(0)
	w.until(agents[0], "settled", w.settled)
	next, works := 0, 1
	if states[0].Load() == capture.Streaming {
		next, works = 1, 0
	}
	load := w.record().Load.ID
	w.end(agents[works])
	w.traffic(0)
	w.until(agents[next], "the standby goes on", w.settled)
	if now := w.record().Load.ID; now != load {
		t.Errorf("all was read once more, as load %s after %s", now, load)
	}
	w.end(agents[next])
	w.verify(w.first())
}
