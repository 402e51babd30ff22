package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// record is the agent's record in KV with its revision. It counts for the position only where the stream is empty.
type record struct {
	registry.Capture
	revision uint64
	found    bool
}

func (a *Agent) readRecord(ctx context.Context) (record, error) {
	var r record
	e, err := a.captures.Get(ctx, a.cfg.Source)
	r.revision = e.Revision
	switch {
	case errors.Is(err, stream.ErrNotFound):
		return r, nil
	case err != nil:
		return r, fmt.Errorf("read the record of %s: %w", a.cfg.Source, err)
	}
	if err := json.Unmarshal(e.Value, &r.Capture); err != nil {
		return r, fmt.Errorf("record of %s, revision %d: %w", a.cfg.Source, e.Revision, err)
	}
	r.found = true
	return r, nil
}

// writeRecord compares and swaps. After a swap without an answer the leader is read.
func (a *Agent) writeRecord(ctx context.Context, old record, c registry.Capture) (record, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return old, fmt.Errorf("record of %s: %w", a.cfg.Source, err)
	}
	next, err := swap(ctx, a.captures, a.cfg.Source, b, old.revision)
	if err != nil {
		return old, fmt.Errorf("write the record of %s: %w", a.cfg.Source, err)
	}
	return record{Capture: c, revision: next, found: true}, nil
}

// swap is Bucket.Swap that finds out what became of a write without an answer. A refusal may be the echo of our own write that
// was sent twice, so it is looked at too.
func swap(ctx context.Context, b Bucket, key string, value []byte, revision uint64) (uint64, error) {
	next, err := b.Swap(ctx, key, value, revision)
	if err == nil || ctx.Err() != nil {
		return next, err
	}
	e, readErr := b.Get(ctx, key)
	switch {
	case readErr != nil && !errors.Is(readErr, stream.ErrNotFound):
		return 0, err
	case readErr == nil && string(e.Value) == string(value) && e.Revision > revision:
		return e.Revision, nil
	case e.Revision != revision:
		return 0, stream.ErrConflict
	}
	return 0, err
}

// ordered says whether the record holds an order to read everything again (Agent.order) with which no writer has begun: who gave
// it died, and whoever starts next carries it out.
func (r *record) ordered() bool {
	l := &r.Load
	return r.found && l.Sweep && !l.Done && l.Sequence == r.Sequence && l.ID != strconv.FormatUint(uint64(r.Epoch), 10)
}

// position where the record's writer had been, as a group.
func (r *record) group() (event.Group, error) {
	g, err := event.ParseGroup(r.Group)
	if err != nil {
		return g, fmt.Errorf("record: %w", err)
	}
	if !g.Complete() {
		return g, nil
	}
	p, err := event.ParsePosition(r.Position)
	return at(p), err
}

// at is the group of a message that only says where the log stands.
func at(p event.Position) event.Group { return event.Group{From: p, To: p, K: 1, N: 1} }

// reached is where the log goes on after a message of the group.
func reached(g event.Group) event.Position {
	if g.Complete() {
		return g.To
	}
	return g.From
}

// Progress of the load of one table, in KV under ProgressKey. It counts only what the stream has held for the fsync horizon.
type Progress struct {
	Table    event.Table   `json:"table"`
	After    string        `json:"after,omitempty"` // key of the last row of the last chunk that counts
	Chunks   int           `json:"chunks"`
	Rows     int64         `json:"rows"`
	Estimate int64         `json:"estimate"`
	Sweep    bool          `json:"sweep,omitempty"`
	Cutoff   event.Version `json:"cutoff,omitempty"` // of the m with which it began
	Done     bool          `json:"done"`
	Skipped  string        `json:"skipped,omitempty"` // why the rows were not loaded
	Gone     bool          `json:"gone,omitempty"`    // it was not captured for a while: what it missed is loaded again when it returns

	// Published is TableInfo's when the load began. Another one now: the table left the log unseen, and is loaded again.
	Published string `json:"published,omitempty"`
}

// missed says whether the table was out of the log since its load began.
func (p *Progress) missed(t *TableInfo) bool {
	return p.Gone || p.Published != "" && p.Published != t.Published
}

// ProgressKey is where the progress of a table's load is kept.
func ProgressKey(source, load string, t event.Table) string {
	return event.KeyToken(source) + "." + event.KeyToken(load) + "." + event.KeyToken(t.Schema) + "." + event.KeyToken(t.Name)
}

func (a *Agent) readProgress(ctx context.Context, load string, t event.Table) (Progress, uint64, error) {
	p := Progress{Table: t}
	e, err := a.snapshots.Get(ctx, ProgressKey(a.cfg.Source, load, t))
	switch {
	case errors.Is(err, stream.ErrNotFound):
		return p, e.Revision, nil
	case err != nil:
		return p, 0, fmt.Errorf("read the progress of %s: %w", t, err)
	}
	if err := json.Unmarshal(e.Value, &p); err != nil {
		return p, 0, fmt.Errorf("progress of %s: %w", t, err)
	}
	return p, e.Revision, nil
}

func (a *Agent) writeProgress(ctx context.Context, load string, p Progress, revision uint64) (uint64, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return 0, fmt.Errorf("progress of %s: %w", p.Table, err)
	}
	next, err := swap(ctx, a.snapshots, ProgressKey(a.cfg.Source, load, p.Table), b, revision)
	if err != nil {
		return 0, fmt.Errorf("write the progress of %s: %w", p.Table, err)
	}
	return next, nil
}
