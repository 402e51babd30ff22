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
	tick := time.NewTicker(looking)
	defer tick.Stop()
	finished := map[event.Table]bool{}
	for {
		tables, err := snap.Tables(ctx)
		if err == nil {
			err = w.loadAll(ctx, snap, tables, finished)
			if err != nil {
				return err
			}
		} else if ctx.Err() == nil {
			w.a.cfg.Log.Warn("cannot list the captured tables, trying again", "source", w.a.cfg.Source, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.appeared:
		case <-tick.C:
		}
	}
}

// loadAll finishes what the load lacks. finished are the tables of which this run knows that they are done.
func (w *writer) loadAll(ctx context.Context, snap Snapshotter, tables []TableInfo, finished map[event.Table]bool) error {
	load := w.currentLoad()
	captured, same := map[event.Table]bool{}, len(tables) == len(finished)
	for _, t := range tables {
		captured[t.Schema.Table] = true
		same = same && finished[t.Schema.Table]
	}
	if same && load.Done {
		return nil
	}
	for t := range finished {
		if !captured[t] {
			delete(finished, t)
		}
	}
	var jobs []*job
	for _, t := range tables {
		if finished[t.Schema.Table] {
			continue
		}
		j, err := w.job(ctx, snap, load, t)
		if err != nil {
			return err
		}
		if j != nil {
			jobs = append(jobs, j)
		}
	}
	g, c := errgroup.WithContext(ctx)
	g.SetLimit(w.a.cfg.Parallel)
	for _, j := range jobs {
		g.Go(func() error { return j.run(c) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, j := range jobs {
		if j.abandoned {
			delete(captured, j.table.Schema.Table)
		}
	}
	if err := w.absent(ctx, load.ID, captured); err != nil {
		return err
	}
	for t := range captured {
		finished[t] = true
	}
	if !load.Done {
		w.recordMu.Lock()
		w.load.Done = true
		w.recordMu.Unlock()
		w.a.cfg.Log.Info("load finished", "source", w.a.cfg.Source, "load", load.ID)
	}
	return nil
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
	case p.Done && !p.Gone:
		return nil, nil
	case t.Keyless:
		return nil, w.skip(ctx, load.ID, p, revision)
	case p.Gone:
		p = Progress{Table: p.Table}
	}
	if p.Chunks == 0 {
		p.Sweep = load.Sweep || load.Done || revision > 0 // targets may hold rows from before
	}
	p.Estimate = t.EstimatedRows
	return &job{w: w, snap: snap, load: load.ID, table: t, next: p, revision: revision, rows: w.a.cfg.ChunkRows, began: time.Now(), before: p.Rows}, nil
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
