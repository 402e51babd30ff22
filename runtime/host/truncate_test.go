package host_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// guarded is a target that compares versions, and sweeps.
type guarded struct {
	*target
	mu     sync.Mutex
	rows   map[int]event.Version
	part   map[int]int
	sweeps []sink.Sweep
	flaky  bool
}

func (g *guarded) Handle(ctx context.Context, b sink.Batch) error {
	if err := g.target.Handle(ctx, b); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range b.Spans {
		for i := range s.Events {
			k := keyOf(&s.Events[i])
			g.rows[k], g.part[k] = max(g.rows[k], s.Events[i].Version), s.Partition
		}
	}
	return nil
}

func keyOf(e *event.Event) int {
	v, _ := e.Key().Column("id")
	id, _ := v.Int64()
	return int(id)
}

func (g *guarded) Sweep(_ context.Context, s sink.Sweep) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.flaky = !g.flaky; g.flaky {
		return errors.New("busy")
	}
	g.sweeps = append(g.sweeps, s)
	for k, v := range g.rows {
		if g.part[k] == s.Partition && v < s.Older {
			delete(g.rows, k)
		}
	}
	return nil
}

func TestTruncateSweepsEachPartition(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	f.put(f.schema, keys(0, 100)...)
	versions := f.truncate(f.schema)
	f.put(f.schema, keys(50, 20)...)
	name := newFunction(t, f, "$.public.orders", "")
	g := &guarded{target: newTarget(t), rows: map[int]event.Version{}, part: map[int]int{}}
	start(t, name, only(g), nil)
	g.complete(t, f.events)
	g.mu.Lock()
	defer g.mu.Unlock()
	if got, want := slices.Sorted(maps.Keys(g.rows)), keys(50, 20); !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
	if len(g.sweeps) != 4 {
		t.Errorf("%d sweeps", len(g.sweeps))
	}
	for _, s := range g.sweeps {
		if s.Older != versions[s.Partition] || s.Schema == nil || s.Partitions != 4 {
			t.Errorf("sweep %+v, want version %d", s, versions[s.Partition])
		}
	}
}

func TestTruncatePolicies(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	f.put(f.schema, keys(0, 10)...)
	f.truncate(f.schema)
	f.put(f.schema, keys(0, 10)...)
	ignoring, halting := newFunction(t, f, "$.public.orders", "truncate: ignore"), newFunction(t, f, "$.public.orders", "truncate: halt")
	g := &guarded{target: newTarget(t), rows: map[int]event.Version{}, part: map[int]int{}}
	start(t, ignoring, only(g), nil)
	start(t, halting, only(newTarget(t)), nil)
	g.complete(t, f.events)
	waitFor(t, "halted", func() bool { return record(t, halting).State == registry.Halted })
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.sweeps) > 0 {
		t.Error("swept")
	}
}

// long is a sweeper that takes its time.
type long struct {
	*guarded
	sweep func(ctx context.Context) error
	tried chan int // partitions
}

func (l *long) Sweep(ctx context.Context, s sink.Sweep) error {
	l.tried <- s.Partition
	if err := l.sweep(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	l.flaky = true // it fails never here
	l.mu.Unlock()
	return l.guarded.Sweep(ctx, s)
}

// A sweep may take longer than a write, and than the lease. Shutdown cuts it, and the next worker sweeps again.
func TestLongSweep(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(0, 10)...)
	f.truncate(f.schema)
	f.put(f.schema, keys(5, 10)...)
	name := newFunction(t, f, "$.public.orders", "")
	g := &guarded{target: newTarget(t), rows: map[int]event.Version{}, part: map[int]int{}}
	endless := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	cut := &long{guarded: g, sweep: endless, tried: make(chan int, 100)}
	short := func(c *host.Config) { c.Lease, c.WriteDeadline = 300*time.Millisecond, 100*time.Millisecond }
	stop := start(t, name, only(cut), short)
	<-cut.tried
	stop()
	if o := owner(t, name, 1, 0); o.Instance != "" {
		t.Errorf("partition is still held by %s", o.Instance)
	}

	over := make(chan struct{})
	patient := &long{guarded: g, sweep: func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			return nil
		}
	}, tried: make(chan int, 100)}
	start(t, name, only(patient), short)
	<-patient.tried
	time.AfterFunc(time.Second, func() { close(over) }) // more than three leases
	g.complete(t, f.events)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(patient.tried) > 0 || len(g.sweeps) != 1 {
		t.Errorf("%d more tries, %d sweeps, want one", len(patient.tried), len(g.sweeps))
	}
	if got, want := slices.Sorted(maps.Keys(g.rows)), keys(5, 10); !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
}

// What the agent itself truncates, to begin a load over, is no TRUNCATE of the source: no policy keeps it from the target.
func TestTruncateOfALoad(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	f.put(f.schema, keys(0, 10)...)
	f.bound(event.Truncate, 0)
	f.put(f.schema, keys(20, 10)...)
	for _, policy := range []string{"ignore", "halt"} {
		g := &guarded{target: newTarget(t), rows: map[int]event.Version{}, part: map[int]int{}}
		start(t, newFunction(t, f, "$.public.orders", "truncate: "+policy), only(g), nil)
		g.complete(t, f.events)
		g.mu.Lock()
		if got, want := slices.Sorted(maps.Keys(g.rows)), keys(20, 10); !slices.Equal(got, want) {
			t.Errorf("%s: rows %v, want %v", policy, got, want)
		}
		g.mu.Unlock()
	}
}

// bound publishes an m or t of a load, in all partitions, and returns the first one's version.
func (f *feeder) bound(op event.Op, cutoff event.Version) (v event.Version) {
	f.t.Helper()
	n := f.stream.Partitions()
	for part := range n {
		line := event.AppendLine(nil, &event.Change{Op: op, Schema: f.schema, Cutoff: cutoff, Position: f.group, Snapshot: true, CommitMS: 1})
		seq := f.publish(event.Subject(f.name, f.schema.Table, part), event.Group{From: f.group, To: f.group, K: part + 1, N: n}, fmt.Sprintf("%s:s1.1:%s:%d", f.name, op, part), "", line)
		if part == 0 {
			v = f.writer.Version(seq, 1)
		}
	}
	f.flush()
	return v
}

// transactional is a target that keeps the checkpoint with the data, as PostgreSQL does: no versions, exactly once.
type transactional struct {
	t      *testing.T
	mu     sync.Mutex
	rows   map[int]int // key to how often it was written
	points map[int]sink.Point
	closed bool
	before int64 // generations before this one are closed too
	truncs int
	begun  int
	waits  int
}

func newTransactional(t *testing.T) *transactional {
	return &transactional{t: t, rows: map[int]int{}, points: map[int]sink.Point{}}
}

func (p *transactional) Claim(_ context.Context, c sink.Claim) (sink.Point, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || c.Generation < p.before {
		return sink.Point{}, sink.ErrClosed
	}
	if _, ok := p.points[c.Partition]; !ok {
		p.points[c.Partition] = c.Start
	}
	return p.points[c.Partition], nil
}

func (p *transactional) Handle(_ context.Context, b sink.Batch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return sink.ErrClosed
	}
	for _, s := range b.Spans {
		at := p.points[s.Partition]
		if at.Version < s.After.Version {
			return fmt.Errorf("partition %d stands at %d: %w", s.Partition, at.Version, sink.ErrBehind)
		}
		for i := range s.Events {
			if e := &s.Events[i]; e.Version > at.Version {
				p.rows[keyOf(e)]++
			}
		}
		if s.To.Version > at.Version {
			p.points[s.Partition] = s.To
		}
	}
	if rand.N(10) == 0 { // committed, but the answer is lost
		return errors.New("connection reset")
	}
	return nil
}

func (p *transactional) Truncate(_ context.Context, b sink.Barrier) (sink.Outcome, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.points[b.Partition]
	switch {
	case own.Version < b.After.Version:
		return sink.Wait, sink.ErrBehind
	case own.Version >= b.At[b.Partition].Version:
		return sink.Passed, nil
	}
	p.points[b.Partition] = sink.Point{Sequence: b.At[b.Partition].Sequence - 1, Version: b.At[b.Partition].Version - 1}
	for q, at := range b.At {
		switch c := p.points[q]; {
		case at.Version == 0:
			p.waits++
			return sink.Wait, nil
		case c.Version >= at.Version:
			p.points[b.Partition] = b.At[b.Partition]
			return sink.Passed, nil
		case c.Version != at.Version-1:
			p.waits++
			return sink.Wait, nil
		}
	}
	clear(p.rows)
	p.truncs++
	for q, at := range b.At {
		p.points[q] = at
	}
	return sink.Passed, nil
}

func (p *transactional) Begin(context.Context, sink.Claim, *event.Schema, sink.Point) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun++
	return nil
}

// floors holds each floor against its checkpoint: none passes what its target has not done.
func (p *transactional) floors(c *host.Config) {
	c.Observer.Floor = func(_ string, part int, floor sink.Point) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if at := p.points[part]; floor.Version > at.Version {
			p.t.Errorf("the floor of partition %d is at %d, its target at %d", part, floor.Version, at.Version)
		}
	}
}

func (p *transactional) want(t *testing.T, rows map[int]int, truncs int) {
	t.Helper()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if t.Failed() {
			t.Logf("%d rows, %d truncations, %d waits, checkpoints %v", len(p.rows), p.truncs, p.waits, p.points)
		}
	}()
	waitFor(t, fmt.Sprintf("%d rows after %d truncations", len(rows), truncs), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return maps.Equal(p.rows, rows) && p.truncs == truncs
	})
}

func once(ks []int) map[int]int {
	m := map[int]int{}
	for _, k := range ks {
		m[k] = 1
	}
	return m
}

func TestTruncateIsOneTransaction(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 10}")
	p := newTransactional(t)
	stop := start(t, name, only(p), p.floors)
	f.put(f.schema, keys(0, 100)...)
	f.truncate(f.schema)
	f.put(f.schema, keys(200, 60)...)
	p.want(t, once(keys(200, 60)), 1)
	f.truncate(f.schema)
	f.truncate(f.schema)
	f.put(f.schema, keys(300, 60)...)
	p.want(t, once(keys(300, 60)), 3)
	stop()
	f.truncate(f.schema)
	f.put(f.schema, keys(400, 60)...)
	start(t, name, only(p), p.floors)
	p.want(t, once(keys(400, 60)), 4)
}

// A writer dies after the first messages of a t; its successor completes the group behind its fence.
func TestTruncateWaitsForItsGroup(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	name := newFunction(t, f, "$.public.orders", "")
	p := newTransactional(t)
	start(t, name, only(p), p.floors)
	f.put(f.schema, keys(0, 50)...)
	at := f.position()
	piece := func(part int) {
		c := at
		c.Part = uint32(part)
		line := event.AppendLine(nil, &event.Change{Op: event.Truncate, Schema: f.schema, Position: c, CommitMS: 1})
		f.publish(event.Subject(f.name, f.schema.Table, part), event.Group{From: f.group, To: at, K: part + 1, N: 4}, event.MessageID(f.name, c), "", line)
	}
	piece(0)
	piece(1)
	f.flush()
	waitFor(t, "two partitions wait", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.waits > 4 || t.Failed() })
	p.want(t, once(keys(0, 50)), 0)
	carried := event.Group{From: f.group, To: at, K: 2, N: 4}
	after := f.chain.Sent()
	f.chain.Close()
	var err error
	if f.writer, err = f.stream.Fence(t.Context(), after, 2, carried, "i2"); err != nil {
		t.Fatal(err)
	}
	f.chain = f.stream.Chain(f.writer, f.writer.Base, stream.ChainOptions{})
	t.Cleanup(f.chain.Close)
	piece(2)
	piece(3)
	f.group = at
	f.flush()
	f.put(f.schema, keys(100, 50)...)
	p.want(t, once(keys(100, 50)), 1)
}

// The log went on although the group is incomplete: what of the t is there is passed, a backfill follows.
func TestAbandonedTruncateIsPassed(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "")
	p := newTransactional(t)
	start(t, name, only(p), nil)
	f.put(f.schema, keys(0, 20)...)
	at := f.position()
	line := event.AppendLine(nil, &event.Change{Op: event.Truncate, Schema: f.schema, Position: at, CommitMS: 1})
	f.publish(event.Subject(f.name, f.schema.Table, 0), event.Group{From: f.group, To: at, K: 1, N: 2}, event.MessageID(f.name, at), "", line)
	f.flush()
	f.group = f.position()
	f.fence(2, f.chain.Sent())
	f.put(f.schema, keys(20, 20)...)
	p.want(t, once(keys(0, 40)), 0)
}

// A target that keeps checkpoints is restored to the past: what it lacks is written again.
func TestRestoredTarget(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 10}")
	p := newTransactional(t)
	start(t, name, only(p), nil)
	f.put(f.schema, keys(0, 50)...)
	p.want(t, once(keys(0, 50)), 0)
	p.mu.Lock()
	backup, points := maps.Clone(p.rows), maps.Clone(p.points)
	p.mu.Unlock()
	f.put(f.schema, keys(50, 50)...)
	p.want(t, once(keys(0, 100)), 0)
	p.mu.Lock()
	p.rows, p.points = backup, points
	p.mu.Unlock()
	f.put(f.schema, keys(100, 50)...)
	p.want(t, once(keys(0, 150)), 0)
}

// A generation that a newer one closed in the target does not write, and does not halt.
func TestClosedGeneration(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	name := newFunction(t, f, "$.public.orders", "")
	p := newTransactional(t)
	p.closed = true
	tried := make(chan struct{}, 100)
	start(t, name, only(p), func(c *host.Config) {
		c.Observer.Floor = func(string, int, sink.Point) { tried <- struct{}{} }
	})
	f.put(f.schema, 1)
	waitFor(t, "claimed again", func() bool { return owner(t, name, 1, 0).Turn > 2 })
	if r := record(t, name); r.State != registry.Running || len(tried) > 0 {
		t.Errorf("%s, %d floors moved", r.State, len(tried))
	}
}

// An m is noted before what follows it.
func TestBackfillBegins(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "")
	p := newTransactional(t)
	start(t, name, only(p), nil)
	f.put(f.schema, keys(0, 20)...)
	v := f.bound(event.Mark, 0)
	f.put(f.schema, keys(100, 20)...)
	f.bound(event.Truncate, v)
	f.put(f.schema, keys(200, 20)...)
	p.want(t, once(keys(200, 20)), 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun != 2 {
		t.Errorf("%d marks", p.begun)
	}
}
