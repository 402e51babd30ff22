package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/shop"
)

// Traffic writes into the source as long as the world lasts: where the source is away or refuses, it tries again. What was
// committed is what the source's journal says, so a commit whose answer was lost needs no care.
type Traffic struct {
	world  *World
	rate   int
	seed   uint64
	failed atomic.Int64 // how often the source was not there

	emptying  sync.Mutex
	truncated []check.Truncation

	mu     sync.Mutex
	paused int
	cancel context.CancelFunc
	ended  chan struct{}
}

// applicationName marks the traffic's sessions in pg_stat_activity.
const applicationName = "shop-traffic"

// Start begins to write.
func (t *Traffic) Start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin()
}

func (t *Traffic) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.cancel, t.ended = cancel, ended
	go func() {
		defer close(ended)
		var both sync.WaitGroup
		both.Go(func() { t.write(ctx) })
		both.Go(func() { t.truncate(ctx) })
		both.Wait()
	}()
}

func (t *Traffic) write(ctx context.Context) {
	for ctx.Err() == nil {
		t.seed++
		if err := t.world.DB.Write(ctx, t.world.Source, &shop.Traffic{Seed: t.seed, Rate: t.rate}); err != nil {
			t.failed.Add(1)
		}
		_ = pause(ctx, 200*time.Millisecond)
	}
}

// truncate empties a table now and then.
func (t *Traffic) truncate(ctx context.Context) {
	for pause(ctx, truncateEvery) == nil {
		t.Truncate(ctx)
	}
}

// Truncate empties a table; where the source is away, it does not.
func (t *Traffic) Truncate(ctx context.Context) {
	began := time.Now()
	err := t.world.DB.Truncate(ctx, t.world.Source)
	if err != nil {
		t.failed.Add(1)
	}
	t.emptying.Lock()
	defer t.emptying.Unlock()
	t.truncated = append(t.truncated, check.Truncation{Table: truncatedTable, Began: began, Ended: time.Now(), Sure: err == nil})
}

// Truncated is what Truncate did, or tried to do.
func (t *Traffic) Truncated() []check.Truncation {
	t.emptying.Lock()
	defer t.emptying.Unlock()
	return append([]check.Truncation{}, t.truncated...)
}

// truncatedTable is the one that is emptied.
const truncatedTable = "order_items"

// A table is emptied so often, and waits for others for so long.
const (
	truncateEvery  = 12 * time.Second
	truncateWithin = 2 * time.Second
)

// Pause ends the writing and waits until no transaction of it is open in the source.
func (t *Traffic) Pause(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paused++; t.paused == 1 {
		t.cancel()
		<-t.ended
	}
	for {
		n, err := t.world.DB.Sessions(ctx, t.world.Source)
		if err == nil && n == 0 {
			return nil
		}
		if e := pause(ctx, 20*time.Millisecond); e != nil {
			return fmt.Errorf("the traffic does not come to rest, %d sessions are open: %w", n, errors.Join(e, err))
		}
	}
}

// Resume goes on after a Pause; the last one of several counts.
func (t *Traffic) Resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paused--; t.paused == 0 {
		t.begin()
	}
}
