// Package functions is what a function's handler implements: it gets batches of events, writes them to a target and
// returns nil only when all of it is durable there.
//
// Every event is delivered at least once; events of one key arrive in order. A target that compares versions
// (event.Event.Version) or keeps a checkpoint of its own makes that exactly once in effect.
package functions

import "github.com/runnel-dev/runnel/runtime/sink"

// The contract, as package sink documents it.
type (
	Handler      = sink.Handler
	Batch        = sink.Batch
	Span         = sink.Span
	Point        = sink.Point
	Closer       = sink.Closer
	Checker      = sink.Checker
	Combiner     = sink.Combiner
	Sweeper      = sink.Sweeper
	Sweep        = sink.Sweep
	Checkpointer = sink.Checkpointer
	Claim        = sink.Claim
	Barrier      = sink.Barrier
	Outcome      = sink.Outcome
	BatchError   = sink.BatchError
	Failure      = sink.Failure
)

// Classes of errors.
var (
	Permanent  = sink.Permanent
	Halt       = sink.Halt
	RetryAfter = sink.RetryAfter
	ErrClosed  = sink.ErrClosed
	ErrBehind  = sink.ErrBehind
)
