package capture_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// TestGap: where changes are missing the agent refuses to go on, and --resnapshot leads to the source's state again.
func TestGap(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(w *world){
		"SlotGone": func(w *world) {
			w.db.Commit(op{'d', users, 1}, op{'u', orders, 2})
			w.db.slot = false
			w.db.Commit(op{'u', users, 2})
		},
		"SlotAhead": func(w *world) {
			w.db.Commit(op{'d', users, 1}, op{'c', notes, 0})
			w.db.confirmed = w.db.lsn
		},
		"Restored":         func(w *world) { w.restore(3) },
		"RestoredAndGrown": (*world).restoreAndGrow,
		"AnotherServer":    func(w *world) { w.db.identity = "7002" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.fill(9)
			w.db.tables = append(w.db.tables, notes)
			p := w.start(0, false)
			w.until(p, "settled", w.settled)
			w.traffic(0)
			w.until(p, "settled", w.settled)
			w.end(p)
			harm(w)
			for range 2 { // however often it is tried
				var gap *capture.GapError
				if err := w.result(w.start(0, false)); !errors.As(err, &gap) || !strings.Contains(err.Error(), "--resnapshot") {
					t.Fatalf("the agent ended with %v, want a gap that names the way out", err)
				}
			}
			w.readAgain()
			if load := w.record().Load; !load.Sweep || !load.Done {
				t.Errorf("the load is %+v, want a finished one that sweeps", load)
			}
		})
	}
}

// TestStaleRecord: the stream's last change is newer than the one that the record knows, and behind a mark, or behind the rows of a
// load. The log must have it. (./scripts/crash --simulate --seed 6042)
func TestStaleRecord(t *testing.T) {
	t.Parallel()
	for _, loaded := range []bool{false, true} {
		t.Run(fmt.Sprint("Loaded=", loaded), func(t *testing.T) {
			t.Parallel()
			staleRecord(t, loaded)
		})
	}
}

func staleRecord(t *testing.T, loaded bool) {
	w := newWorld(t, 1)
	w.fill(3)
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	old := w.record()
	p = w.start(0, false)
	w.until(p, "settled", w.settled)
	kept := len(w.db.log)
	w.db.Commit(op{'u', users, 1})
	w.until(p, "settled", w.settled)
	w.end(p)
	if loaded {
		p = w.start(0, false, func(c *capture.Config) { c.Resnapshot = true })
		w.until(p, "settled", func() bool { return w.settled() && w.record().Load.ID != old.Load.ID })
		w.end(p)
	}
	rec := w.record()
	if rec.Change == old.Change {
		t.Fatalf("the record knows the change %s still", rec.Change)
	}
	rec.Change, rec.Sequence = old.Change, old.Sequence
	b, err := json.Marshal(rec)
	if err == nil {
		_, err = captures.Put(t.Context(), w.db.source, b)
	}
	if err != nil {
		t.Fatal(err)
	}
	end := w.db.lsn
	w.restore(kept)
	w.db.lsn += 3 // no change stands where another one stood
	for w.db.lsn <= end {
		w.db.Commit(op{'u', users, 2})
	}
	var gap *capture.GapError
	if err := w.result(w.start(0, false)); !errors.As(err, &gap) {
		t.Errorf("the agent ended with %v, want a gap", err)
	}
}

// restore brings back the source as it was after its n-th transaction, the slot included.
func (w *world) restore(n int) {
	w.db.Restore(n)
	w.db.rows, w.db.shown = map[event.Table]map[int]int{}, map[event.Table]map[int]int{}
	for _, table := range []event.Table{users, orders, notes} {
		w.db.rows[table], w.db.shown[table] = map[int]int{}, map[int]int{}
	}
	for _, x := range w.db.log {
		w.db.show(x)
	}
	for table, rows := range w.db.shown {
		for id, v := range rows {
			w.db.rows[table][id] = v
		}
	}
	w.db.confirmed = min(w.db.confirmed, w.db.lsn)
}

// TestOrderOutlives lets the agent with the operator's order die where it makes a new slot: whoever starts next, without the
// order, carries it out, also for tables without a key.
func TestOrderOutlives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.db.tables = append(w.db.tables, notes)
	w.fill(3)
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	dead := make(chan struct{})
	doomed := make(chan *process, 1)
	w.db.onRenew = sync.OnceFunc(func() {
		p := <-doomed
		p.m.mu.Lock()
		p.m.dead = true
		p.m.mu.Unlock()
		p.stop()
		close(dead)
	})
	p = w.start(0, false, func(c *capture.Config) { c.Resnapshot = true })
	doomed <- p
	<-dead
	<-p.done
	w.db.Kill()
	next := w.start(0, false)
	w.traffic(0)
	w.until(next, "settled", w.settled)
	w.end(next)
	e, err := snapshots.Get(t.Context(), capture.ProgressKey(w.db.source, w.record().Load.ID, notes))
	if err != nil || bytes.Contains(e.Value, []byte("skipped")) {
		t.Errorf("progress of the table without a key: %s, %v", e.Value, err)
	}
}

// TestResnapshot without a gap loads everything again and loses nothing.
func TestResnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(9)
	p := w.start(0, false)
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	old := w.record().Load
	p = w.start(0, false, func(c *capture.Config) { c.Resnapshot = true })
	w.traffic(time.Millisecond)
	w.until(p, "settled", func() bool { return w.settled() && w.record().Load.ID != old.ID })
	w.end(p)
	w.verify(w.first())
	if load := w.record().Load; !load.Sweep {
		t.Errorf("the load is %+v, want one that sweeps", load)
	}
}

// TestRecordLost: the position lives in the stream; without a record only the load begins again.
func TestRecordLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(9)
	p := w.start(0, false)
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	first := w.first()
	e, err := captures.Get(t.Context(), w.db.source)
	if err == nil {
		err = captures.Delete(t.Context(), w.db.source, e.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	p = w.start(0, false)
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(first)
	if load := w.record().Load; !load.Sweep {
		t.Errorf("the load is %+v, want one that sweeps", load)
	}
}

// TestSchemasLost: the structures that KV has lost are there again after a start, though nothing happens in their tables.
func TestSchemasLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(3)
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	w.end(p)
	for _, table := range w.db.tables {
		key := w.db.schemas[table].KVKey()
		e, err := schemas.Get(t.Context(), key)
		if err == nil {
			err = schemas.Delete(t.Context(), key, e.Revision)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p = w.start(0, false)
	for _, table := range w.db.tables {
		w.until(p, "the schema of "+table.String(), func() bool {
			_, err := w.schema(table, w.db.schemas[table].Fingerprint())
			return err == nil
		})
	}
	w.end(p)
}

// TestStreamLost: a stream that vanished is refused once the slot has moved, and made again where it has not.
func TestStreamLost(t *testing.T) {
	t.Parallel()
	for _, moved := range []bool{false, true} {
		w := newWorld(t, 1)
		w.fill(9)
		p := w.start(0, false, func(c *capture.Config) {
			if !moved {
				c.Settle = time.Hour
			}
		})
		w.traffic(0)
		if moved {
			w.until(p, "settled", w.settled)
		} else {
			w.until(p, "the load", func() bool { return w.record().Load.Done })
		}
		w.end(p)
		js, err := conn.NC.JetStream()
		if err == nil {
			err = js.DeleteStream(w.st.Name())
		}
		if err != nil {
			t.Fatal(err)
		}
		if w.st, err = stream.Create(t.Context(), conn, w.db.source, stream.Settings{Partitions: partitions}); err != nil {
			t.Fatal(err)
		}
		p = w.start(0, false)
		if moved {
			var gap *capture.GapError
			if err := w.result(p); !errors.As(err, &gap) {
				t.Errorf("the agent ended with %v, want a gap", err)
			}
			continue
		}
		w.until(p, "settled", w.settled)
		w.end(p)
		w.verify(w.first())
	}
}

// TestEverythingLost: where JetStream's files are gone and an operator has all read again, what vanished meanwhile is swept.
func TestEverythingLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(9)
	p := w.start(0, false, func(c *capture.Config) { c.Resnapshot = true })
	w.until(p, "settled", w.settled)
	w.end(p)
	if load := w.record().Load; !load.Sweep {
		t.Errorf("the load is %+v, want one that sweeps", load)
	}
}

// A stream that is deleted while an agent runs ends it: the stream is not its to make again.
func TestStreamDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(9)
	p := w.start(0, false)
	w.until(p, "the load", func() bool { return w.record().Load.Done })
	js, err := conn.NC.JetStream()
	if err == nil {
		err = js.DeleteStream(w.st.Name())
	}
	if err != nil {
		t.Fatal(err)
	}
	w.traffic(0)
	if err := w.result(p); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("the agent ended with %v, want that there is no such stream", err)
	}
}

// rewound is a stream that, for one read, shows less than it acknowledged, or does not answer for a while.
type rewound struct {
	*stream.Stream
	once atomic.Bool
	away atomic.Bool
}

func (r *rewound) End(ctx context.Context) (stream.End, error) {
	if r.away.Load() {
		return stream.End{}, errors.New("no answer")
	}
	e, err := r.Stream.End(ctx)
	if err == nil && r.once.CompareAndSwap(true, false) {
		e.Last--
		if e.Message, err = r.Message(ctx, e.Last); err != nil {
			return e, err
		}
	}
	return e, err
}

// TestRewound: a running writer that finds less than was acknowledged goes through Start again, and so does one whose record
// went back.
func TestRewound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(3)
	ctx, stop := context.WithCancel(t.Context())
	st := &rewound{Stream: w.st}
	retries := make(chan error, 100)
	cfg := w.config()
	cfg.Observer.Retry = func(err error, _ time.Duration) { retries <- err }
	a, err := capture.New(cfg, w.db, st, captures, snapshots, schemas)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{stop: stop, done: make(chan error, 1)}
	go func() { p.done <- a.Run(ctx) }()
	w.until(p, "settled", w.settled)
	st.once.Store(true)
	if err := <-retries; !errors.Is(err, stream.ErrRewound) {
		t.Errorf("it started again for %v, want a rewound stream", err)
	}
	w.traffic(0)
	w.until(p, "settled", w.settled)
	rec := w.record()
	rec.Epoch--
	b, err := json.Marshal(rec)
	if err == nil {
		_, err = captures.Put(t.Context(), w.db.source, b)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.db.Commit(op{'u', users, 1})
	if err := <-retries; !errors.Is(err, stream.ErrConflict) {
		t.Errorf("it started again for %v, want a conflict", err)
	}
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(w.first())
}

// TestAway: without JetStream the slot is given back, so that another agent can have it.
func TestAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(3)
	ctx, stop := context.WithCancel(t.Context())
	st := &rewound{Stream: w.st}
	cfg := w.config()
	cfg.Patience = 50 * time.Millisecond
	a, err := capture.New(cfg, w.db, st, captures, snapshots, schemas)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{stop: stop, done: make(chan error, 1)}
	go func() { p.done <- a.Run(ctx) }()
	w.until(p, "settled", w.settled)
	st.away.Store(true)
	w.until(p, "a free slot", func() bool {
		w.db.mu.Lock()
		defer w.db.mu.Unlock()
		return w.db.owner == nil
	})
	second := w.start(0, false)
	w.traffic(0)
	w.until(second, "settled by the other one", w.settled)
	w.end(second)
	st.away.Store(false)
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(w.first())
}

// TestFirstStart: what fails before an agent has ever run is its end.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	if _, err := captures.Put(t.Context(), w.db.source, []byte("no record")); err != nil {
		t.Fatal(err)
	}
	if err := w.result(w.start(0, false)); err == nil || !strings.Contains(err.Error(), "record of "+w.db.source) {
		t.Errorf("Run: %v, want an error that names the record", err)
	}
	if _, err := capture.New(capture.Config{}, w.db, w.st, captures, snapshots, schemas); err == nil {
		t.Error("New takes a configuration without a name")
	}
}
