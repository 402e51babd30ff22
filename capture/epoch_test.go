package capture_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/event"
)

// shortEpochs makes every writer take several epochs.
func shortEpochs(c *capture.Config) { c.Epoch = 20 }

// writers are those that have published.
func (w *world) writers() map[event.Writer]bool {
	w.t.Helper()
	all, err := check.Read(w.t.Context(), w.st, w.db.source)
	if err != nil {
		w.t.Fatal(err)
	}
	writers := map[event.Writer]bool{}
	for _, m := range all {
		writers[m.Writer] = true
	}
	return writers
}

// TestEpochs: a writer whose epoch is used up takes another one and goes on, with the log that it has.
func TestEpochs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(9)
	var starts atomic.Int64
	p := w.start(0, false, shortEpochs, func(c *capture.Config) {
		c.Observer.State = func(s capture.State, _ string) {
			if s == capture.Starting {
				starts.Add(1)
			}
		}
	})
	w.traffic(time.Millisecond)
	w.until(p, "settled", w.settled)
	if n := starts.Load(); n != 1 {
		t.Errorf("the log was opened %d times", n)
	}
	w.end(p)
	w.verify(w.first())
	if n := len(w.writers()); n < 3 {
		t.Errorf("%d writers, want several", n)
	}
}

// TestEpochsWaitForTheHorizon: an epoch that is ahead of the source's clock could be taken again after a power loss, so nothing is
// published in it before its fence is durable.
func TestEpochsWaitForTheHorizon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.db.tables = []event.Table{orders}
	const horizon = 300 * time.Millisecond
	p := w.start(0, false, func(c *capture.Config) { c.Epoch, c.Horizon = 4, horizon })
	for i := range 12 {
		w.db.Commit(op{'c', orders, 100 + i})
	}
	w.until(p, "settled", w.settled)
	w.end(p)
	all, err := check.Read(t.Context(), w.st, w.db.source)
	if err != nil {
		t.Fatal(err)
	}
	waited := 0
	for i, m := range all {
		if i == 0 || all[i-1].Writer == m.Writer || m.Writer.Epoch != all[i-1].Writer.Epoch+1 {
			continue
		}
		waited++
		if apart := time.Duration(m.TimeMS-all[i-1].TimeMS) * time.Millisecond; apart < horizon-time.Millisecond {
			t.Errorf("epoch %d is used %v after the last message of the one before it", m.Writer.Epoch, apart)
		}
	}
	if waited == 0 {
		t.Fatal("no epoch was ahead of the clock")
	}
}

// TestEpochsDeath: the process dies at any step of a change of epochs, and the next one goes on.
func TestEpochsDeath(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("After=", after), func(t *testing.T) {
			t.Parallel()
			for n := 1; death(t, n, false, after, shortEpochs); n += 4 * *stride {
			}
		})
	}
}

// TestEpochsLost: where a new epoch cannot be taken the agent starts again, and nothing is missing or there twice.
func TestEpochsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(9)
	var refused atomic.Int64
	w.db.onHolds = func() error {
		if refused.Add(1)%2 == 0 {
			return nil
		}
		return errDead
	}
	var again atomic.Int64
	p := w.start(0, false, shortEpochs, func(c *capture.Config) {
		c.Observer.Retry = func(err error, _ time.Duration) {
			if strings.Contains(err.Error(), "take a new epoch") {
				again.Add(1)
			}
		}
	})
	w.traffic(time.Millisecond)
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(w.first())
	if again.Load() == 0 || len(w.writers()) < 3 {
		t.Errorf("%d epochs were refused, %d writers: nothing was tried", again.Load(), len(w.writers()))
	}
}
