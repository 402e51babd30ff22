package capture_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/event"
)

// hammer changes rows at random until stop is called, which waits for it.
func (w *world) hammer(seed uint64, rows int) (stop func()) {
	random := rand.New(rand.NewPCG(seed, 3))
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-time.After(300 * time.Microsecond):
			}
			var ops []op
			for range 1 + random.IntN(3) {
				o := op{"cuuuudk"[random.IntN(7)], users, random.IntN(rows)}
				if random.IntN(2) == 0 {
					o.table = orders
				}
				ops = append(ops, o)
			}
			if i%50 == 20 {
				ops = append(ops, op{'t', orders, 0}, op{'c', orders, 1}, op{'c', orders, 2})
			}
			if i%97 == 30 {
				ops = append(ops, op{'t', notes, 0}, op{'c', notes, 0})
			}
			w.db.Commit(ops...)
		}
	})
	return func() { close(end); running.Wait() }
}

// TestLoadBesideTraffic: chunks are read while their rows change, commits show late, and tables are truncated.
func TestLoadBesideTraffic(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("Seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			w.fill(60)
			w.db.late, w.db.slow = 15*time.Millisecond, 4*time.Millisecond
			stop := w.hammer(seed, 60)
			p := w.start(0, false)
			w.until(p, "the load", func() bool { return w.record().Load.Done })
			stop()
			w.until(p, "settled", w.settled)
			w.end(p)
			w.verify(w.first())
		})
	}
}

// TestWaiting: what an earlier agent published may still be invisible to the chunks of its successor.
func TestWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(4)
	w.db.tables = []event.Table{users}
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	w.db.hide = true
	w.db.Commit(op{'u', orders, 1}, op{'d', orders, 2})
	w.until(p, "settled", w.settled)
	w.end(p)
	w.db.mu.Lock()
	w.db.tables, w.db.chunks = []event.Table{users, orders}, 0
	w.db.mu.Unlock()
	p = w.start(0, false)
	loaded := func() bool {
		e, err := snapshots.Get(t.Context(), capture.ProgressKey(w.db.source, w.record().Load.ID, orders))
		return err == nil && bytes.Contains(e.Value, []byte(`"done":true`))
	}
	w.until(p, "a second look", func() bool {
		w.db.mu.Lock()
		defer w.db.mu.Unlock()
		return w.db.chunks > 1 || loaded()
	})
	w.db.Show()
	w.until(p, "the load of orders", loaded)
	w.end(p)
	all, err := check.Read(t.Context(), w.st, w.db.source)
	if err != nil {
		t.Fatal(err)
	}
	w.equal(all)
}

// TestTruncatedChunk: rows that were read before a TRUNCATE do not follow it.
func TestTruncatedChunk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(4)
	w.db.tables = []event.Table{orders}
	var once sync.Once
	w.db.onMark = func() {
		once.Do(func() { w.db.Commit(op{'t', orders, 0}, op{'c', orders, 1}, op{'c', orders, 9}) })
	}
	p := w.start(0, false)
	w.until(p, "the load", func() bool { return w.record().Load.Done })
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(w.first())
}

// TestTableDropped: a table that goes while it is loaded does not hold up the others, and is loaded anew when it returns.
func TestTableDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(60)
	w.db.slow = 4 * time.Millisecond
	tables := func(ts ...event.Table) {
		w.db.mu.Lock()
		defer w.db.mu.Unlock()
		w.db.tables = ts
	}
	p := w.start(0, false)
	w.until(p, "some chunks", func() bool {
		w.db.mu.Lock()
		defer w.db.mu.Unlock()
		return w.db.chunks > 4
	})
	tables(users)
	w.until(p, "settled", w.settled)
	w.end(p)
	tables(users, orders)
	w.db.Commit(op{'d', orders, 1}) // also while it is not captured
	p = w.start(0, false)
	w.until(p, "the load of orders", func() bool {
		e, err := snapshots.Get(t.Context(), capture.ProgressKey(w.db.source, w.record().Load.ID, orders))
		return err == nil && bytes.Contains(e.Value, []byte(`"done":true`)) && !bytes.Contains(e.Value, []byte(`"gone"`))
	})
	w.end(p)
	all, err := check.Read(t.Context(), w.st, w.db.source)
	if err != nil {
		t.Fatal(err)
	}
	w.equal(all)
}

// TestDeaths kills one agent after the other at random calls, under load.
func TestDeaths(t *testing.T) {
	t.Parallel()
	for seed := range *seeds {
		t.Run(fmt.Sprintf("Seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			w.db.tables = append(w.db.tables, notes)
			w.fill(40)
			w.db.late, w.db.slow = 15*time.Millisecond, 3*time.Millisecond
			random := rand.New(rand.NewPCG(seed, 1))
			stop := w.hammer(seed, 50)
			for range 15 {
				p := w.start(1+random.IntN(90), random.IntN(2) == 0)
				<-p.done
				w.db.Kill()
			}
			p := w.start(0, false)
			w.until(p, "the load", func() bool { return w.record().Load.Done })
			stop()
			w.until(p, "settled", w.settled)
			w.end(p)
			w.verify(w.first())
		})
	}
}

// TestTablesDoNotWaitForEachOther: with one place to read in, tables are read one after the other, however long it takes until
// their rows count; also one that appears meanwhile.
func TestTablesDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(12)
	third := event.Table{Schema: "public", Name: "third"}
	w.db.schemas[third] = schemaOf(w.db.source, third)
	w.db.rows[third], w.db.shown[third] = map[int]int{}, map[int]int{}
	var mu sync.Mutex
	read := map[event.Table]int64{}
	p := w.start(0, false, func(c *capture.Config) {
		c.Horizon, c.Parallel = time.Hour, 1
		c.Observer.Loading = func(l capture.Loading) {
			mu.Lock()
			defer mu.Unlock()
			if read[l.Table] = l.Rows; l.Done {
				t.Errorf("the rows of %s count before the horizon has passed", l.Table)
			}
		}
	})
	loaded := func(table event.Table, rows int64) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return read[table] >= rows
		}
	}
	w.until(p, "users", loaded(users, 12))
	w.until(p, "orders", loaded(orders, 12))
	w.db.mu.Lock()
	w.db.tables = append(w.db.tables, third)
	w.db.mu.Unlock()
	w.db.Commit(op{'c', third, 1}, op{'c', third, 2})
	w.until(p, "the table that appeared", loaded(third, 2))
	if w.record().Load.Done {
		t.Error("the load is done before its rows count")
	}
	w.end(p)
}

// TestLoadWaitsForFunctions: no row is published while more than half of what the stream may hold is unread; the log goes on.
func TestLoadWaitsForFunctions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(12)
	w.db.tables = append(w.db.tables, notes)
	var unread, rows atomic.Int64
	unread.Store(501)
	waits := make(chan string, 10)
	p := w.start(0, false, func(c *capture.Config) {
		c.Backlog = func(context.Context) (capture.Backlog, error) {
			return capture.Backlog{Function: "search", Unread: uint64(unread.Load()), Limit: 1000}, nil
		}
		c.Observer.Waiting = func(function string) { waits <- function }
		c.Observer.Loading = func(l capture.Loading) { rows.Add(l.Rows) }
	})
	if f := <-waits; f != "search" {
		t.Errorf("it waits for %q, want search", f)
	}
	if n := rows.Load(); n != 0 {
		t.Errorf("%d rows were read", n)
	}
	unread.Store(500)
	if f := <-waits; f != "" {
		t.Errorf("it waits for %q, want nobody", f)
	}
	w.until(p, "settled", w.settled)
	unread.Store(501)
	w.traffic(0)
	w.until(p, "settled, whatever the functions do", w.settled)
	w.end(p)
	w.verify(w.first())
}
