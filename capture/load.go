package capture

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// looking is how often new tables are looked for.
const looking = 10 * time.Second

// loads reads the tables that the current load has not finished, a few at a time, and those that appear later.
func (w *writer) loads(ctx context.Context) error {
	snap, ok := w.log.(Snapshotter)
	if !ok {
		return nil
	}
	g, c := errgroup.WithContext(ctx)
	l := &loader{
		w: w, snap: snap, group: g, ended: make(chan *job),
		running: map[event.Table]*job{}, finished: map[event.Table]string{},
	}
	g.Go(func() error { return l.follow(c) })
	return g.Wait()
}

// loader starts a job for each table that is not loaded. None waits for another one but for a place to read in: a table that is
// large, or whose rows do not count yet, holds up nothing else.
type loader struct {
	w        *writer
	snap     Snapshotter
	group    *errgroup.Group
	ended    chan *job
	tables   []TableInfo // as they were listed last
	running  map[event.Table]*job
	finished map[event.Table]string // this run knows that they are done: how they were published
	looked   bool
}

func (l *loader) follow(ctx context.Context) error {
	tick := time.NewTicker(looking)
	defer tick.Stop()
	for {
		if err := l.look(ctx); err != nil {
			return err
		}
		if err := l.wait(ctx, tick.C); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// wait takes the jobs that end until it is time to look again.
func (l *loader) wait(ctx context.Context, tick <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.w.appeared:
			return nil
		case <-tick:
			return nil
		case j := <-l.ended:
			t := j.table.Schema.Table
			delete(l.running, t)
			if j.left || j.abandoned {
				return j.leave(ctx) // it may be back already
			}
			l.finished[t] = j.table.Published
			l.settle()
		}
	}
}

// look lists the tables, starts jobs for those that lack something, and notes which are not captured any more.
func (l *loader) look(ctx context.Context) error {
	tables, err := l.snap.Tables(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.w.a.cfg.Log.Warn("cannot list the captured tables, trying again", "source", l.w.a.cfg.Source, "error", err)
		}
		return nil
	}
	changed := !l.looked
	captured := map[event.Table]bool{}
	for _, t := range tables {
		captured[t.Schema.Table] = true
	}
	for t := range l.finished {
		if !captured[t] {
			delete(l.finished, t)
			changed = true
		}
	}
	for t, j := range l.running {
		j.left = j.left || !captured[t]
		captured[t] = true // its job says that it is gone
	}
	load := l.w.currentLoad()
	for _, t := range tables {
		name := t.Schema.Table
		if as, done := l.finished[name]; done && as == t.Published || l.running[name] != nil {
			continue
		}
		delete(l.finished, name)
		changed = true
		j, err := l.w.job(ctx, l.snap, load, t)
		switch {
		case err != nil:
			return err
		case j == nil:
			l.finished[name] = t.Published
		default:
			l.start(ctx, j)
		}
	}
	if changed {
		if err := l.w.absent(ctx, load.ID, captured); err != nil {
			return err
		}
	}
	l.tables, l.looked = tables, true
	l.settle()
	return nil
}

func (l *loader) start(ctx context.Context, j *job) {
	l.running[j.table.Schema.Table] = j
	l.group.Go(func() error {
		if err := j.run(ctx, l.w.places); err != nil {
			return err
		}
		select {
		case l.ended <- j:
		case <-ctx.Done():
		}
		return nil
	})
}

// settle notes that the load is done once all captured tables are.
func (l *loader) settle() {
	for _, t := range l.tables {
		if _, done := l.finished[t.Schema.Table]; !done {
			return
		}
	}
	w := l.w
	w.recordMu.Lock()
	done := w.load.Done
	w.load.Done = true
	w.recordMu.Unlock()
	if !done {
		w.a.cfg.Log.Info("load finished", "source", w.a.cfg.Source, "load", w.load.ID)
	}
}

func (w *writer) currentLoad() registry.Load {
	w.recordMu.Lock()
	defer w.recordMu.Unlock()
	return w.load
}

// job is what a table still lacks; nil if nothing.
func (w *writer) job(ctx context.Context, snap Snapshotter, load registry.Load, t TableInfo) (*job, error) {
	p, revision, err := w.a.readProgress(ctx, load.ID, t.Schema.Table)
	switch {
	case err != nil:
		return nil, err
	case p.Done && !p.missed(&t):
		return nil, nil
	case t.Keyless:
		p.Published = t.Published
		return nil, w.skip(ctx, load.ID, p, revision)
	case p.missed(&t):
		w.a.cfg.Log.Warn("a table was not captured for a while: it is loaded again", "source", w.a.cfg.Source, "table", t.Schema.Table.String())
		p = Progress{Table: p.Table}
	}
	p.Published = t.Published
	if p.Chunks == 0 {
		p.Sweep = load.Sweep || load.Done || revision > 0 // targets may hold rows from before
	}
	p.Estimate = t.EstimatedRows
	return &job{w: w, snap: snap, load: load.ID, table: t, next: p, revision: revision, rows: w.a.cfg.ChunkRows, serial: p.Chunks, before: p.Rows}, nil
}

// skip notes that the rows of a table without a key cannot be loaded: its changes flow from where it was first captured.
func (w *writer) skip(ctx context.Context, load string, p Progress, revision uint64) error {
	p.Done, p.Gone = true, false
	p.Skipped = "it has no key, and was not there when the slot was made"
	w.a.cfg.Log.Warn("the rows that a table already has are not loaded, only its changes: give it a primary key, or start again "+
		"with --resnapshot", "source", w.a.cfg.Source, "table", p.Table.String(), "reason", p.Skipped)
	_, err := w.a.writeProgress(ctx, load, p, revision)
	return err
}

// absent notes which tables are not captured any more: what they miss from now on is loaded when they return.
func (w *writer) absent(ctx context.Context, load string, captured map[event.Table]bool) error {
	prefix := event.KeyToken(w.a.cfg.Source) + "." + event.KeyToken(load)
	entries, err := w.a.snapshots.All(ctx, prefix+".*.*")
	if err != nil {
		return fmt.Errorf("list the loads of %s: %w", w.a.cfg.Source, err)
	}
	for _, e := range entries {
		var p Progress
		if err := json.Unmarshal(e.Value, &p); err != nil {
			return fmt.Errorf("progress %s: %w", e.Key, err)
		}
		if captured[p.Table] || p.Gone {
			continue
		}
		p.Gone = true
		if _, err := w.a.writeProgress(ctx, load, p, e.Revision); err != nil {
			return err
		}
	}
	return nil
}
