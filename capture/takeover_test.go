package capture_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

func TestStandby(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(3)
	first := w.start(0, false)
	w.until(first, "settled", w.settled)
	held := make(chan string, 1)
	second := w.start(0, false, func(c *capture.Config) {
		c.Observer.State = func(s capture.State, detail string) {
			if s == capture.Standby {
				held <- detail
			}
		}
	})
	if got := <-held; got != "another" {
		t.Errorf("the standby waits for %q", got)
	}
	w.traffic(0)
	w.until(first, "settled", w.settled)
	first.stop()
	if err := w.result(first); err != nil {
		t.Fatal(err)
	}
	w.traffic(0)
	w.until(second, "settled by the standby", w.settled)
	w.end(second)
	w.verify(w.first())
}

// TestZombie lets a second agent take the slot while the first one does not know: the first one is fenced and exits.
func TestZombie(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(3)
	first := w.start(0, false)
	w.until(first, "settled", w.settled)
	w.db.mu.Lock()
	w.db.owner = nil // a server that lost the first one's connection, while that one still reads
	w.db.mu.Unlock()
	second := w.start(0, false)
	w.traffic(time.Millisecond)
	if err := w.result(first); !errors.Is(err, stream.ErrFenced) {
		t.Errorf("the zombie ended with %v, want fenced", err)
	}
	w.until(second, "settled", w.settled)
	w.end(second)
	w.verify(w.first())
}

// TestStaleRenewal: an agent that found a new slot necessary leaves the slot alone whose log another agent has read before it
// came to that.
func TestStaleRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(3)
	w.db.tables = append(w.db.tables, notes)
	w.db.Commit(op{'c', notes, 0})
	w.db.slot, w.db.confirmed = true, w.db.lsn // without a snapshot of the table without a key
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.db.onRenew = func() {
		first := false
		once.Do(func() { first = true })
		if first {
			close(begun)
			<-goOn
		}
	}
	slow := w.start(0, false)
	<-begun
	quick := w.start(0, false)
	w.traffic(0)
	w.until(quick, "settled", w.settled)
	w.end(quick)
	made := w.db.slots
	close(goOn)
	w.traffic(0)
	w.until(slow, "settled by the slow one", w.settled)
	w.end(slow)
	if w.db.slots != made {
		t.Errorf("%d slots were made, want %d", w.db.slots, made)
	}
}

// TestConfirm: the slot only gets to positions that the record has named for the horizon.
func TestConfirm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	type recorded struct {
		position event.Position
		at       time.Time
	}
	var mu sync.Mutex
	var records []recorded
	const horizon = 60 * time.Millisecond
	confirms := 0
	w.db.onConfirm = func(p event.Position) {
		mu.Lock()
		defer mu.Unlock()
		confirms++
		for _, r := range records {
			if r.position.Compare(p) >= 0 && time.Since(r.at) >= horizon {
				return
			}
		}
		t.Errorf("confirmed %s, which no record had named for %s", p, horizon)
	}
	p := w.start(0, false, func(c *capture.Config) {
		c.Horizon = horizon
		c.Observer.Recorded = func(p event.Position) {
			mu.Lock()
			defer mu.Unlock()
			records = append(records, recorded{p, time.Now()})
		}
		c.Observer.State = func(s capture.State, _ string) {
			if s != capture.Streaming {
				return
			}
			p, err := event.ParsePosition(w.record().Position) // the start has written it
			if err != nil {
				t.Error(err)
			}
			c.Observer.Recorded(p)
		}
	})
	for range 3 {
		w.traffic(2 * time.Millisecond)
	}
	w.until(p, "settled", w.settled)
	w.end(p)
	mu.Lock()
	defer mu.Unlock()
	if confirms == 0 {
		t.Error("nothing was confirmed")
	}
}

// TestIdle: while only other tables are written, the position moves by markers.
func TestIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	for range 3 {
		w.db.Commit()
		w.until(p, "settled", w.settled)
	}
	w.end(p)
	if _, err := w.st.LastOn(t.Context(), event.MarkSubject(w.db.source)); err != nil {
		t.Errorf("no marker: %v", err)
	}
	// The marker is the position: an agent that starts now goes on from it.
	p = w.start(0, false)
	w.db.Commit(op{'c', users, 1})
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(w.first())
}

// TestResumedLoad: a load goes on with the chunk that did not count yet.
func TestResumedLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(200)
	w.db.slow = 2 * time.Millisecond
	var at capture.Loading
	var mu sync.Mutex
	p := w.start(0, false)
	w.until(p, "a part of the load", func() bool {
		entries, err := snapshots.All(t.Context(), event.KeyToken(w.db.source)+".>")
		return err == nil && len(entries) > 0
	})
	p.m.mu.Lock()
	p.m.dead = true
	p.m.mu.Unlock()
	p.stop()
	<-p.done
	w.db.Kill()
	p = w.start(0, false, func(c *capture.Config) {
		c.Observer.Loading = func(l capture.Loading) {
			mu.Lock()
			defer mu.Unlock()
			if at.Before == 0 {
				at = l
			}
		}
	})
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(w.first())
	if at.Before == 0 {
		t.Error("the load began over")
	}
}

// TestTruncate completes the group of a TRUNCATE that an agent left after each of its messages.
func TestTruncate(t *testing.T) {
	t.Parallel()
	for k := 1; k < partitions; k++ {
		w := newWorld(t, 1)
		w.fill(6)
		p := w.start(0, false)
		w.until(p, "settled", w.settled)
		w.end(p)
		end, err := w.st.End(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.db.Commit(op{'c', users, 50}, op{'t', orders, 0}, op{'c', orders, 1})
		w.db.mu.Lock()
		changes := w.db.log[len(w.db.log)-1].changes
		w.db.mu.Unlock()
		// A writer that publishes the first change and k messages of the second one, and dies.
		ours, err := w.st.Fence(t.Context(), end.Last, end.Message.Writer.Epoch+1, end.Message.Group, "test")
		if err != nil {
			t.Fatal(err)
		}
		chain := w.st.Chain(ours, ours.Base, stream.ChainOptions{})
		c, tr := &changes[0], &changes[1]
		key, _ := c.Schema.AppendKey(nil, event.RowOf(c.After))
		from := end.Message.Group.To
		publish(t, chain, w.db.source, c, event.Partition(key, partitions), event.Group{From: from, To: c.Position, K: 1, N: 1})
		for i := range k {
			piece := *tr
			piece.Position.Part += uint32(i)
			publish(t, chain, w.db.source, &piece, i, event.Group{From: c.Position, To: tr.Position, K: i + 1, N: partitions})
		}
		if err := errors.Join(chain.Flush(), chain.Wait(t.Context(), chain.Sent())); err != nil {
			t.Fatal(err)
		}
		chain.Close()
		for range 2 { // the first successor dies too
			p = w.start(12, true)
			<-p.done
			w.db.Kill()
		}
		p = w.start(0, false)
		w.until(p, "settled", w.settled)
		w.end(p)
		w.verify(w.first())
	}
}

func publish(t *testing.T, chain *stream.Chain, source string, c *event.Change, partition int, g event.Group) {
	t.Helper()
	_, err := chain.Publish(t.Context(), &stream.Outgoing{
		Subject: event.Subject(source, c.Schema.Table, partition), ID: source + ":" + c.Position.ID(), Group: g, Data: event.AppendLine(nil, c),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNewTable: a table that is captured later is loaded, beside its changes.
func TestNewTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(8)
	w.db.tables = []event.Table{users}
	captured := func(ts ...event.Table) {
		w.db.mu.Lock()
		defer w.db.mu.Unlock()
		w.db.tables = ts
	}
	p := w.start(0, false)
	w.until(p, "settled", w.settled)
	w.end(p)
	captured(users, orders)
	p = w.start(0, false)
	w.until(p, "the load of orders", func() bool {
		e, err := snapshots.Get(t.Context(), capture.ProgressKey(w.db.source, w.record().Load.ID, orders))
		return err == nil && bytes.Contains(e.Value, []byte(`"done":true`))
	})
	w.traffic(0)
	w.until(p, "settled", w.settled)
	w.end(p)
	all, err := check.Read(context.Background(), w.st, w.db.source)
	if err != nil {
		t.Fatal(err)
	}
	if err := check.Order(all); err != nil {
		t.Error(err)
	}
	w.equal(all)
}
