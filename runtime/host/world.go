package host

import (
	"context"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// World is all that a host stands on: JetStream, or a simulation of it.
type World interface {
	Bucket(name string) Bucket
	Stream(ctx context.Context, source string) (Stream, error)

	// Bury stores an event that can never be written, as stream.DeadLetters.Put. nil: it is there, durably.
	Bury(ctx context.Context, l *event.DeadLetter) error
}

// Bucket is a KV bucket, read from its leader; as stream.Bucket.
type Bucket interface {
	Get(ctx context.Context, key string) (stream.Entry, error)
	Put(ctx context.Context, key string, value []byte) (uint64, error)
	Swap(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, key string, revision uint64) error
	All(ctx context.Context, pattern string) ([]stream.Entry, error)
	Watch(ctx context.Context, pattern string, f func(stream.Entry), ready func()) error
}

// Stream is the stream of a source, as stream.Stream, and where consumers are made.
type Stream interface {
	Partitions() int
	End(ctx context.Context) (stream.End, error)
	Next(ctx context.Context, subject string, from uint64) (*event.Message, error)
	FenceAfter(ctx context.Context, epoch uint32) (sequence uint64, ok bool, err error)

	// Resolve fetches a payload that is kept outside the stream.
	Resolve(ctx context.Context, m *event.Message) error

	// Consume makes a private pull consumer. What it sends goes to t.Receive, in order, until Close.
	Consume(ctx context.Context, t Tap) (Feed, error)

	// Forget deletes a consumer whose maker is gone. One that is not there is forgotten.
	Forget(ctx context.Context, name string) error
}

// Tap is a consumer to be made; one of the same name that exists goes first.
type Tap struct {
	Name     string
	Function string // that reads; its messages do not wait for those of others
	Subject  string // the only filter
	From     uint64 // first sequence
	Receive  func(Packet)
}

// Feed is a private consumer.
type Feed interface {
	// Request asks for messages: at most n, at most so many bytes (0: no limit), numbered, so that an answer tells whose
	// it is. The server sends a heartbeat where there is nothing for longer.
	Request(r Request) error
	Ack(d Delivery) // of everything up to the message; not waited for
	Close(ctx context.Context)
}

// Packet is what comes from a consumer: a message, or a status.
type Packet struct {
	Delivery
	Status    Status
	Request   uint64 // whose status
	Delivered uint64 // with Heartbeat: consumer sequence of the last message that the server sent
	Reason    string // of Broken
}

// Delivery is one message.
type Delivery struct {
	Message  *event.Message
	Consumer uint64 // its sequence in the consumer: counts what was sent, from 1
	Pending  uint64 // messages for this consumer that come after it
	Foreign  error  // why it is none of an agent's messages
	reply    string
	lines    int
	size     int
}

// Status of a request or consumer.
type Status int

// Statuses.
const (
	Sent      Status = iota // a message
	Heartbeat               // nothing to send at the moment
	Ended                   // the request is over: its number of messages was sent, or its time has passed
	TooLarge                // the request is over: the next message exceeds its bytes
	Broken                  // the consumer is gone, or may have lost something
)
