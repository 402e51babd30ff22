package functions

import (
	"context"
	"log/slog"
)

// Handlers are the kinds of functions that a binary hosts: a specification with `handler: cache` runs on workers that have the
// handler "cache".
type Handlers map[string]Maker

// Maker makes the handler of one function. It is called when the function starts on this worker, and again when it starts anew:
// after a deployment, a replay, a resume. Several functions may name the same maker; each gets a handler of its own.
//
// An error is tried again with growing pauses; one marked by Halt stops the function until somebody acts, as does a panic. The
// context ends when the function stops here.
type Maker func(ctx context.Context, f Function) (Handler, error)

// Function is what its specification says of a function, for whoever makes its handler.
type Function struct {
	Name string
	From []string // as in the specification: source.schema.table, * for any

	// Config is the specification's `config:`, with ${NAME} replaced by the environment of this worker. Settings reads it into a
	// struct.
	Config map[string]string

	Log *slog.Logger // that names the function
}
