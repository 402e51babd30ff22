package host_test

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// memory is a world without a server, for tests on virtual time: its buckets are right and immediate, its streams are empty.
type memory struct {
	mu         sync.Mutex
	partitions int
	buckets    map[string]*memoryBucket
}

func newMemory(partitions int) *memory {
	return &memory{partitions: partitions, buckets: map[string]*memoryBucket{}}
}

func (m *memory) Bucket(name string) host.Bucket { return m.bucket(name) }

func (m *memory) bucket(name string) *memoryBucket {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.buckets[name] == nil {
		m.buckets[name] = &memoryBucket{latest: map[string]stream.Entry{}, more: make(chan struct{})}
	}
	return m.buckets[name]
}

func (m *memory) Stream(context.Context, string) (host.Stream, error) {
	return empty{m.partitions}, nil
}

func (m *memory) Bury(context.Context, *event.DeadLetter) error { return errors.New("nothing comes") }

// memoryBucket keeps every entry that was ever written.
type memoryBucket struct {
	mu     sync.Mutex
	all    []stream.Entry
	latest map[string]stream.Entry
	more   chan struct{} // closed at the next write
	tell   func(stream.Entry)
}

func (b *memoryBucket) Get(_ context.Context, key string) (stream.Entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.latest[key]
	if e.Revision == 0 || e.Deleted {
		return stream.Entry{Key: key, Revision: e.Revision}, stream.ErrNotFound
	}
	return e, nil
}

func (b *memoryBucket) Put(_ context.Context, key string, value []byte) (uint64, error) {
	return b.write(stream.Entry{Key: key, Value: value}, nil)
}

func (b *memoryBucket) Swap(_ context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.write(stream.Entry{Key: key, Value: value}, &revision)
}

func (b *memoryBucket) Delete(_ context.Context, key string, revision uint64) error {
	_, err := b.write(stream.Entry{Key: key, Deleted: true}, &revision)
	return err
}

func (b *memoryBucket) write(e stream.Entry, after *uint64) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if after != nil && b.latest[e.Key].Revision != *after {
		return 0, stream.ErrConflict
	}
	e.Revision = uint64(len(b.all) + 1)
	b.all = append(b.all, e)
	b.latest[e.Key] = e
	close(b.more)
	b.more = make(chan struct{})
	if b.tell != nil {
		b.tell(e)
	}
	return e.Revision, nil
}

func (b *memoryBucket) All(_ context.Context, pattern string) ([]stream.Entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []stream.Entry
	for key, e := range b.latest {
		if matches, _ := path.Match(strings.ReplaceAll(pattern, ">", "*"), key); matches && !e.Deleted {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(x, y stream.Entry) int { return strings.Compare(x.Key, y.Key) })
	return all, nil
}

func (b *memoryBucket) Watch(ctx context.Context, _ string, f func(stream.Entry), ready func()) error {
	told := 0
	for {
		b.mu.Lock()
		news, more := b.all[told:len(b.all):len(b.all)], b.more
		b.mu.Unlock()
		for _, e := range news {
			f(e)
		}
		told += len(news)
		if ready != nil {
			ready()
			ready = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		}
	}
}

// empty is a stream that nothing was ever published to.
type empty struct{ partitions int }

func (s empty) Partitions() int                             { return s.partitions }
func (empty) End(context.Context) (stream.End, error)       { return stream.End{}, nil }
func (empty) Resolve(context.Context, *event.Message) error { return nil }
func (empty) Forget(context.Context, string) error          { return nil }

func (empty) Next(context.Context, string, uint64) (*event.Message, error) {
	return nil, stream.ErrNoMessage
}

func (empty) FenceAfter(context.Context, uint32) (uint64, bool, error) { return 0, false, nil }

func (empty) Consume(_ context.Context, t host.Tap) (host.Feed, error) { return silence{t}, nil }

// silence is a consumer that never says anything.
type silence struct{ tap host.Tap }

func (silence) Request(host.Request) error { return nil }
func (silence) Ack(host.Delivery)          {}
func (silence) Close(context.Context)      {}
