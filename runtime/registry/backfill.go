package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Backfill is a reading of tables for one function alone, ordered by its record. The source's agent carries it out beside the log, and
// says how far it is in a BackfillStatus.
type Backfill struct {
	ID      int64      `json:"id"`               // never used again within the function
	Start   sink.Point `json:"start"`            // the stream's end when it was ordered: all that it publishes lies above
	Tables  []string   `json:"tables,omitempty"` // as in from, only these; none: all that the function reads
	Where   string     `json:"where,omitempty"`  // only these rows, in the source's SQL: then nothing is swept
	Keys    int        `json:"keys,omitempty"`   // lists of keys (KeyList): only their rows, and those that are not there are deleted
	Why     string     `json:"why"`              // who or what ordered it, for people
	Ordered time.Time  `json:"ordered"`
}

// Full says whether it stands in for everything that came before it: it shows all rows, and sweeps what it did not show.
func (b *Backfill) Full() bool { return len(b.Tables) == 0 && b.Where == "" && b.Keys == 0 }

// Wants says whether it reads a table.
func (b *Backfill) Wants(f *Function, t event.Table) bool {
	if !f.Matches(t) {
		return false
	}
	some := Function{From: b.Tables}
	return len(b.Tables) == 0 || some.Matches(t)
}

// KeyList are rows of a table by their keys, for a resync.
type KeyList struct {
	Table event.Table       `json:"table"`
	Keys  []json.RawMessage `json:"keys"` // objects with the columns of the key, in its order
}

// KeysKey is where the n-th list of a backfill is kept, in RUNNEL_snapshots.
func KeysKey(source, load string, n int) string {
	return BackfillKey(source, load) + ".k" + strconv.Itoa(n)
}

// BackfillStatus is what the agent says of a backfill.
type BackfillStatus struct {
	Tables   int       `json:"tables"`             // that it reads
	Read     int       `json:"read"`               // of these, to their end
	Rows     int64     `json:"rows"`               // so far
	Estimate int64     `json:"estimate"`           // of all, as the source's statistics say
	Begin    uint64    `json:"begin"`              // it lies wholly above this sequence
	Sequence uint64    `json:"sequence,omitempty"` // once all is read: of its last message
	Done     bool      `json:"done,omitempty"`     // the stream has held all of it for the fsync horizon
	Problem  string    `json:"problem,omitempty"`  // what holds it up
	Skipped  []string  `json:"skipped,omitempty"`  // tables that could not be read, and why
	Updated  time.Time `json:"updated"`
}

// BackfillLoad names a function's backfill among a source's loads: in message IDs, and in the keys of its progress.
func BackfillLoad(function string, id int64) string {
	return function + "-" + strconv.FormatInt(id, 10)
}

// BackfillKey is where BackfillStatus is kept, in RUNNEL_snapshots.
func BackfillKey(source, load string) string {
	return event.KeyToken(source) + "." + event.KeyToken(load)
}

// AddBackfill appends an order to a record, under an ID of its own.
func (r *FunctionRecord) AddBackfill(b Backfill, now time.Time) int64 {
	b.ID, b.Ordered = now.UnixMilli(), now.UTC()
	for _, old := range r.Backfills {
		b.ID = max(b.ID, old.ID+1)
	}
	r.Backfills = append(r.Backfills, b)
	return b.ID
}

// LastBackfill is the ID of the newest one; 0 where none was ordered.
func (r *FunctionRecord) LastBackfill() int64 {
	if len(r.Backfills) == 0 {
		return 0
	}
	return r.Backfills[len(r.Backfills)-1].ID
}

// BackfillOf reads how far a backfill is; ok is false before its agent has begun.
func (r *Registry) BackfillOf(ctx context.Context, source, function string, id int64) (s BackfillStatus, ok bool, err error) {
	n, err := get[BackfillStatus](ctx, r.Snapshots, BackfillKey(source, BackfillLoad(function, id)))
	if errors.Is(err, stream.ErrNotFound) {
		return BackfillStatus{}, false, nil
	}
	if err != nil {
		return BackfillStatus{}, false, fmt.Errorf("read the backfill of function %s: %w", function, err)
	}
	return n.Record, true, nil
}

// OrderBackfill adds a backfill to a function's record, and lets the function go on if it had halted. What was finished before is
// forgotten, but for the newest one that stands in for all that came before it. With lists of keys it is a resync of their rows.
func (r *Registry) OrderBackfill(ctx context.Context, name string, b Backfill, lists ...KeyList) (id int64, err error) {
	b.Keys = len(lists)
	for range tries {
		f, n, err := r.FunctionOf(ctx, name)
		if err != nil {
			return 0, err
		}
		if n.Record.Backfills, err = r.unfinished(ctx, f, n.Record.Backfills); err != nil {
			return 0, err
		}
		id := n.Record.AddBackfill(b, time.Now())
		if err := r.writeKeys(ctx, f.Source(), BackfillLoad(name, id), lists); err != nil {
			return 0, err
		}
		n.Record.State, n.Record.Reason = afterChange(n.Record.State, n.Record.Reason)
		n.Record.Updated = time.Now().UTC()
		if err := swap(ctx, r.Functions, n); !errors.Is(err, stream.ErrConflict) {
			return id, err
		}
	}
	return 0, fmt.Errorf("order a backfill of function %s: somebody else keeps changing it; try again", name)
}

// writeKeys writes the lists of a resync, before anybody reads them.
func (r *Registry) writeKeys(ctx context.Context, source, load string, lists []KeyList) error {
	for n := range lists {
		value, err := json.Marshal(&lists[n])
		if err != nil {
			return fmt.Errorf("keys of %s: %w", lists[n].Table, err)
		}
		if _, err := r.Snapshots.Put(ctx, KeysKey(source, load, n), value); err != nil {
			return fmt.Errorf("write the keys of %s: %w", lists[n].Table, err)
		}
	}
	return nil
}

// CancelBackfills withdraws the backfills of a function that are not finished, and gives them. What they have written stays.
func (r *Registry) CancelBackfills(ctx context.Context, name string) ([]Backfill, error) {
	for range tries {
		f, n, err := r.FunctionOf(ctx, name)
		if err != nil {
			return nil, err
		}
		var kept, gone []Backfill
		for _, b := range n.Record.Backfills {
			s, _, err := r.BackfillOf(ctx, f.Source(), name, b.ID)
			if err != nil {
				return nil, err
			}
			if s.Done {
				kept = append(kept, b)
			} else {
				gone = append(gone, b)
			}
		}
		if len(gone) == 0 {
			return nil, nil
		}
		n.Record.Backfills, n.Record.Updated = kept, time.Now().UTC()
		if err := swap(ctx, r.Functions, n); !errors.Is(err, stream.ErrConflict) {
			return gone, err
		}
	}
	return nil, fmt.Errorf("cancel the backfill of function %s: somebody else keeps changing it; try again", name)
}

// unfinished leaves out what is of no use any more.
func (r *Registry) unfinished(ctx context.Context, f *Function, all []Backfill) ([]Backfill, error) {
	var kept []Backfill
	heal := false
	for _, b := range slices.Backward(all) {
		s, _, err := r.BackfillOf(ctx, f.Source(), f.Name, b.ID)
		if err != nil {
			return nil, err
		}
		if !s.Done || b.Full() && !heal {
			kept = append(kept, b)
			heal = heal || b.Full() && s.Done
		}
	}
	slices.Reverse(kept)
	return kept, nil
}

// Pending is a backfill that an agent has to carry out.
type Pending struct {
	Load     string // names it
	Function *Function
	Backfill
}

// PendingBackfills are those of the functions that read a source and run now: what a function would not take is not read. A generation
// that waits for an older one to stop has none yet.
func (r *Registry) PendingBackfills(ctx context.Context, source string) ([]Pending, error) {
	all, err := r.ListFunctions(ctx)
	if err != nil {
		return nil, err
	}
	var pending []Pending
	for _, n := range all {
		if len(n.Record.Backfills) == 0 || n.Record.State != Running || n.Record.Waits {
			continue
		}
		f, err := ParseFunction(n.Name, n.Record.Spec)
		if err != nil || f.Source() != source {
			continue // its own worker says what is wrong with it
		}
		for _, b := range n.Record.Backfills {
			pending = append(pending, Pending{Load: BackfillLoad(n.Name, b.ID), Function: f, Backfill: b})
		}
	}
	return pending, nil
}

// Bytes is the stored form.
func (s *BackfillStatus) Bytes() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // our own record
	}
	return b
}
