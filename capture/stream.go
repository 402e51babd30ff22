package capture

import (
	"context"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Stream is what the agent needs of its stream; C is the chain that it publishes on. *stream.Stream is one.
type Stream[C Chain] interface {
	Reader
	Chain(w event.Writer, after uint64, o stream.ChainOptions) C
}

// Reader is the part of a stream that is read, always from its leader, and fenced.
type Reader interface {
	Partitions() int
	Created() time.Time
	End(ctx context.Context) (stream.End, error)
	Next(ctx context.Context, subject string, from uint64) (*event.Message, error)
	LastOn(ctx context.Context, subject string) (*event.Message, error)
	Stored(ctx context.Context, g event.Group, from uint64) ([]*event.Message, error)
	FenceAfter(ctx context.Context, epoch uint32) (sequence uint64, ok bool, err error)
	Fence(ctx context.Context, after uint64, epoch uint32, g event.Group, instance string) (event.Writer, error)
}

// Chain makes the stream an exact prefix of what was published. *stream.Chain is one.
type Chain interface {
	Publish(ctx context.Context, m *stream.Outgoing) (uint64, error)
	Flush() error
	Wait(ctx context.Context, sequence uint64) error
	Sent() uint64
	Stored() uint64
	Failed() <-chan struct{}
	Err() error
	Close()
}

// Bucket is a KV bucket that is read from its leader. *stream.Bucket is one.
type Bucket interface {
	Get(ctx context.Context, key string) (stream.Entry, error)
	Put(ctx context.Context, key string, value []byte) (uint64, error)
	Swap(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	All(ctx context.Context, pattern string) ([]stream.Entry, error)
}
