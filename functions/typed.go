package functions

import (
	"context"
	"errors"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Change is an event with its rows read into T.
//
// After is the row of an insert, an update or a load, nil of a delete. Before is the row as it was, as far as the source tells: its
// key, or all of it under REPLICA IDENTITY FULL; nil of an insert or a load.
type Change[T any] struct {
	Item
	Before, After *T
}

// Typed is a handler that gets events read into T. What it returns means the same as of Handle; a *BatchError is made by Failures,
// of Change.Item.
//
// T is a struct whose fields name columns by their JSON tags, or by their own names where there is none (in that case of letters,
// or else in any). Columns without a field are passed over. A NULL is a nil pointer, and leaves alone what is no pointer. Numbers
// are read without loss: json.Number takes any, an int64 only integers, a float64 also NaN and the infinities. time.Time takes
// timestamps with a zone or without (UTC) and dates, []byte takes bytea, and whatever has UnmarshalJSON reads itself.
//
// Before its first event a function halts where a field names a column that its tables do not have, unless its tag says omitempty.
// An event that does not fit T is a dead letter by itself, whose reason names table, column and type (*MismatchError).
func Typed[T any](handle func(ctx context.Context, changes []Change[T]) error) Handler {
	return &typed[T]{handle, readerOf[T]()}
}

// Decode reads an event's rows into T, as Typed does. An error is a Permanent *MismatchError.
func Decode[T any](i Item) (Change[T], error) { return readerOf[T]().change(i) }

type typed[T any] struct {
	handle func(context.Context, []Change[T]) error
	reader *reader[T]
}

// Handle reads the events, and gives the handler those that can be read.
func (t *typed[T]) Handle(ctx context.Context, b Batch) error {
	items := Items(b)
	changes := make([]Change[T], 0, len(items))
	var misfits Failures
	for _, i := range items {
		c, err := t.reader.change(i)
		if err != nil {
			misfits.Add(i, err)
			continue
		}
		changes = append(changes, c)
	}
	var err error
	if len(changes) > 0 {
		err = t.handle(ctx, changes)
	}
	var partial *BatchError
	switch {
	case err == nil:
		return misfits.Err()
	case errors.As(err, &partial):
		return &BatchError{Failed: append(misfits.failed, partial.Failed...)}
	}
	return err // the whole batch comes again, and with it those that cannot be read
}

// Check compares T with the tables.
func (t *typed[T]) Check(_ context.Context, schemas []*event.Schema) error {
	var faults []error
	for _, s := range schemas {
		faults = append(faults, t.reader.fits(s))
	}
	if err := errors.Join(faults...); err != nil {
		return Halt(err)
	}
	return nil
}
