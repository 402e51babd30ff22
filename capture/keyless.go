package capture

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Tables without a key have no chunks and no touched keys, so they are read once, on the snapshot that belongs to the slot's
// first position, and the log is not begun before those rows count. Whatever interrupts that, nothing of the log is in the
// stream yet: the slot is thrown away, a new one is made, and its snapshot is read instead.

// keyless are the tables without a key that must be loaded before the log begins. errRenew if that needs a new slot.
func (a *Agent) keyless(ctx context.Context, p plan, info Info, tables []TableInfo) ([]TableInfo, error) {
	var lacking []TableInfo
	for _, t := range tables {
		if !t.Keyless {
			continue
		}
		if !p.newLoad {
			old, _, err := a.readProgress(ctx, p.load.ID, t.Schema.Table)
			if err != nil {
				return nil, err
			}
			if old.Done {
				continue
			}
		}
		lacking = append(lacking, t)
	}
	switch {
	case len(lacking) == 0 || !p.untouched && !a.cfg.Resnapshot:
		return nil, nil // the others' load says that they are left out
	case info.NewSlot:
		return lacking, nil
	}
	if _, ok := a.src.(Renewer); !ok {
		return nil, fmt.Errorf("table %s has no key, and its rows can only be read together with a new slot; drop the slot %s, "+
			"or give the table a primary key", lacking[0].Schema.Table, info.Slot)
	}
	a.renew = func(ctx context.Context) error { return a.still(ctx, p.last) }
	return nil, errRenew
}

// still says whether the stream ends where it did: errAgain where another agent has written meanwhile, which may have loaded
// these tables, and whose log must not be thrown away.
func (a *Agent) still(ctx context.Context, last uint64) error {
	end, err := a.stream.End(ctx)
	if err != nil {
		return fmt.Errorf("read the end of the stream of %s: %w", a.cfg.Source, err)
	}
	if end.Last != last {
		return fmt.Errorf("stream of %s: %w: it ends at %d, had ended at %d", a.cfg.Source, errAgain, end.Last, last)
	}
	return nil
}

// loadKeyless publishes their rows and waits until these count.
func (w *writer) loadKeyless(ctx context.Context, tables []TableInfo) error {
	snap, ok := w.log.(Snapshotter)
	if !ok {
		return nil
	}
	began := time.Now()
	all := make([]Progress, len(tables))
	for i, t := range tables {
		if w.load.Sweep { // what an earlier try left in the stream, or in targets
			if _, _, _, err := w.bound(ctx, t.Schema, event.Truncate, w.load.ID, "", 0); err != nil {
				return err
			}
		}
		p := &all[i]
		*p = Progress{Table: t.Schema.Table, Estimate: t.EstimatedRows, Done: true, Published: t.Published}
		err := snap.Whole(ctx, p.Table, func(c *Chunk) error {
			if err := w.room.wait(ctx, w.a); err != nil {
				return err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if err := w.rows(ctx, c, nil, w.load.ID, "", strconv.Itoa(p.Chunks)); err != nil {
				return err
			}
			p.Chunks++
			p.Rows += int64(len(c.Rows))
			w.a.cfg.Observer.loading(Loading{Table: p.Table, Rows: p.Rows, Estimate: p.Estimate, Began: began})
			return w.chain().Flush()
		})
		if err != nil {
			return fmt.Errorf("read the whole of %s: %w", p.Table, err)
		}
	}
	last := w.sent()
	if err := w.wait(ctx, last.sequence); err != nil {
		return fmt.Errorf("load of the tables without a key: %w", err)
	}
	if !sleep(ctx, w.a.cfg.Horizon) {
		return ctx.Err()
	}
	if err := w.holds(ctx, last); err != nil {
		return err
	}
	if err := w.log.Holds(ctx); err != nil { // who took the slot meanwhile may have made a new one: these rows are older than it
		return fmt.Errorf("load of the tables without a key: %w", err)
	}
	for _, p := range all {
		_, revision, err := w.a.readProgress(ctx, w.load.ID, p.Table)
		if err != nil {
			return err
		}
		if _, err := w.a.writeProgress(ctx, w.load.ID, p, revision); err != nil {
			return err
		}
		w.a.cfg.Observer.loading(Loading{Table: p.Table, Rows: p.Rows, Estimate: p.Estimate, Began: began, Done: true})
	}
	return nil
}
