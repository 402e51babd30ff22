// Package functiontest tests handlers: Run delivers everything in the ways in which the runtime may deliver it, and says with the
// shortest history that shows it where the target does not end as the source's table; Pipeline runs a function end to end in a test.
//
// What Run does to a handler is what the runtime may do to it, and nothing else:
//
//   - In order. Events of a partition, and so of a key, come in the order of the stream, in batches of any size. Handle is
//     called by one goroutine for each partition, all with the same handler; where the handler is a Combiner, by one, with
//     the spans of several partitions.
//   - An answer is lost. The target has written, and the handler learns nothing, or what it says is lost with the worker: the same
//     batch comes again at once, whole or in halves.
//   - The deadline passes in the middle of a batch. What came of it nobody knows; it comes again at once, in halves.
//   - A worker is killed. The next one gets a new handler of the maker and begins at the floor, the place that was written
//     down last: behind events that are durable, at most once a second. All events since come again, in order, in batches of
//     other sizes. A Checkpointer goes on from its own checkpoint instead, which it says when the next worker claims the partition.
//   - A worker is too late. It was stopped in Handle, before anything reached the target, or its bytes lie in a socket. Others take
//     its partitions over, write the same events and newer ones, and then the old batch arrives after all, from the handler that
//     nobody waits for any more. One batch of each partition can be late like this.
//   - A partition moves to another worker: nothing comes twice.
//   - The function is replayed: a new generation gets everything from the beginning of the history again.
//   - Some of the stream is not for the function: it is passed over, and the checkpoint of a Checkpointer moves past it.
//   - The table is truncated, if the handler is a functions.Sweeper: Sweep is called when a partition comes to that place, and again,
//     and late, as Handle is.
//   - The source's agent is restarted: versions go on in another epoch, with a jump.
//   - An event cannot be written: a column holds what does not fit its type. The handler may write it all the same. If it refuses, with
//     Permanent for this event or for a whole batch, which is then halved, or by a panic, then it becomes a dead letter, and its
//     neighbours are durable. It must not fail for ever with an error that is tried again: nothing behind it would ever come.
//   - Memory is used again. What an event holds lies in the message's memory, which is overwritten when Handle has returned.
//
// Older events never come after newer ones in any other way. A handler that keeps, for each key, the version of what it wrote, also of a
// delete, and writes only what is newer, is right in all of this. So is one that keeps its checkpoint in the transaction of its
// rows (functions.Checkpointer).
package functiontest

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Target is what the suite looks at in the end.
type Target interface {
	// Rows are the rows that the target holds at the moment, in any order, each a JSON object that holds the key's columns. A row that
	// is there twice is returned twice. What is written and not yet visible is waited for.
	Rows(ctx context.Context) ([]string, error)
}

// Resetter is a Target that can be emptied. The suite does so before each history; without it each history has keys of its own.
type Resetter interface {
	Reset(ctx context.Context) error
}

// TargetFunc is a function that returns the rows.
type TargetFunc func(ctx context.Context) ([]string, error)

// Rows calls it.
func (f TargetFunc) Rows(ctx context.Context) ([]string, error) { return f(ctx) }

// Run runs the suite with its defaults: changes of a table public.items with the columns id (bigint, the key), name (text, nullable)
// and amount (numeric, nullable). handler makes a worker's handler; it is called for each worker, and what it returns is closed at
// the end of its history if it is a functions.Closer.
func Run(t *testing.T, handler functions.Maker, target Target) {
	t.Helper()
	Suite{Handler: handler, Target: target}.Run(t)
}

// Suite is Run with more to say. Only Handler and Target are needed.
type Suite struct {
	Handler functions.Maker
	Target  Target

	// Config is what the maker gets as the specification's `config:`.
	Config map[string]string

	// Table is the table of the source whose changes are delivered; Columns makes one.
	Table *event.Schema

	// Value gives the n-th value of a column as JSON, for types that the suite has no values for, or where these do not serve. Of a
	// column of the key different numbers give different values. "" leaves it to the suite.
	Value func(column event.Column, n int) string

	// Poison is the JSON of a value that the target cannot store, by column; "none" as a column leaves such events out. Default:
	// an object, in the first nullable column that holds a number, a boolean or a time.
	Poison map[string]string

	// Expect says what the target holds when the table holds these rows. Default: the rows. It is for targets that hold parts of
	// them, under other names, or sums.
	Expect func(rows []string) []string

	Function   string        // its name, as batches and claims say it; default functiontest
	Histories  int           // how many histories made at random are tried after those that have a purpose; default 60
	Seed       uint64        // of these; the same seed makes the same histories; default 1
	Partitions int           // of the stream; default 2
	Deadline   time.Duration // of one call of Handle; default 6 s, as a worker's
	Patience   time.Duration // how long a handler may fail by itself until it counts as stalled; default 2 s
}

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	t.Helper()
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
}

// Check runs the suite without a test. A *Failure is what it found.
func (s Suite) Check(ctx context.Context) error {
	r, err := newRunner(ctx, s)
	if err != nil {
		return err
	}
	for _, p := range r.plans() {
		found, err := r.play(ctx, p)
		if err != nil {
			return err
		}
		if found != nil {
			return r.shrink(ctx, p, found)
		}
	}
	return nil
}

// plans are the histories with a purpose, from the simplest one on, and then those made at random.
func (r *runner) plans() []plan {
	var plans []plan
	for i, purpose := range purposes {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		for n := range purpose.times {
			plans = append(plans, purpose.plan(r, random, n))
		}
	}
	for i := range r.Histories {
		plans = append(plans, r.mixed(rand.New(rand.NewPCG(r.Seed, uint64(i)<<8|0xff))))
	}
	return plans
}
