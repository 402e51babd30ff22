package capture_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// tracking is the fake database as one whose positions need a set beside them. A set names the position that it belongs to, so that it shows
// whether what follows it is complete.
type tracking struct {
	*database
	t *testing.T
}

func (s tracking) Acquire(ctx context.Context, waiting func(string)) (capture.Log, error) {
	l, err := s.database.Acquire(ctx, waiting)
	if err != nil {
		return nil, err
	}
	return &trackingLog{fakeLog: l.(*fakeLog), t: s.t}, nil
}

type trackingLog struct {
	*fakeLog
	t *testing.T

	mu      sync.Mutex
	resumed bool
	reached event.Position // what the agent said that was read
}

func (l *trackingLog) Resume(set string, since []event.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resumed, l.reached = true, l.info.Confirmed
	if set == "" {
		return nil
	}
	from, err := event.ParsePosition(set)
	if err != nil {
		return err
	}
	if len(since) == 0 || since[0].Compare(from) != 0 {
		l.t.Errorf("the set of %s is followed by %v: what it leaves out of its own transaction is lost", from, since)
	}
	for _, p := range since {
		if p.Compare(from) < 0 {
			l.t.Errorf("%s stands behind %s", p, from)
		}
		from = p
	}
	l.reached = from
	return nil
}

func (l *trackingLog) Executed(p event.Position) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.resumed {
		return "", fmt.Errorf("executed at %s before Resume", p)
	}
	return p.String(), nil
}

func (l *trackingLog) Start(ctx context.Context, after, met event.Position) error {
	l.mu.Lock()
	if l.reached.Compare(after) != 0 {
		l.t.Errorf("the log goes on after %s, Resume came to %s", after, l.reached)
	}
	l.mu.Unlock()
	return l.fakeLog.Start(ctx, after, met)
}

// TestTracker: wherever an agent dies, the next one resumes with a set and all the positions that the stream has since.
func TestTracker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 7)
	w.fill(8)
	run := func(at int) *process {
		ctx, stop := context.WithCancel(t.Context())
		p := &process{m: &mortal{at: at, after: at%2 == 0, die: stop}, stop: stop, done: make(chan error, 1)}
		a, err := capture.New(w.config(), tracking{w.db, t}, mortalStream{w.st, p.m},
			mortalBucket{captures, p.m}, mortalBucket{snapshots, p.m}, mortalBucket{schemas, p.m})
		if err != nil {
			t.Fatal(err)
		}
		go func() { p.done <- a.Run(ctx) }()
		return p
	}
	for at := 6; at < 80; at += 7 {
		p := run(at)
		w.traffic(0)
		for n := 0; !p.m.gone(); n++ {
			w.db.Commit(op{'u', users, n % 5}, op{'u', orders, n % 7})
			<-time.After(time.Millisecond)
		}
		p.stop()
		w.db.Kill()
	}
	p := run(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	if r := w.record(); r.Executed != r.Position || r.Settled.Executed == "" {
		t.Errorf("record: executed %s at %s, settled %+v", r.Executed, r.Position, r.Settled)
	}
	w.verify(w.first())
}
