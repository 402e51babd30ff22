// Package functions is what a function's handler implements: it gets batches of events, writes them to a target and
// returns nil only when all of it is durable there.
//
// What a handler can rely on:
//   - Every event is delivered at least once, and acknowledged only after Handle returned nil for it.
//   - Events of one key arrive in order. After a crash, or when a partition moves to another worker, the last ones may come
//     again; two workers may overlap for up to a second.
//   - A target that compares versions (event.Event.Version grows along the stream, for ever), or keeps a checkpoint of its
//     own (Checkpointer), makes that exactly once in effect.
//
// What it must do: keep the context's deadline, never go on past an event that it could not write, and say what kind of
// failure it met. An error is tried again, for ever, with growing pauses; Permanent says that this event can never be
// written, Halt that the function or its target is wrong and somebody has to act, RetryAfter when to try again. A
// *BatchError names the events that failed when the others are durable.
//
// Most handlers are Typed, which reads rows into a struct; Items and Latest, Item.ID and Item.Version are what others need as well. A
// panic is a failure for ever: the event at which it happens is found by halving the batch, and becomes a dead letter that shows
// where it was. (A panic in a goroutine that Handle has started ends the process, as Go has it.)
//
// Main makes a binary of handlers, and Serve hosts them within another program. A function runs there if its specification says
// `handler:` with one of their names; package functiontest tests them.
//
// Events and their rows are package github.com/runnel-dev/runnel/runtime/event. The built-in targets are the packages below
// this one; they use nothing that a user's handler could not.
package functions

import "github.com/runnel-dev/runnel/runtime/sink"

// What a handler implements, and what it gets.
type (
	// Handler writes batches.
	Handler = sink.Handler
	// Batch is a run of events of one function, a Span for each partition in it.
	Batch = sink.Batch
	// Span is one partition's share of a batch: events in order, and the places in the stream around them.
	Span = sink.Span
	// Point is a place in a stream.
	Point = sink.Point
)

// What a handler may implement besides.
type (
	// Closer is a handler that holds connections.
	Closer = sink.Closer
	// Checker looks at the target before the first event.
	Checker = sink.Checker
	// Combiner is a handler that prefers few large writes: it gets the spans of all partitions in one batch.
	Combiner = sink.Combiner
	// Sweeper executes a TRUNCATE, or the end of a backfill, partition by partition. A handler that is neither a Sweeper nor
	// a Checkpointer does not notice them.
	Sweeper = sink.Sweeper
	// Sweep is what a Sweeper is asked for.
	Sweep = sink.Sweep
	// Previewer shows what it would send, and sends nothing: for `runnel dry-run` and `runnel test`.
	Previewer = sink.Previewer
	// Checkpointer keeps its place in the stream in the same transaction as the data.
	Checkpointer = sink.Checkpointer
	// Claim opens a partition in a Checkpointer.
	Claim = sink.Claim
	// Barrier is a TRUNCATE, or the end of a backfill, that a Checkpointer executes for all partitions at once.
	Barrier = sink.Barrier
	// Outcome of a Barrier.
	Outcome = sink.Outcome
)

// How a handler says what went wrong.
type (
	// BatchError names the events that are not durable; the others are.
	BatchError = sink.BatchError
	// Failure is one of them.
	Failure = sink.Failure
)

// Classes of errors.
var (
	Permanent  = sink.Permanent
	Halt       = sink.Halt
	RetryAfter = sink.RetryAfter
	ErrClosed  = sink.ErrClosed
	ErrBehind  = sink.ErrBehind
)
