package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// ordering is how often backfills are asked for, and how often those that go on say how far they are.
const ordering = time.Second

// errWithdrawn: the backfill is not asked for any more, or its function does not run. What counts by then is not read again if it comes
// back.
var errWithdrawn = errors.New("the backfill was withdrawn")

// backfills carries out what functions have ordered, each for itself. It holds no state that would outlive it: the order is in the
// function's record, its progress beside that of the loads.
func (w *writer) backfills(ctx context.Context) error {
	snap, ok := w.log.(Snapshotter)
	if !ok || w.a.cfg.Orders == nil {
		return nil
	}
	g, c := errgroup.WithContext(ctx)
	g.Go(func() error {
		b := &backfills{w: w, snap: snap, group: g, running: map[string]*backfill{}, done: map[string]bool{}, rests: map[string]time.Time{}, ended: make(chan *backfill)}
		return b.follow(c)
	})
	return g.Wait()
}

type backfills struct {
	w       *writer
	snap    Snapshotter
	group   *errgroup.Group
	running map[string]*backfill // by load
	done    map[string]bool
	rests   map[string]time.Time // since when those rest that were withdrawn
	ended   chan *backfill
}

// resting is how long one that was withdrawn rests: what it publishes then has the same IDs again, which JetStream remembers for 2 s.
const resting = 3 * time.Second

func (b *backfills) follow(ctx context.Context) error {
	tick := time.NewTicker(ordering)
	defer tick.Stop()
	for {
		orders, err := b.w.a.cfg.Orders(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			b.w.a.cfg.Log.Warn("cannot read which backfills are ordered, trying again", "source", b.w.a.cfg.Source, "error", err)
		default:
			b.look(ctx, orders)
		}
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return nil
			case f := <-b.ended:
				delete(b.running, f.order.Load)
				b.done[f.order.Load], b.rests[f.order.Load] = f.finished, time.Now()
			case <-tick.C:
				again = true
			}
		}
	}
}

// look starts what is new, and withdraws what is not ordered any more.
func (b *backfills) look(ctx context.Context, orders []registry.Pending) {
	wanted := map[string]bool{}
	for _, o := range orders {
		wanted[o.Load] = true
		if b.running[o.Load] == nil && !b.done[o.Load] && time.Since(b.rests[o.Load]) > resting {
			b.start(ctx, o)
		}
	}
	for load, f := range b.running {
		if !wanted[load] && !f.withdrawn {
			f.withdrawn = true
			close(f.stop)
		}
	}
}

func (b *backfills) start(ctx context.Context, o registry.Pending) {
	f := &backfill{w: b.w, snap: b.snap, order: o, stop: make(chan struct{})}
	b.running[o.Load] = f
	b.group.Go(func() error {
		if err := f.run(ctx); err != nil && !errors.Is(err, errWithdrawn) {
			return err
		}
		select {
		case b.ended <- f:
		case <-ctx.Done():
		}
		return nil
	})
}

// backfill is one that is carried out.
type backfill struct {
	w         *writer
	snap      Snapshotter
	order     registry.Pending
	stop      chan struct{}
	withdrawn bool // stop is closed; the loop's
	finished  bool // the run's, until it has ended

	status   registry.BackfillStatus
	revision uint64
	jobs     []*job
}

func (f *backfill) run(ctx context.Context) error {
	key := registry.BackfillKey(f.w.a.cfg.Source, f.order.Load)
	e, err := f.w.a.snapshots.Get(ctx, key)
	switch {
	case err == nil:
		err = json.Unmarshal(e.Value, &f.status)
	case errors.Is(err, stream.ErrNotFound):
		err = nil
	}
	if err != nil {
		return fmt.Errorf("read the progress of the backfill %s: %w", f.order.Load, err)
	}
	f.revision = e.Revision
	if f.finished = f.status.Done; f.finished {
		return nil
	}
	began := f.status.Begin
	f.status = registry.BackfillStatus{}
	if f.order.Keys == 0 {
		if err := f.prepare(ctx); err != nil {
			return err
		}
	}
	f.w.mu.Lock()
	f.status.Begin = f.w.sent().sequence
	f.w.mu.Unlock()
	if began > 0 { // an earlier agent's, unless the stream has lost that place since
		f.status.Begin = min(began, f.status.Begin)
	}
	if err := f.insist(ctx); err != nil {
		return err
	}
	f.w.a.cfg.Log.Info("backfill begins", "source", f.w.a.cfg.Source, "function", f.order.Function.Name, "backfill", f.order.ID,
		"tables", f.status.Tables, "why", f.order.Why)
	read := f.tables
	if f.order.Keys > 0 {
		read = f.resync
	}
	if err := read(ctx); err != nil {
		return err
	}
	f.status.Done = true
	failpoint.At(failpoint.BackfillRead)
	if err := f.insist(ctx); err != nil {
		return err
	}
	failpoint.At(failpoint.BackfillDone)
	f.finished = true
	f.w.a.cfg.Log.Info("backfill is read", "source", f.w.a.cfg.Source, "function", f.order.Function.Name, "backfill", f.order.ID, "rows", f.status.Rows)
	return nil
}

// tables reads all that is asked for.
func (f *backfill) tables(ctx context.Context) error {
	g, c := errgroup.WithContext(ctx)
	for _, j := range f.jobs {
		g.Go(func() error { return j.run(c, f.w.places) })
	}
	over := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		f.tell(ctx, over)
	}()
	err := g.Wait()
	close(over)
	<-told
	if err != nil {
		return err
	}
	f.sum()
	return nil
}

// prepare makes a job for each table that is to be read.
func (f *backfill) prepare(ctx context.Context) error {
	tables, err := f.list(ctx)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if !f.order.Wants(f.order.Function, t.Schema.Table) {
			continue
		}
		f.status.Tables++
		p, revision, err := f.w.a.readProgress(ctx, f.order.Load, t.Schema.Table)
		if err != nil {
			return err
		}
		if p.Published != "" && p.Published != t.Published && !p.Done { // it was out of the log meanwhile
			p = Progress{Table: p.Table}
		}
		p.Estimate, p.Published = t.EstimatedRows, t.Published
		if p.Chunks == 0 {
			p.Sweep = f.order.Where == ""
		}
		if t.Keyless && !p.Done {
			p.Done, p.Skipped = true, "it has no key: its rows can only be read together with a new slot, by --resnapshot"
			f.w.a.cfg.Log.Warn("a table without a key is left out of a backfill", "source", f.w.a.cfg.Source, "table", t.Schema.Table.String(),
				"function", f.order.Function.Name)
			if revision, err = f.w.a.writeProgress(ctx, f.order.Load, p, revision); err != nil {
				return err
			}
		}
		j := &job{
			w: f.w, snap: f.snap, load: f.order.Load, function: f.order.Function.Name, where: f.order.Where, stop: f.stop,
			table: t, next: p, revision: revision, rows: f.w.a.cfg.ChunkRows, serial: p.Chunks, before: p.Rows,
		}
		j.tell(func(n *told) {
			n.rows, n.estimate, n.skipped = p.Rows, p.Estimate, p.Skipped
			if n.read = p.Done; p.Done {
				n.last = f.w.newest().sequence // at the latest
			}
		})
		f.jobs = append(f.jobs, j)
	}
	return nil
}

// list insists on the captured tables.
func (f *backfill) list(ctx context.Context) ([]TableInfo, error) {
	for {
		tables, err := f.snap.Tables(ctx)
		if err == nil || ctx.Err() != nil {
			return tables, ctx.Err()
		}
		f.w.a.cfg.Log.Warn("cannot list the captured tables, trying again", "source", f.w.a.cfg.Source, "error", err)
		select {
		case <-f.stop:
			return nil, errWithdrawn
		case <-time.After(ordering):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tell writes how far the backfill is, for people, until it is over.
func (f *backfill) tell(ctx context.Context, over <-chan struct{}) {
	tick := time.NewTicker(ordering)
	defer tick.Stop()
	for {
		before := f.status
		f.sum()
		if f.status.Rows != before.Rows || f.status.Read != before.Read || f.status.Problem != before.Problem {
			if err := f.write(ctx); err != nil && ctx.Err() == nil {
				f.w.a.cfg.Log.Debug("cannot write how far a backfill is", "source", f.w.a.cfg.Source, "error", err)
			}
		}
		select {
		case <-over:
			return
		case <-tick.C:
		}
	}
}

// sum adds up what the jobs say.
func (f *backfill) sum() {
	s := &f.status
	s.Read, s.Rows, s.Estimate, s.Sequence, s.Problem, s.Skipped = 0, 0, 0, 0, "", nil
	for _, j := range f.jobs {
		t := j.told.Load()
		s.Rows += t.rows
		s.Estimate += max(t.rows, t.estimate)
		if t.read {
			s.Read++
			s.Sequence = max(s.Sequence, t.last)
		}
		if t.problem != "" {
			s.Problem = t.problem
		}
		if t.skipped != "" {
			s.Skipped = append(s.Skipped, j.table.Schema.Table.String()+": "+t.skipped)
		}
	}
	switch {
	case s.Read < len(f.jobs):
		s.Sequence = 0
	case len(f.jobs) == 0:
		s.Sequence = f.order.Start.Sequence
	}
}

// insist writes it, also where NATS is away for a while.
func (f *backfill) insist(ctx context.Context) error {
	for {
		err := f.write(ctx)
		if err == nil || again(err) {
			return err
		}
		if !sleep(ctx, ordering) {
			return ctx.Err()
		}
	}
}

func (f *backfill) write(ctx context.Context) error {
	f.status.Updated = time.Now().UTC()
	next, err := swap(ctx, f.w.a.snapshots, registry.BackfillKey(f.w.a.cfg.Source, f.order.Load), f.status.Bytes(), f.revision)
	if err != nil {
		return fmt.Errorf("write the progress of the backfill %s: %w", f.order.Load, err)
	}
	f.revision = next
	return nil
}
