package sink

import (
	"context"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Swapper is a target whose tables or indexes can be exchanged for those that a copy of the function has filled.
type Swapper interface {
	// Taken names what stands already where a copy would write: it must begin with nothing.
	Taken(ctx context.Context, schemas []*event.Schema) ([]string, error)

	// End ends what generations of the function below this one still write, and gives how far each of its lanes has come: nil where the
	// target keeps no checkpoints, no version where it has none of a lane. What comes in their place must not be older.
	End(ctx context.Context, generation int64, lanes int) ([]Point, error)

	// Marks is what the copy's tables are known by whatever they are called, by schema; "" where the copy has none. It changes
	// nothing. What keeps the exchange from being right is a Halt error.
	Marks(ctx context.Context, w Swap) ([]string, error)

	// Swap lets the copy's tables come in the place of the function's own, at once for readers, together with the checkpoints
	// where the target keeps them. It may be repeated, and be under way in several workers.
	Swap(ctx context.Context, w Swap) error
}

// Swap is what a Swapper is asked for. The function and its copy have stopped; what one of their workers still writes because it was
// asleep must do no harm.
type Swap struct {
	Generation     int64  // of the function, that begins with it
	Copy           string // the copy's name as a function
	CopyGeneration int64
	Into           string // what its target is called, as in the specification
	Schemas        []*event.Schema
	Marks          []string // of Marks, by schema
}
