package capture

import (
	"context"
	"time"
)

// forgetting is how often published transactions are forgotten that every snapshot shows.
const forgetting = 10 * time.Second

// forget forgets the transactions that a snapshot taken now shows, now and then: else what was published would be remembered for
// ever where nothing is loaded, and for as long as a load waits.
func (w *writer) forget(ctx context.Context, every <-chan time.Time) error {
	snap, ok := w.log.(Snapshotter)
	if !ok {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every:
		}
		if err := w.prune(ctx, snap); err != nil && ctx.Err() == nil {
			w.a.cfg.Log.Debug("no snapshot to forget transactions by", "source", w.a.cfg.Source, "error", err)
		}
	}
}

func (w *writer) prune(ctx context.Context, snap Snapshotter) error {
	var win window
	w.mu.Lock()
	for x := range w.published {
		win.before = append(win.before, x)
	}
	w.mu.Unlock()
	if len(win.before) == 0 {
		return nil
	}
	visible, err := snap.Visible(ctx)
	if err != nil {
		return err
	}
	w.sees(&win, visible)
	return nil
}
