// Package host hosts functions on a worker: it reads the changes that a function wants from its source's stream and hands
// them to the function's handler, in batches, until they are durable in the target.
//
// What it promises, each shown by a test:
//   - Events of one partition, and so of one key, reach the handler in the order of the stream; a batch that fails is tried
//     again in place, for ever, and nothing overtakes it.
//   - Every event reaches the handler at least once, whatever a consumer, a connection or a worker loses: what a function
//     goes on from is its floor, a compare-and-swapped record, and never a consumer's own state.
//   - The floor moves only over events that are durable in the target, and never over some that retention took unread.
//   - A partition has one owner. A worker that was away for longer than its lease asks before it writes.
//   - A function that fails, waits or halts never delays another one.
package host

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Host is a worker. New makes it.
type Host struct {
	cfg       Config
	log       *slog.Logger
	instance  string // random: one run of this process
	functions map[string]*function
	ready     map[string]*generation // that run, by key
	mu        sync.Mutex             // of functions and ready
	running   sync.WaitGroup
	presence  *presence
	schemas   *schemas
	streams   *streams
	leaving   atomic.Bool   // it stops
	changes   chan struct{} // what it owns or is ready for has changed
	news      chan struct{} // another worker announced something new
	lanes     atomic.Int64  // partitions that are read at the moment
}

// New checks the configuration. It starts nothing.
func New(c Config) (*Host, error) {
	if err := c.fill(); err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	h := &Host{cfg: c, log: c.Log, instance: hex.EncodeToString(id[:]), functions: map[string]*function{}, ready: map[string]*generation{},
		changes: make(chan struct{}, 1), news: make(chan struct{}, 1)}
	h.presence = newPresence(c.World.Bucket(registry.BucketWorkers), c.Lease, h.heard)
	h.schemas = newSchemas(c.World.Bucket(registry.BucketSchemas), c.SchemaWait)
	h.streams = &streams{world: c.World, turn: make(chan struct{}, 1), open: map[string]*sourceEnds{}}
	return h, nil
}

// Instance is the name under which this worker announces itself and owns partitions.
func (h *Host) Instance() string { return h.instance }

// Run hosts functions until ctx ends: then batches under way are finished, floors moved, partitions released. Functions
// that are deployed, changed, paused, resumed or deleted meanwhile are seen at once.
func (h *Host) Run(ctx context.Context) error {
	// The announcement comes before the first claim and goes after the last release.
	alive, gone := context.WithCancel(context.WithoutCancel(ctx))
	if !h.introduce(ctx) {
		gone()
		return nil
	}
	var background sync.WaitGroup
	background.Go(func() { h.announce(alive) })
	background.Go(func() { h.presence.watch(alive, h.log) })
	hosting, stop := context.WithCancel(ctx)
	background.Go(func() { h.balance(hosting) })
	background.Go(func() { h.handOver(hosting) })
	err := h.watch(hosting)
	h.leaving.Store(true) // its partitions are for others from now on, as they become free
	h.tell()
	stop()
	h.running.Wait()
	gone()
	background.Wait()
	h.farewell(ctx)
	return err
}

// watch starts a function for each record, and tells it of changes.
func (h *Host) watch(ctx context.Context) error {
	bucket := h.cfg.World.Bucket(registry.BucketFunctions)
	for ctx.Err() == nil {
		seen := map[string]bool{} // until ready; a watch that begins again tells nothing of what was deleted meanwhile
		err := bucket.Watch(ctx, ">", func(e stream.Entry) {
			if seen != nil {
				seen[e.Key] = true
			}
			h.changed(ctx, e)
		}, func() {
			for name, f := range h.known() {
				if !seen[name] {
					f.update(stream.Entry{Key: name, Deleted: true})
				}
			}
			seen = nil
		})
		if errors.Is(err, nats.ErrConnectionClosed) && ctx.Err() == nil {
			return fmt.Errorf("watch functions: %w", err)
		}
		if ctx.Err() == nil {
			h.log.WarnContext(ctx, "watching functions begins again", "error", err)
			_ = sleep(ctx, time.Second) // the loop sees why
		}
	}
	return nil
}

func (h *Host) known() map[string]*function {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := make(map[string]*function, len(h.functions))
	for name, f := range h.functions {
		m[name] = f
	}
	return m
}

func (h *Host) changed(ctx context.Context, e stream.Entry) {
	if !registry.Hosts(h.cfg.Functions, e.Key) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.functions[e.Key]; f != nil {
		f.update(e)
		return
	}
	f := newFunction(h, e)
	h.functions[e.Key] = f
	h.running.Go(func() { f.run(ctx) })
}

// room is a partition's share of the memory.
func (h *Host) room() int64 { return max(h.cfg.Memory/max(h.lanes.Load(), 1), 128<<10) }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own records
	}
	return b
}
