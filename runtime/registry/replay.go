package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Replay is a part of the stream that a generation reads once more.
type Replay struct {
	From      sink.Point   `json:"from"`                // it begins after this
	To        uint64       `json:"to,omitempty"`        // its last sequence; 0: to where the function had come
	Rate      Rate         `json:"rate,omitempty"`      // events a second at most while it goes on; 0: as the function's
	Until     []sink.Point `json:"until,omitempty"`     // where the function had come, by partition, once it has begun
	Cancelled bool         `json:"cancelled,omitempty"` // the generation goes on there at once
}

// Over says whether a partition that has come to a place has passed the replay.
func (r *Replay) Over(partition int, at sink.Point) bool {
	if r == nil || partition >= len(r.Until) {
		return true
	}
	return at.Version >= r.Until[partition].Version || r.To > 0 && at.Sequence >= r.To
}

// ParseRate reads a rate as it stands in a specification: 500/s, 30/m, 500.
func ParseRate(s string) (Rate, error) { return parseRate(s) }

// OrderReplay gives a function a new generation that reads a part of the stream once more, in the place of the one that runs. One that
// had halted goes on.
func (r *Registry) OrderReplay(ctx context.Context, name string, p Replay) (FunctionRecord, error) {
	for range tries {
		f, n, err := r.FunctionOf(ctx, name)
		if err != nil {
			return FunctionRecord{}, err
		}
		next := n
		if err := r.replay(ctx, f, &next.Record, p); err != nil {
			return FunctionRecord{}, err
		}
		if err := swap(ctx, r.Functions, next); !errors.Is(err, stream.ErrConflict) {
			return next.Record, err
		}
	}
	return FunctionRecord{}, fmt.Errorf("replay function %s: somebody else keeps changing it; try again", name)
}

func (r *Registry) replay(ctx context.Context, f *Function, record *FunctionRecord, p Replay) error {
	if err := record.unswapped(f.Name); err != nil {
		return err
	}
	if f.To.Postgres != nil {
		if p.To > 0 {
			return refused("function %q: a replay into PostgreSQL goes on to where the function stands, since its rows are old ones until then; leave out the end", f.Name)
		}
		known, err := NewestSchemas(ctx, r.Schemas, f)
		if err != nil {
			return fmt.Errorf("read the tables that function %s reads: %w", f.Name, err)
		}
		for _, s := range known {
			if len(s.KeyColumns()) == 0 {
				return refused("function %q: %s has no key, and a replay into PostgreSQL would insert its rows once more; deploy another function with a table of its own", f.Name, s.Table)
			}
		}
	}
	if old := record.Replay; record.Waits && old != nil && old.From.Version < p.From.Version {
		p.From = old.From // that one has not begun
	}
	record.Updated = time.Now().UTC()
	record.succeed(f, f, record.Updated)
	record.State, record.Reason = afterChange(record.State, record.Reason)
	record.Replay = &p
	return nil
}

// CancelReplay ends a replay: the function goes on where it had come before. ok is false where none is under way.
func (r *Registry) CancelReplay(ctx context.Context, name string) (ok bool, err error) {
	for range tries {
		f, n, err := r.FunctionOf(ctx, name)
		if err != nil {
			return false, err
		}
		p := n.Record.Replay
		switch {
		case p == nil || p.Cancelled:
			return false, nil
		case n.Record.Waits: // it has not begun
			n.Record.Replay = nil
		case f.To.Postgres != nil:
			return false, refused("function %q: a replay into PostgreSQL cannot be cancelled: rows that it has written are old ones until it is at its end; let it go on, or let `runnel backfill %s` make the table right after it", name, name)
		default:
			until := p.Until
			n.Record.succeed(f, f, time.Now().UTC())
			n.Record.Replay = &Replay{Cancelled: true, Until: until}
		}
		n.Record.Updated = time.Now().UTC()
		if err := swap(ctx, r.Functions, n); !errors.Is(err, stream.ErrConflict) {
			return err == nil, err
		}
	}
	return false, fmt.Errorf("cancel the replay of function %s: somebody else keeps changing it; try again", name)
}
