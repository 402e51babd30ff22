package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// SetFunctionState changes a function's state. A worker that halts a function passes the generation that it runs, and a
// function that moved on meanwhile, or that the operator paused, stays as it is; 0 is the operator, whose word always
// counts.
func (r *Registry) SetFunctionState(ctx context.Context, name string, generation int64, state State, reason string) error {
	for range tries {
		_, n, err := r.FunctionOf(ctx, name)
		if err != nil {
			return err
		}
		if n.Record.State == state && n.Record.Reason == reason {
			return nil
		}
		if generation != 0 && (n.Record.Generation != generation || n.Record.State != Running) {
			return nil
		}
		n.Record.State, n.Record.Reason, n.Record.Updated = state, reason, time.Now().UTC()
		if err := swap(ctx, r.Functions, n); !errors.Is(err, stream.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("set function %s to %s: somebody else keeps changing it; try again", name, state)
}

// ScaleFunction bounds the number of workers that have partitions of a function; 0 is no bound.
func (r *Registry) ScaleFunction(ctx context.Context, name string, workers int) error {
	for range tries {
		_, n, err := r.FunctionOf(ctx, name)
		if err != nil {
			return err
		}
		if n.Record.Workers == workers {
			return nil
		}
		n.Record.Workers, n.Record.Updated = workers, time.Now().UTC()
		if err := swap(ctx, r.Functions, n); !errors.Is(err, stream.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("scale function %s: somebody else keeps changing it; try again", name)
}

// SetSourceState changes a source's state.
func (r *Registry) SetSourceState(ctx context.Context, name string, state State, reason string) error {
	for range tries {
		_, n, err := r.SourceOf(ctx, name)
		if err != nil {
			return err
		}
		if n.Record.State == state && n.Record.Reason == reason {
			return nil
		}
		n.Record.State, n.Record.Reason, n.Record.Updated = state, reason, time.Now().UTC()
		if err := swap(ctx, r.Sources, n); !errors.Is(err, stream.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("set source %s to %s: somebody else keeps changing it; try again", name, state)
}

func swap[T any](ctx context.Context, b *stream.Bucket, n Named[T]) error {
	value, err := json.Marshal(n.Record)
	if err != nil {
		return err
	}
	if _, err := b.Swap(ctx, n.Name, value, n.Revision); err != nil {
		return fmt.Errorf("write record %s: %w", n.Name, err)
	}
	return nil
}

// DeleteFunction deletes a function: its workers stop within seconds. What it wrote stays in the target. Its owners'
// records go too; a worker that still writes finds its record missing and stops, and the generation is never used again.
func (r *Registry) DeleteFunction(ctx context.Context, name string) error {
	_, n, err := r.FunctionOf(ctx, name)
	if err != nil {
		var damaged Faults // one that cannot be read can still be deleted
		if !errors.As(err, &damaged) {
			return err
		}
	}
	if err := r.unclaimed(ctx, name, &n.Record); err != nil {
		return err
	}
	if err := r.Functions.Delete(ctx, name, n.Revision); err != nil {
		return fmt.Errorf("delete function %s: %w", name, err)
	}
	owners, err := r.Owners.All(ctx, name+".*.*")
	if err != nil {
		return fmt.Errorf("delete the owners of function %s: %w", name, err)
	}
	for _, e := range owners {
		if err := r.Owners.Delete(ctx, e.Key, e.Revision); err != nil && !errors.Is(err, stream.ErrConflict) {
			return fmt.Errorf("delete the owners of function %s: %w", name, err)
		}
	}
	return nil
}

// Unread refuses to delete a source that a function reads from.
func (r *Registry) Unread(ctx context.Context, name string) error {
	functions, err := r.ListFunctions(ctx)
	if err != nil {
		return err
	}
	for _, other := range functions {
		f, err := ParseFunction(other.Name, other.Record.Spec)
		if err == nil && f.Source() == name {
			return refused("source %q: function %q reads from it; delete the function first", name, other.Name)
		}
	}
	return nil
}

// DeleteSource deletes a source that no function reads: its agent stops. Stream, slot and publication stay, and so does the
// agent's record, so that a source that is deployed again goes on where it stopped.
func (r *Registry) DeleteSource(ctx context.Context, name string) error {
	_, n, err := r.SourceOf(ctx, name)
	var damaged Faults
	if err != nil && !errors.As(err, &damaged) {
		return err
	}
	if err := r.Unread(ctx, name); err != nil {
		return err
	}
	if err := r.Sources.Delete(ctx, name, n.Revision); err != nil {
		return fmt.Errorf("delete source %s: %w", name, err)
	}
	return nil
}
