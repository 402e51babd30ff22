package sink

import "context"

// Previewer is a handler that can show what it would send: `runnel dry-run` and `runnel test` print it.
type Previewer interface {
	// Preview is the text of the requests that Handle would make of the batch in a target that is as the events' schemas say. It is
	// made by the code that makes the requests, sends nothing and does not look at the target. A *BatchError names the events that
	// can never be written, and the text is what is sent without them.
	Preview(ctx context.Context, b Batch) ([]byte, error)
}
