package capture

import (
	"context"
	"testing"
	"time"
)

// onlySnapshots is a log of which nothing but snapshots is asked.
type onlySnapshots struct {
	Log
	Snapshotter
	shown uint64 // all transactions up to here are visible
	asked int
}

func (l *onlySnapshots) Visible(context.Context) (func(uint64) bool, error) {
	l.asked++
	return func(xid uint64) bool { return xid <= l.shown }, nil
}

// TestForget: what was published is remembered only until a snapshot shows it, whether or not there are tables to load.
func TestForget(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	log := &onlySnapshots{shown: 5}
	w := &writer{a: &Agent{}, log: log, mu: newGate(), published: map[uint64]struct{}{3: {}, 5: {}, 8: {}}}
	every, ended := make(chan time.Time), make(chan error)
	go func() { ended <- w.forget(ctx, every) }()
	every <- time.Time{}
	every <- time.Time{} // the first one is done
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if _, hidden := w.published[8]; len(w.published) != 1 || !hidden {
		t.Errorf("%v is still remembered, want 8 alone, which no snapshot shows yet", w.published)
	}
	clear(w.published)
	asked := log.asked
	if err := w.prune(t.Context(), log); err != nil || log.asked != asked {
		t.Errorf("a snapshot was taken although nothing is remembered (%v)", err)
	}
}
