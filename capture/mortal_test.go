package capture_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

var errDead = errors.New("this process is dead")

// mortal is a process that dies at its n-th call to the outside: before the call has an effect, or after it, without an answer.
type mortal struct {
	mu    sync.Mutex
	calls int
	at    int // 0: never
	after bool
	dead  bool
	die   func()
}

func (m *mortal) enter() (dead, dies bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return true, false
	}
	if m.calls++; m.calls == m.at {
		m.dead = true
		if !m.after {
			m.die()
		}
		return !m.after, true
	}
	return false, false
}

// last says whether the call under way is the one that has an effect and no answer.
func (m *mortal) last() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead && m.after
}

func (m *mortal) gone() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

func call[T any](m *mortal, f func() (T, error)) (T, error) {
	var zero T
	dead, dies := m.enter()
	if dead {
		return zero, errDead
	}
	v, err := f()
	if dies {
		m.die()
		return zero, errDead
	}
	return v, err
}

func do(m *mortal, f func() error) error {
	_, err := call(m, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

type mortalStream struct {
	*stream.Stream
	m *mortal
}

func (s mortalStream) End(ctx context.Context) (stream.End, error) {
	return call(s.m, func() (stream.End, error) { return s.Stream.End(ctx) })
}

func (s mortalStream) Fence(ctx context.Context, after uint64, epoch uint32, g event.Group, instance string) (event.Writer, error) {
	return call(s.m, func() (event.Writer, error) { return s.Stream.Fence(ctx, after, epoch, g, instance) })
}

func (s mortalStream) Stored(ctx context.Context, g event.Group, from uint64) ([]*event.Message, error) {
	return call(s.m, func() ([]*event.Message, error) { return s.Stream.Stored(ctx, g, from) })
}

func (s mortalStream) Chain(w event.Writer, after uint64, o stream.ChainOptions) *mortalChain {
	return &mortalChain{s.Stream.Chain(w, after, o), s.m}
}

type mortalChain struct {
	*stream.Chain
	m *mortal
}

func (c *mortalChain) Publish(ctx context.Context, m *stream.Outgoing) (uint64, error) {
	return call(c.m, func() (uint64, error) {
		n, err := c.Chain.Publish(ctx, m)
		if err == nil && c.m.last() { // it is on its way when the process dies
			err = c.Chain.Flush()
		}
		return n, err
	})
}

func (c *mortalChain) Flush() error { return do(c.m, c.Chain.Flush) }

type mortalBucket struct {
	capture.Bucket
	m *mortal
}

func (b mortalBucket) Get(ctx context.Context, key string) (stream.Entry, error) {
	return call(b.m, func() (stream.Entry, error) { return b.Bucket.Get(ctx, key) })
}

func (b mortalBucket) Put(ctx context.Context, key string, v []byte) (uint64, error) {
	return call(b.m, func() (uint64, error) { return b.Bucket.Put(ctx, key, v) })
}

func (b mortalBucket) Swap(ctx context.Context, key string, v []byte, revision uint64) (uint64, error) {
	return call(b.m, func() (uint64, error) { return b.Bucket.Swap(ctx, key, v, revision) })
}

type mortalSource struct {
	d *database
	m *mortal
}

func (s mortalSource) Acquire(ctx context.Context, waiting func(string)) (capture.Log, error) {
	return s.take(func() (capture.Log, error) { return s.d.Acquire(ctx, waiting) })
}

func (s mortalSource) Renew(ctx context.Context, waiting func(string), still func(context.Context) error) (capture.Log, error) {
	return s.take(func() (capture.Log, error) { return s.d.Renew(ctx, waiting, still) })
}

func (s mortalSource) take(f func() (capture.Log, error)) (capture.Log, error) {
	l, err := call(s.m, f)
	if err != nil {
		return nil, err
	}
	return mortalLog{l.(*fakeLog), s.m}, nil
}

type mortalLog struct {
	*fakeLog
	m *mortal
}

func (l mortalLog) Next(ctx context.Context) (capture.Run, error) {
	return call(l.m, func() (capture.Run, error) { return l.fakeLog.Next(ctx) })
}

func (l mortalLog) Start(ctx context.Context, after, met event.Position) error {
	return do(l.m, func() error { return l.fakeLog.Start(ctx, after, met) })
}

func (l mortalLog) Confirm(ctx context.Context, p event.Position) error {
	return do(l.m, func() error { return l.fakeLog.Confirm(ctx, p) })
}

func (l mortalLog) Chunk(ctx context.Context, r capture.ChunkRequest) (*capture.Chunk, error) {
	return call(l.m, func() (*capture.Chunk, error) { return l.fakeLog.Chunk(ctx, r) })
}

func (l mortalLog) Mark(ctx context.Context, id string) error {
	return do(l.m, func() error { return l.fakeLog.Mark(ctx, id) })
}

func (l mortalLog) Whole(ctx context.Context, t event.Table, f func(*capture.Chunk) error) error {
	return do(l.m, func() error { return l.fakeLog.Whole(ctx, t, f) })
}

// horizon of the tests. The embedded server loses nothing here; it only makes the order of steps visible.
const horizon = 5 * time.Millisecond
