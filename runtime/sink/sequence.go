package sink

import (
	"context"

	"github.com/runnel-dev/runnel/runtime/event"
)

// All is the partition of a claim, a span or a checkpoint that stands for all of them: that of a function which takes whole
// transactions.
const All = -1

// Sequencer is a Checkpointer that can take the source's transactions one after the other, as they were committed, each whole in
// one transaction of the target however large it is. Its claims are for the partition All.
type Sequencer interface {
	Checkpointer

	// Open begins a transaction of the target that continues after a place. Nobody else can move the checkpoint until it ends;
	// a Claim ends it. What the checkpoint covers already, because the answer to a Commit was lost, is passed over. ErrBehind,
	// ErrClosed.
	Open(ctx context.Context, c Claim, after Point) (Transaction, error)
}

// Transaction of a target. It is used by one goroutine, and over after Commit, Rollback, or an error that is no *BatchError.
type Transaction interface {
	// Apply applies events one after the other, in the order of the source; of a t or m that stands in several partitions only
	// the first one. A *BatchError names events that can never be written: nothing of this call was applied, and the
	// transaction can go on without them.
	Apply(ctx context.Context, events []event.Event) error

	// Commit makes all of it durable, with the checkpoint. After an error it may have been committed: the checkpoint tells.
	Commit(ctx context.Context, to Point) error

	// Rollback ends it without an effect. It may follow anything.
	Rollback()
}
