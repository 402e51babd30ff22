package functiontest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// hosting is a worker of a Flow.
type hosting struct {
	instance string
	world    *mortal
	cancel   context.CancelFunc
}

// start starts a worker.
func (f *Flow) start() error {
	w := &hosting{world: &mortal{World: host.JetStream(f.conn, f.registry), bury: f.bury}}
	c := host.Config{
		World: w.world,
		NewHandler: func(ctx context.Context, spec *registry.Function) (sink.Handler, error) {
			return f.handler(ctx, spec, w)
		},
		FloorEvery: 2 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 50 * time.Millisecond, SchemaWait: 2 * time.Second,
		Observer: host.Observer{Floor: f.floor, State: f.state, Retried: f.retried},
	}
	if f.spec.Handler != "" {
		c.Handlers = []string{f.spec.Handler}
	}
	h, err := host.New(c)
	if err != nil {
		return err
	}
	w.instance = h.Instance()
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(f.ctx))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending {
		w.cancel()
		return nil
	}
	f.worker = w
	f.workers.Go(func() {
		if err := h.Run(ctx); err != nil && !w.world.dead.Load() {
			f.t.Errorf("functiontest: the worker ends: %v", err)
		}
	})
	return nil
}

// KillWorker kills the worker wherever it is, and starts another one: it begins at the floor, so the last changes may come again. A
// call of Handle that is under way goes on beside it.
func (f *Flow) KillWorker() {
	f.t.Helper()
	f.mu.Lock()
	w := f.worker
	f.mu.Unlock()
	f.check(f.kill(w))
}

// kill lets a worker die, unless it is dead, and starts the next one.
func (f *Flow) kill(w *hosting) error {
	if !w.world.die() {
		return nil
	}
	w.cancel()
	// Others know at once that it is gone, as of a process of their machine that has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), patience)
	defer cancel()
	e, err := f.registry.Workers.Get(ctx, w.instance)
	if err == nil {
		err = f.registry.Workers.Delete(ctx, w.instance, e.Revision)
	}
	if err != nil && !errors.Is(err, stream.ErrNotFound) {
		return fmt.Errorf("kill a worker: %w", err)
	}
	return f.start()
}

// handler makes the function's, with faults before it.
func (f *Flow) handler(ctx context.Context, spec *registry.Function, w *hosting) (sink.Handler, error) {
	config := map[string]string{}
	for name, text := range spec.Config {
		value, err := registry.Resolve(text)
		if err != nil {
			return nil, functions.Halt(fmt.Errorf("config.%s: %w", name, err))
		}
		config[name] = value
	}
	h, err := f.maker(ctx, functions.Function{Name: spec.Name, From: spec.From, Config: config, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return faulty(h, func(ctx context.Context, b functions.Batch) error {
		fault := f.next()
		if fault == nil || b.Len() == 0 {
			return h.Handle(ctx, b)
		}
		err := fault(ctx, h, b)
		if errors.Is(err, errDies) {
			err = errors.Join(err, f.kill(w))
		}
		return err
	}), nil
}

// mortal is the world of a worker. When that is dead, nothing it does has an effect any more.
type mortal struct {
	host.World
	bury func(*event.DeadLetter)

	mu   sync.RWMutex // held while something is written
	dead atomic.Bool
}

// die says whether it was alive.
func (m *mortal) die() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead.CompareAndSwap(false, true)
}

func (m *mortal) Bucket(name string) host.Bucket { return &mortalBucket{m.World.Bucket(name), m} }

// Bury stores an event that was refused.
func (m *mortal) Bury(ctx context.Context, l *event.DeadLetter) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.dead.Load() {
		return errDies
	}
	err := m.World.Bury(ctx, l)
	if err == nil {
		m.bury(l)
	}
	return err
}

func (f *Flow) bury(l *event.DeadLetter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, table, _ := l.Table()
	f.letters = append(f.letters, DeadLetter{Table: table.String(), Event: string(l.Line), Reason: l.Reason})
}

type mortalBucket struct {
	host.Bucket
	world *mortal
}

// Put writes while the worker lives.
func (b *mortalBucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return b.write(func() (uint64, error) { return b.Bucket.Put(ctx, key, value) })
}

// Swap writes while the worker lives.
func (b *mortalBucket) Swap(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.write(func() (uint64, error) { return b.Bucket.Swap(ctx, key, value, revision) })
}

// Delete deletes while the worker lives.
func (b *mortalBucket) Delete(ctx context.Context, key string, revision uint64) error {
	_, err := b.write(func() (uint64, error) { return 0, b.Bucket.Delete(ctx, key, revision) })
	return err
}

// write: a dead worker finds that others have what it had.
func (b *mortalBucket) write(do func() (uint64, error)) (uint64, error) {
	b.world.mu.RLock()
	defer b.world.mu.RUnlock()
	if b.world.dead.Load() {
		return 0, stream.ErrConflict
	}
	return do()
}
