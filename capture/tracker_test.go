package capture_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// tracking is the fake database as one whose positions need a set beside them. A set names the position that it belongs to, so that it shows
// whether what follows it is complete.
type tracking struct {
	*database
	t    *testing.T
	sets chan<- string // that were resumed with
}

func (s tracking) Acquire(ctx context.Context, waiting func(string)) (capture.Log, error) {
	l, err := s.database.Acquire(ctx, waiting)
	if err != nil {
		return nil, err
	}
	return &trackingLog{fakeLog: l.(*fakeLog), t: s.t, sets: s.sets}, nil
}

type trackingLog struct {
	*fakeLog
	t    *testing.T
	sets chan<- string

	mu      sync.Mutex
	resumed bool
	reached event.Position // what the agent said that was read
}

func (l *trackingLog) Resume(set string, since []event.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sets != nil {
		l.sets <- set
	}
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

// Remaining is what lies behind the place that the database has confirmed by itself.
func (l *trackingLog) Remaining(context.Context) (event.Position, error) {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reached = event.Position{Commit: l.d.confirmed}
	return l.reached, nil
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
		a, err := capture.New(w.config(), tracking{w.db, t, nil}, mortalStream{w.st, p.m},
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

// track starts an agent of the tracking database.
func (w *world) track(sets chan<- string, change ...func(*capture.Config)) *process {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	p := &process{stop: stop, done: make(chan error, 1)}
	cfg := w.config()
	for _, f := range change {
		f(&cfg)
	}
	a, err := capture.New(cfg, tracking{w.db, w.t, sets}, w.st, captures, snapshots, schemas)
	if err != nil {
		w.t.Fatal(err)
	}
	go func() { p.done <- a.Run(ctx) }()
	return p
}

// TestFromOldest: past a gap the agent goes on with what is left of the log, loads nothing, and needs the order only once.
func TestFromOldest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.fill(8)
	p := w.track(nil)
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	first, load := w.first(), w.record().Load
	kept := len(w.db.log)
	w.db.Commit(op{'u', users, 1}, op{'u', orders, 1})
	w.db.Commit(op{'u', users, 2})
	lost := len(w.db.log)
	w.db.mu.Lock()
	w.db.confirmed = w.db.lsn
	w.db.mu.Unlock()
	w.db.Commit(op{'u', users, 1}, op{'u', orders, 1})
	w.db.Commit(op{'u', users, 2})
	var gap *capture.GapError
	if p = w.track(nil); !errors.As(<-p.done, &gap) {
		t.Fatal("it goes on past a gap")
	}
	w.db.Kill()
	p = w.track(nil, func(c *capture.Config) { c.FromOldest = true })
	w.until(p, "settled", w.settled)
	w.end(p)
	p = w.track(nil)
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	if got := w.record().Load; got.ID != load.ID || got.Sweep != load.Sweep {
		t.Errorf("the load is %+v, was %+v", got, load)
	}
	w.db.log = append(w.db.log[:kept:kept], w.db.log[lost:]...)
	w.verify(first)
}

// TestFromOldestOfASlot: a source whose server keeps its log for a slot has nothing older.
func TestFromOldestOfASlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(3)
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	w.end(p)
	w.db.Commit(op{'u', users, 1})
	w.db.mu.Lock()
	w.db.confirmed = w.db.lsn
	w.db.mu.Unlock()
	w.db.Commit(op{'u', users, 1})
	p = w.start(0, false, func(c *capture.Config) { c.FromOldest = true })
	var setup *capture.SetupError
	if err := <-p.done; !errors.As(err, &setup) || !strings.Contains(err.Error(), "--resnapshot") {
		t.Errorf("got %v, want a SetupError that names --resnapshot", err)
	}
}

// TestSettled: where the stream has lost its tail, and with it the message that the record's set belongs to, the set of a message that it cannot
// lose any more counts; where that is gone too, nothing does.
func TestSettled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	w.fill(8)
	p := w.track(nil)
	w.until(p, "settled", func() bool { return w.settled() && w.record().Settled.Executed != "" })
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	first := w.first()
	lose := func(change func(*registry.Capture)) {
		t.Helper()
		e, err := captures.Get(t.Context(), w.db.source)
		if err != nil {
			t.Fatal(err)
		}
		var rec registry.Capture
		if err := json.Unmarshal(e.Value, &rec); err != nil {
			t.Fatal(err)
		}
		change(&rec)
		b, err := json.Marshal(rec)
		if err == nil {
			_, err = captures.Put(t.Context(), w.db.source, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var want string
	lose(func(rec *registry.Capture) {
		rec.Sequence, rec.Executed, want = rec.Sequence+1000, "9999", rec.Settled.Executed
	})
	sets := make(chan string, 100)
	p = w.track(sets)
	if got := <-sets; got != want {
		t.Errorf("it goes on with the set %q, want that of the settled message, %q", got, want)
	}
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(first)
	lose(func(rec *registry.Capture) { rec.Sequence += 1000; rec.Settled.Version++ })
	p = w.track(nil)
	var gap *capture.GapError
	if err := <-p.done; !errors.As(err, &gap) {
		t.Errorf("got %v, want a gap", err)
	}
}
