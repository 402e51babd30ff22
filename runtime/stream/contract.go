// Package stream is Runnel's JetStream: connections and the embedded server, the stream of a source, the chain publisher
// that makes it an exact log, and KV buckets that are read from their leader.
package stream

// This file is replaced by the implementation (several files).

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Config says how to reach NATS. Secrets are resolved by the caller.
type Config struct {
	URL                       string // nats://host:port, comma separated
	Name                      string // of the connection
	User, Password, Token     string
	CredsFile, NKeyFile       string
	CAFile, CertFile, KeyFile string
	SyncInterval              time.Duration // of the servers; default 2 min for an external server; the fsync horizon follows from it
	Replicas                  int           // default 1 embedded, 3 on a cluster
}

// Conn is a connection with what the rest needs to know of the server.
type Conn struct {
	NC *nats.Conn
}

// Connect connects, and checks the server's version (2.14 or newer) and that JetStream is on.
func Connect(ctx context.Context, c Config) (*Conn, error) { panic("todo") }

// Horizon is the fsync horizon: what JetStream acknowledged longer ago than this survives a power loss. Twice the sync
// interval plus a second.
func (c *Conn) Horizon() time.Duration { panic("todo") }
func (c *Conn) Replicas() int          { panic("todo") }
func (c *Conn) MaxMessage() int        { panic("todo") } // min(max_payload, 24 MB) less the headers
func (c *Conn) Close()                 { panic("todo") }

// Embedded configures the server inside the process.
type Embedded struct {
	Dir            string        // the store
	Listen         string        // host:port of an optional TCP listener; empty = in-process only
	User, Password string        // of the TCP listener
	SyncInterval   time.Duration // default 100 ms
	MaxPayload     int32         // default 8 MB
}

// Server is a running embedded server.
type Server struct{}

// Start starts it; an error names the folder or port that is in the way.
func Start(e Embedded) (*Server, error)                                   { panic("todo") }
func (s *Server) Connect(ctx context.Context, name string) (*Conn, error) { panic("todo") } // in-process
func (s *Server) ClientURL() string                                       { panic("todo") } // of the TCP listener
func (s *Server) Stop()                                                   { panic("todo") }

// Settings of a source's stream.
type Settings struct {
	Partitions int           // default 8, 1–256; fixed at creation, kept in the stream's metadata
	MaxAge     time.Duration // default 7 days
	MaxBytes   int64         // default 10 GiB
}

// Stream is the stream of one source.
type Stream struct{}

// Create makes the stream or checks the one that exists (settings that differ and cannot be changed are an error).
func Create(ctx context.Context, c *Conn, source string, s Settings) (*Stream, error) { panic("todo") }

// Open finds an existing one: ErrNoStream.
func Open(ctx context.Context, c *Conn, source string) (*Stream, error) { panic("todo") }

func (s *Stream) Source() string     { panic("todo") }
func (s *Stream) Name() string       { panic("todo") }
func (s *Stream) Partitions() int    { panic("todo") }
func (s *Stream) Created() time.Time { panic("todo") } // for the 60 s of a new stream's metadata

// End is what the leader says about the stream's ends.
type End struct {
	First, Last     uint64         // sequences; an empty stream has First = Last + 1
	Message         *event.Message // the last message; nil if none is held
	Messages, Bytes uint64
	MaxBytes        int64
	Deleted         int // interior deletes: corruption
}

// End asks the leader ($JS.API.STREAM.MSG.GET last_by_subj ">", and STREAM.INFO), never a replica.
func (s *Stream) End(ctx context.Context) (End, error) { panic("todo") }

// Message reads one message from the leader; ErrNoMessage.
func (s *Stream) Message(ctx context.Context, sequence uint64) (*event.Message, error) { panic("todo") }

// Next is the first message at or after a sequence on a subject (wildcards allowed); ErrNoMessage. LastOn is the last one.
func (s *Stream) Next(ctx context.Context, subject string, from uint64) (*event.Message, error) {
	panic("todo")
}
func (s *Stream) LastOn(ctx context.Context, subject string) (*event.Message, error) { panic("todo") }

// Stored are the messages held of a group, fence markers aside, in order.
func (s *Stream) Stored(ctx context.Context, g event.Group, from uint64) ([]*event.Message, error) {
	panic("todo")
}

// FenceAfter is the first marker of an epoch later than the given one; ok is false where there is none.
func (s *Stream) FenceAfter(ctx context.Context, epoch uint32) (sequence uint64, ok bool, err error) {
	panic("todo")
}

// Fence publishes event.FenceMarkers markers as one atomic batch right after the sequence `after`, so that every sequence a
// zombie can have predicted lies in the past. It returns the writer (epoch, base = after + FenceMarkers). ErrMoved: the
// stream's end was another one; start again. A fence whose answer was lost is found by its instance id.
func (s *Stream) Fence(ctx context.Context, after uint64, epoch uint32, g event.Group, instance string) (event.Writer, error) {
	panic("todo")
}

// Outgoing is a message to be published.
type Outgoing struct {
	Subject string
	ID      string
	Group   event.Group
	For     string
	Data    []byte // copied by Publish
}

// ChainOptions of a chain; all callbacks must not block.
type ChainOptions struct {
	Holds  func(ctx context.Context) error // before a resend: does this process still hold the source's slot
	Stored func(sequence uint64)           // everything up to here is stored
}

// Chain publishes messages so that the stream is always an exact prefix of what was sent: each one carries the sequence
// that it expects to follow. See DESIGN in ARCHITECTURE.md. One goroutine publishes.
type Chain struct{}

// Chain continues after sequence `after`.
func (s *Stream) Chain(w event.Writer, after uint64, o ChainOptions) *Chain { panic("todo") }

// Publish sends a message and returns its sequence; it blocks while the window (512 messages, 16 MB) is full. The error is
// final: ErrFenced, ErrRewound, or the context's.
func (c *Chain) Publish(ctx context.Context, m *Outgoing) (uint64, error) { panic("todo") }

// Flush makes sure that an acknowledgement of the last message is on its way. Wait blocks until a sequence is stored.
func (c *Chain) Flush() error                                    { panic("todo") }
func (c *Chain) Wait(ctx context.Context, sequence uint64) error { panic("todo") }
func (c *Chain) Sent() uint64                                    { panic("todo") }
func (c *Chain) Stored() uint64                                  { panic("todo") }
func (c *Chain) Failed() <-chan struct{}                         { panic("todo") } // closed when the chain ended; Err says why
func (c *Chain) Err() error                                      { panic("todo") }
func (c *Chain) Close()                                          { panic("todo") }

// Errors of this package.
var (
	ErrFenced    = errors.New("another writer has taken over the stream")
	ErrRewound   = errors.New("the stream holds less than it acknowledged")
	ErrMoved     = errors.New("the stream's end has moved")
	ErrNoStream  = errors.New("no such stream")
	ErrNoMessage = errors.New("no such message")
	ErrConflict  = errors.New("the record was changed by someone else") // of Swap
	ErrNotFound  = errors.New("no such key")
)

// Bucket is a KV bucket that is read from its leader.
type Bucket struct{}

// BucketConfig of a bucket.
type BucketConfig struct {
	Name    string
	History uint8         // default 1
	TTL     time.Duration // default none
}

// Entry of a bucket.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
	Created  time.Time
	Deleted  bool
}

func OpenBucket(ctx context.Context, c *Conn, cfg BucketConfig) (*Bucket, error) { panic("todo") } // creates it if missing

// Get reads from the leader; ErrNotFound (the entry's Revision is still that of a deletion marker, for Swap).
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error)                { panic("todo") }
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) { panic("todo") }

// Swap writes if the key's revision is the given one (0: the key never existed): ErrConflict. Another error means that the
// outcome is unknown: read again.
func (b *Bucket) Swap(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	panic("todo")
}
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) error { panic("todo") }
func (b *Bucket) All(ctx context.Context, pattern string) ([]Entry, error)      { panic("todo") }
func (b *Bucket) History(ctx context.Context, key string) ([]Entry, error)      { panic("todo") }

// Watch calls f for every entry that matches, present ones first, then ready once, then changes as they come, until ctx ends.
func (b *Bucket) Watch(ctx context.Context, pattern string, f func(Entry), ready func()) error {
	panic("todo")
}
