// Package sink is the contract between the host of functions and what writes to a target: a handler gets batches of events,
// writes them and returns nil only when all of it is durable there. Users see it as package sink.
//
// Every event is delivered at least once; events of one key arrive in order. A target that compares versions
// (event.Event.Version) or keeps a checkpoint of its own makes that exactly once in effect.
package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Handler writes batches. nil means that every event of the batch is durable in the target. A *BatchError names the events
// that are not. Permanent and Halt classify an error; any other error is retried, for ever, with backoff. Handle is called by
// one goroutine per partition, or by one per function where the handler is a Combiner.
type Handler interface {
	Handle(ctx context.Context, b Batch) error
}

// Point is a place in a stream: everything up to it was seen.
type Point struct {
	Sequence uint64        `json:"sequence"`
	Version  event.Version `json:"version"`
}

// Batch is a run of events of one function.
type Batch struct {
	Function   string
	Generation int64
	Partitions int // of the stream
	Spans      []Span
}

// Span is one partition's share. Its events are in order; no t or m is among them.
type Span struct {
	Partition int
	After, To Point // it continues after After, and what it covers reaches To, also where the last events were not for it
	Events    []event.Event
}

// Len counts the batch's events.
func (b *Batch) Len() int {
	n := 0
	for i := range b.Spans {
		n += len(b.Spans[i].Events)
	}
	return n
}

// Closer is a handler that holds connections.
type Closer interface{ Close() }

// Checker looks at the target before the first event: can it be reached, is the permission there, does its structure fit the
// schemas. It returns what is wrong as Halt errors, or plain errors where the target is only unreachable.
type Checker interface {
	Check(ctx context.Context, schemas []*event.Schema) error
}

// Combiner is a handler that prefers few large writes: the spans of all partitions that a worker owns come in one batch.
type Combiner interface{ Combine() }

// Sweeper is a target in which each partition's owner executes a TRUNCATE, or the end of a backfill, by itself: rows of the
// table and partition older than the version are gone, and what comes late stays dead. It may come again.
type Sweeper interface {
	Sweep(ctx context.Context, s Sweep) error
}

// Sweep is a t in one partition.
type Sweep struct {
	Function              string
	Generation            int64
	Schema                *event.Schema
	Partition, Partitions int
	Older                 event.Version // rows with a version below this go
}

// Checkpointer is a target that keeps the checkpoint in the same transaction as the data.
type Checkpointer interface {
	// Claim opens a partition: older generations are closed; the checkpoint is read, or made from start. ErrClosed: this
	// generation was closed by a newer one.
	Claim(ctx context.Context, c Claim) (Point, error)

	// Truncate executes a t whose places in all partitions are known, once for all. after is where the caller stands.
	Truncate(ctx context.Context, t Barrier) (Outcome, error)

	// Begin notes an m: from here on, keys and versions are kept, for the t that ends the backfill.
	Begin(ctx context.Context, c Claim, s *event.Schema, at Point) error
}

// Dropper is a target whose tables or indexes can be taken away together with their function.
type Dropper interface {
	// Drop takes away what the function made for tables of these schemas, for ever, and names it; what was there before the function
	// it names as kept. dry only names. It may be repeated.
	Drop(ctx context.Context, schemas []*event.Schema, dry bool) (dropped, kept []string, err error)
}

// Claim of a partition.
type Claim struct {
	Function   string
	Generation int64
	Partition  int
	Start      Point
	Replay     bool  // the generation starts below the older one's checkpoint, on purpose
	Replaces   int64 // the generation in whose place it comes; 0: none, or one that was deleted
	Fresh      bool  // older generations of this name wrote other tables
}

// Barrier is a t in PostgreSQL's manner.
type Barrier struct {
	Claim
	Schema *event.Schema
	After  Point         // where the caller stands
	At     []Point       // of the t, per partition; Version 0: the stream has none yet
	Cutoff event.Version // 0: TRUNCATE; else rows that were not seen since, or are older, go
}

// Outcome of a barrier.
type Outcome int

// Outcomes.
const (
	Wait   Outcome = iota // siblings are not there yet
	Passed                // done, now or before
)

// Errors that a handler may wrap or return.
var (
	// ErrClosed: a newer generation has taken over in the target; the caller stops.
	ErrClosed = errors.New("a newer generation has taken over")
	// ErrBehind: the target's checkpoint is behind what the batch continues from (it was restored, or failed over to the
	// past): the caller takes the partition again from the checkpoint.
	ErrBehind = errors.New("the target's checkpoint is behind")
)

// BatchError names the events that failed; the others are durable.
type BatchError struct {
	Failed []Failure
}

// Failure of one event.
type Failure struct {
	Span, Event int // indexes into the batch
	Err         error
}

func (e *BatchError) Error() string {
	if len(e.Failed) == 0 {
		return "no event failed"
	}
	return fmt.Sprintf("%d events failed, the first: %v", len(e.Failed), e.Failed[0].Err)
}

// Unwrap gives the events' errors.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i := range e.Failed {
		errs[i] = e.Failed[i].Err
	}
	return errs
}

type permanent struct{ err error }

func (p permanent) Error() string   { return p.err.Error() }
func (p permanent) Unwrap() error   { return p.err }
func (p permanent) Permanent() bool { return true }

// Permanent says that this event can never be written, whatever is tried.
func Permanent(err error) error { return permanent{err} }

// IsPermanent asks for it.
func IsPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

type halt struct{ err error }

func (h halt) Error() string { return h.err.Error() }
func (h halt) Unwrap() error { return h.err }
func (h halt) Halt() bool    { return true }

// Halt says that the function's specification or its target is wrong: the function stops and shows the error, which tells
// the operator what to do (the exact statement to run).
func Halt(err error) error { return halt{err} }

// IsHalt asks for it.
func IsHalt(err error) bool {
	var h interface{ Halt() bool }
	return errors.As(err, &h) && h.Halt()
}

type retryAfter struct {
	after time.Duration
	err   error
}

func (r retryAfter) Error() string             { return r.err.Error() }
func (r retryAfter) Unwrap() error             { return r.err }
func (r retryAfter) RetryAfter() time.Duration { return r.after }

// RetryAfter asks for a pause before the next try (429, 503 with Retry-After).
func RetryAfter(d time.Duration, err error) error { return retryAfter{d, err} }
