package capture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// desk is where functions order their backfills.
type desk struct {
	mu     sync.Mutex
	orders []registry.Pending
}

func (d *desk) config(c *capture.Config) {
	c.Orders = func(context.Context) ([]registry.Pending, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		return append([]registry.Pending(nil), d.orders...), nil
	}
}

// order gives a function a backfill that begins now.
func (w *world) order(d *desk, function string, change func(*registry.Backfill)) registry.Pending {
	w.t.Helper()
	end, err := w.st.End(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	b := registry.Backfill{ID: 1, Start: sink.Point{Sequence: end.Last}}
	if change != nil {
		change(&b)
	}
	o := registry.Pending{
		Load: registry.BackfillLoad(function, b.ID), Backfill: b,
		Function: &registry.Function{Name: function, From: []string{w.db.source + ".public.*"}},
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.orders = append(d.orders, o)
	return o
}

func (w *world) status(o registry.Pending) (s registry.BackfillStatus) {
	w.t.Helper()
	e, err := snapshots.Get(w.t.Context(), registry.BackfillKey(w.db.source, o.Load))
	if err != nil {
		return s
	}
	if err := json.Unmarshal(e.Value, &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// since is what a function reads after a place: that of others passes by.
func (w *world) since(function string, after uint64) (all []*event.Message) {
	w.t.Helper()
	everything, err := check.Read(w.t.Context(), w.st, w.db.source)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range everything {
		if m.Sequence > after && (m.For == "" || m.For == function) {
			all = append(all, m)
		}
	}
	return all
}

// TestBackfill: a function that knows nothing of what came before its order gets all rows, beside the log; others are not disturbed.
func TestBackfill(t *testing.T) {
	t.Parallel()
	w, d := newWorld(t, 1), &desk{}
	w.fill(40)
	w.db.late = 10 * time.Millisecond
	p := w.start(0, false, d.config)
	w.until(p, "the first load", func() bool { return w.record().Load.Done })
	stop := w.hammer(1, 60)
	late := w.order(d, "late", nil)
	some := w.order(d, "some", func(b *registry.Backfill) {
		b.Tables, b.Where = []string{w.db.source + ".public.users"}, "v > 0"
	})
	for _, o := range []registry.Pending{late, some} {
		w.until(p, o.Load, func() bool { return w.status(o).Done })
	}
	stop()
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(w.first())
	w.equal(w.since("late", late.Start.Sequence))
	s := w.status(late)
	if s.Tables != 2 || s.Read != 2 || s.Rows < 40 || s.Sequence <= late.Start.Sequence {
		t.Errorf("status %+v", s)
	}
	kinds := map[string]bool{}
	for _, m := range w.since("some", some.Start.Sequence) {
		if m.For != "" {
			_, table, _, _ := event.ParseSubject(m.Subject)
			kinds[table.Name+" "+string(m.Data[:9])] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{`users {"op":"r"`: true}, kinds); diff != "" {
		t.Errorf("a backfill of some rows sweeps nothing, -want +got:\n%s", diff)
	}
}

// TestBackfillDeaths kills one agent after the other while functions order backfills, and withdraw them for a while.
func TestBackfillDeaths(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprintf("Seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			w, d := newWorld(t, seed), &desk{}
			w.fill(60)
			w.db.late, w.db.slow = 15*time.Millisecond, 3*time.Millisecond
			p := w.start(0, false, d.config)
			w.until(p, "the first load", func() bool { return w.record().Load.Done })
			w.end(p)
			random := rand.New(rand.NewPCG(seed, 2))
			stop := w.hammer(seed, 70)
			order := w.order(d, "late", nil)
			for i := range 8 {
				p := w.start(1+random.IntN(120), random.IntN(2) == 0, d.config)
				if i%4 == 2 {
					d.mu.Lock()
					d.orders = nil
					d.mu.Unlock()
				}
				<-p.done
				w.db.Kill()
				d.mu.Lock()
				d.orders = []registry.Pending{order}
				d.mu.Unlock()
			}
			p = w.start(0, false, d.config)
			w.until(p, "the backfill", func() bool { return w.status(order).Done })
			stop()
			w.until(p, "settled", w.settled)
			w.end(p)
			w.verify(w.first())
			w.equal(w.since("late", order.Start.Sequence))
		})
	}
}

// TestBackfillWithdrawn: rows of a function that does not want them any more are not read; if it does again, reading goes on.
func TestBackfillWithdrawn(t *testing.T) {
	t.Parallel()
	w, d := newWorld(t, 1), &desk{}
	w.db.tables = append(w.db.tables, notes)
	w.fill(300)
	p := w.start(0, false, d.config)
	w.until(p, "the first load", func() bool { return w.record().Load.Done })
	w.db.mu.Lock()
	w.db.slow = 300 * time.Millisecond
	w.db.mu.Unlock()
	order := w.order(d, "late", nil)
	w.until(p, "a part", func() bool { return w.status(order).Rows > 0 })
	d.mu.Lock()
	d.orders = nil
	d.mu.Unlock()
	var before int64
	w.until(p, "nothing moves", func() bool {
		now := w.status(order).Updated.UnixNano()
		still := now == before && time.Since(w.status(order).Updated) > 2500*time.Millisecond
		before = now
		return still
	})
	if s := w.status(order); s.Done || s.Read == s.Tables {
		t.Fatalf("it went on: %+v", s)
	}
	d.mu.Lock()
	d.orders = []registry.Pending{order}
	d.mu.Unlock()
	w.db.mu.Lock()
	w.db.slow = 0
	w.db.mu.Unlock()
	w.until(p, "the backfill", func() bool { return w.status(order).Done })
	w.end(p)
	if s := w.status(order); s.Rows != 600 || len(s.Skipped) != 1 || !strings.Contains(s.Skipped[0], "public.notes: it has no key") {
		t.Errorf("status %+v", s)
	}
}

// TestResync: listed rows come as they are now, and those that are gone as deletes, unless the log is newer; also where agents die.
func TestResync(t *testing.T) {
	t.Parallel()
	w, d := newWorld(t, 5), &desk{}
	w.fill(40)
	w.db.late, w.db.slow = 15*time.Millisecond, 3*time.Millisecond
	p := w.start(0, false, d.config)
	w.until(p, "the first load", func() bool { return w.record().Load.Done })
	w.db.Commit(op{'d', users, 3}, op{'d', users, 7}, op{'u', users, 8})
	order := w.order(d, "search", func(b *registry.Backfill) { b.Keys = 3 })
	list := func(n int, table event.Table, ids ...int) {
		l := registry.KeyList{Table: table}
		for _, id := range ids {
			l.Keys = append(l.Keys, fmt.Appendf(nil, `{"id":%d}`, id))
		}
		value, err := json.Marshal(l)
		if err == nil {
			_, err = snapshots.Put(t.Context(), registry.KeysKey(w.db.source, order.Load, n), value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	list(0, users, 3, 8, 9, 100)
	list(1, orders, 1, 2)
	w.end(p)
	stop := w.hammer(5, 30)
	for at := range 8 {
		p := w.start(20+13*at, at%2 == 0, d.config)
		<-p.done
		w.db.Kill()
	}
	p = w.start(0, false, d.config)
	w.until(p, "the resync", func() bool { return w.status(order).Done })
	stop()
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(w.first())
	seen := map[string]bool{}
	for _, m := range w.since("search", order.Start.Sequence) {
		if m.For == "" {
			continue
		}
		events, err := m.Decode(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			v, _ := e.Key().Column("id")
			seen[e.Table.Name+" "+string(v)] = true
			if e.Op != event.Read && e.Op != event.Delete {
				t.Errorf("%s for %s", e.Op, m.For)
			}
		}
	}
	delete(seen, "users 3") // the traffic may have made these newer
	delete(seen, "users 8")
	delete(seen, "users 9")
	delete(seen, "orders 1")
	delete(seen, "orders 2")
	if diff := cmp.Diff(map[string]bool{"users 100": true}, seen); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if s := w.status(order); len(s.Skipped) != 1 || s.Read != 2 || s.Rows != 6 {
		t.Errorf("a list is missing: %+v", s)
	}
}
