package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// resync reads rows by their keys for one function: what is there is published as r, what is not as d, both newer than all that came
// before. It is a few chunks: one that was interrupted begins over.
func (f *backfill) resync(ctx context.Context) error {
	if _, able := f.snap.(KeyReader); !able {
		f.status.Skipped = []string{"this source cannot read rows by their keys yet: `runnel backfill " + f.order.Function.Name + "` reads all"}
		return nil
	}
	tables, err := f.list(ctx)
	if err != nil {
		return err
	}
	f.status.Tables = f.order.Keys
	for n := range f.order.Keys {
		batch, err := f.keys(ctx, n)
		if err != nil {
			return err
		}
		f.status.Estimate += int64(len(batch.Keys))
		i := slices.IndexFunc(tables, func(t TableInfo) bool { return t.Schema.Table == batch.Table })
		if i < 0 || tables[i].Keyless || len(batch.Keys) == 0 {
			f.status.Skipped = append(f.status.Skipped, batch.Table.String()+": it is not captured, has no key, or its list of keys is gone")
			continue
		}
		j := &job{
			w: f.w, snap: f.snap, load: f.order.Load, function: f.order.Function.Name, keys: batch.Keys, stop: f.stop, table: tables[i],
			rows: len(batch.Keys) + 1, serial: n << 16,
		}
		if err := j.listed(ctx); err != nil {
			return err
		}
		f.status.Read++
		f.status.Rows += int64(len(batch.Keys))
		if err := f.insist(ctx); err != nil {
			return err
		}
	}
	return f.settle(ctx)
}

// settle waits until all that was published counts.
func (f *backfill) settle(ctx context.Context) error {
	f.w.mu.Lock()
	err := f.w.chain().Flush()
	last := f.w.sent()
	f.w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("flush the resync %s: %w", f.order.Load, err)
	}
	if err := f.w.wait(ctx, last.sequence); err != nil {
		return fmt.Errorf("resync %s: %w", f.order.Load, err)
	}
	f.status.Sequence = last.sequence
	if err := f.insist(ctx); err != nil {
		return err
	}
	if !sleep(ctx, f.w.a.cfg.Horizon) {
		return ctx.Err()
	}
	return f.w.holds(ctx, last)
}

// keys of a batch.
func (f *backfill) keys(ctx context.Context, n int) (registry.KeyList, error) {
	var list registry.KeyList
	e, err := f.w.a.snapshots.Get(ctx, registry.KeysKey(f.w.a.cfg.Source, f.order.Load, n))
	switch {
	case errors.Is(err, stream.ErrNotFound):
		return list, nil
	case err == nil:
		err = json.Unmarshal(e.Value, &list)
	}
	if err != nil {
		return list, fmt.Errorf("read the keys of the resync %s: %w", f.order.Load, err)
	}
	return list, nil
}

// listed publishes the rows with the job's keys, however often they must be read.
func (j *job) listed(ctx context.Context) error {
	reading, cancel := j.reading(ctx)
	defer cancel()
	for {
		win, err := j.chunk(reading, "")
		if err == nil {
			err = win.wait(reading)
		}
		switch {
		case err != nil && reading.Err() != nil && ctx.Err() == nil:
			return errWithdrawn
		case errors.Is(err, errAbsent):
			return nil
		case err != nil || win.stored:
			return err
		}
	}
}

// gone publishes a delete for each key that was asked for and has no row, unless the log is newer; mu is held.
func (w *writer) gone(ctx context.Context, win *window) error {
	if len(win.keys) == 0 {
		return nil
	}
	s := win.chunk.Schema
	t, err := w.version(ctx, s)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for i := range win.chunk.Rows {
		there[string(win.chunk.Rows[i].Key)] = true
	}
	for n, listed := range win.keys {
		key, err := s.AppendKey(nil, event.RowOf(listed))
		if err != nil {
			return fmt.Errorf("key %s of %s: %w", listed, s.Table, err)
		}
		if _, newer := win.touched[string(key)]; newer || there[string(key)] {
			continue
		}
		if err := w.turn(ctx); err != nil { // here, since the ID names the epoch
			return err
		}
		w.line = event.AppendLine(w.line[:0], &event.Change{
			Op: event.Delete, Schema: s, Before: listed, Position: w.cur, CommitMS: win.chunk.ReadMS, Snapshot: true,
		})
		m := stream.Outgoing{
			Subject: t.subjects[event.Partition(key, len(t.subjects))], For: win.forOne, Group: at(w.cur), Data: append([]byte(nil), w.line...),
			ID: event.SnapshotID(w.a.cfg.Source, win.load, w.id().Epoch, s.Table, strconv.Itoa(win.number)+"d", n),
		}
		if err := w.send(ctx, &m, 1, win.chunk.ReadMS); err != nil {
			return err
		}
	}
	return nil
}
