package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// heal goes on at the stream's first message, behind which this partition stands, if a reading of the tables stands in for what is gone.
// A function that has read nothing yet orders one for itself: it was deployed when the first load had left the stream.
func (l *lane) heal(ctx context.Context, end stream.End) error {
	by, err := l.healed(ctx, end)
	if err != nil {
		return err
	}
	if by == "" && (l.read == sink.Point{}) {
		if by, err = l.order(ctx, end); err != nil {
			return err
		}
	}
	if by == "" {
		return l.lost(ctx, end)
	}
	l.log.InfoContext(ctx, "the stream begins later; a reading of the tables in it stands in for what is gone",
		"floor", l.read.Sequence, "first", end.First, "by", by)
	l.read.Sequence, l.proven = end.First-1, end.First-1
	return nil
}

// healed names the reading of all tables that lies wholly in the stream and was begun when this partition's place was in it.
func (l *lane) healed(ctx context.Context, end stream.End) (by string, err error) {
	load, err := l.load(ctx)
	if err != nil {
		return "", err
	}
	// The first load stands in for all that came before it where nothing was read; a later one also sweeps what vanished.
	if load.ID != "" && load.Sequence+1 >= end.First && (l.read == sink.Point{} || load.Sweep && load.Sequence >= l.read.Sequence) {
		return "load " + load.ID, nil
	}
	r, _, err := l.g.current(ctx)
	if err != nil {
		return "", err
	}
	// What a replay would have written once more is in the target, unless the target goes back with it; in that of a copy it is not.
	if p := r.Replay; r.Copy == nil && !p.Over(l.partition, l.read) && p.Until[l.partition].Sequence+1 >= end.First && (l.g.points == nil || l.read == r.StartOf(l.partition)) {
		return "what was there before the replay", nil
	}
	return l.healing(ctx, &r, end)
}

// healing names the backfill among those of the record that lies wholly in the stream: it was begun when all that is gone had been stored.
func (l *lane) healing(ctx context.Context, r *registry.FunctionRecord, end stream.End) (by string, err error) {
	for _, b := range r.Backfills {
		if !b.Full() {
			continue
		}
		from, err := l.beginning(ctx, &b)
		if err != nil {
			return "", err
		}
		if from+1 >= end.First {
			return fmt.Sprintf("backfill %d", b.ID), nil
		}
	}
	return "", nil
}

// beginning is a sequence above which a backfill lies wholly: where its agent began, or where it was ordered.
func (l *lane) beginning(ctx context.Context, b *registry.Backfill) (uint64, error) {
	var s registry.BackfillStatus
	key := registry.BackfillKey(l.g.spec.Source(), registry.BackfillLoad(l.g.f.name, b.ID))
	e, err := l.host.cfg.World.Bucket(registry.BucketSnapshots).Get(ctx, key)
	switch {
	case errors.Is(err, stream.ErrNotFound):
		err = nil
	case err == nil:
		err = json.Unmarshal(e.Value, &s)
	}
	if err != nil {
		return 0, fmt.Errorf("read how far the backfill %d is: %w", b.ID, err)
	}
	return max(b.Start.Sequence, s.Begin), nil
}

func (l *lane) load(ctx context.Context) (registry.Load, error) {
	var c registry.Capture
	e, err := l.host.cfg.World.Bucket(registry.BucketCaptures).Get(ctx, l.g.spec.Source())
	if errors.Is(err, stream.ErrNotFound) {
		return c.Load, nil
	}
	if err == nil {
		err = json.Unmarshal(e.Value, &c)
	}
	if err != nil {
		return c.Load, fmt.Errorf("read the record of source %s: %w", l.g.spec.Source(), err)
	}
	return c.Load, nil
}

// order gives the function a backfill: all lanes want it, and one of them writes it down. "" where a backfill cannot show all rows.
func (l *lane) order(ctx context.Context, end stream.End) (by string, err error) {
	if why, err := l.unreadable(ctx); err != nil || why != "" {
		return "", err
	}
	r, e, err := l.g.current(ctx)
	if err != nil {
		return "", err
	}
	if by, err = l.healing(ctx, &r, end); err != nil || by != "" { // another lane was faster
		return by, err
	}
	b := registry.Backfill{Start: pointOf(end), Why: "the first load is not in the stream any more"}
	id := r.AddBackfill(b, time.Now())
	r.Updated = time.Now().UTC()
	_, err = l.g.functions().Swap(ctx, l.g.f.name, encode(r), e.Revision)
	if errors.Is(err, stream.ErrConflict) { // perhaps by another lane, which did the same
		return "", fmt.Errorf("%w: the function's record changed", errReopen)
	}
	if err != nil {
		return "", fmt.Errorf("order a backfill of function %s: %w", l.g.f.name, err)
	}
	l.g.log.InfoContext(ctx, "the stream no longer holds the first load: the tables are read again for this function alone", "first", end.First, "backfill", id)
	return fmt.Sprintf("backfill %d", id), nil
}

// pointOf is the stream's end as a place.
func pointOf(end stream.End) sink.Point {
	p := sink.Point{Sequence: end.Last}
	if end.Message != nil {
		p.Version = end.Message.Last()
	}
	return p
}

// unreadable says why the rows of the function's tables cannot be read for it alone; "" where they can.
func (l *lane) unreadable(ctx context.Context) (why string, err error) {
	if !l.g.spec.Takes(event.Read) {
		return "its ops leave out r, the rows of a load", nil
	}
	known, err := registry.NewestSchemas(ctx, l.host.schemas.bucket, l.g.spec)
	if err != nil {
		return "", fmt.Errorf("read schemas: %w", err)
	}
	var keyless []string
	for _, s := range known {
		if len(s.KeyColumns()) == 0 {
			keyless = append(keyless, s.Table.String())
		}
	}
	if len(keyless) > 0 {
		return strings.Join(keyless, ", ") + " has no key", nil
	}
	return "", nil
}

// fell is what it means that retention passed something which this partition is not known to have read: nothing, if a reading of the tables
// stands in for that.
func (l *lane) fell(ctx context.Context, end stream.End) error {
	by, err := l.healed(ctx, end)
	if err != nil {
		return err
	}
	if by == "" {
		return l.lost(ctx, end)
	}
	l.log.InfoContext(ctx, "retention removed what may not have been read; a reading of the tables in the stream stands in for it",
		"proven", l.proven, "first", end.First, "by", by)
	return nil
}

// lost halts the function, and says what heals it.
func (l *lane) lost(ctx context.Context, end stream.End) error {
	way, err := l.readAgain(ctx)
	if err != nil {
		return err
	}
	source := l.g.spec.Source()
	if (l.read == sink.Point{}) {
		return haltError{fmt.Errorf("fell out of retention: the function starts at the stream's beginning, but the stream of %s begins at sequence %d and no longer holds the first load; %s",
			source, end.First, way)}
	}
	return haltError{fmt.Errorf("fell out of retention: partition %d stands at sequence %d, the stream of %s begins at %d, so up to %d messages were removed unread; %s",
		l.partition, l.proven, source, end.First, end.First-1-l.proven, way)}
}

// readAgain is the way out. The agent that runs holds the slot, and another one beside it would only stand by.
func (l *lane) readAgain(ctx context.Context) (string, error) {
	source, name := l.g.spec.Source(), l.g.f.name
	why, err := l.unreadable(ctx)
	if err != nil {
		return "", err
	}
	all := fmt.Sprintf("stop the process that captures %s and start it with --resnapshot (`runnel run FILES --resnapshot`, or `runnel capture %s --resnapshot`), which reads its tables again for all functions, then `runnel resume %s`; a larger stream.max_bytes or max_age of the source keeps more",
		source, source, name)
	if why != "" {
		return why + "; " + all, nil
	}
	return fmt.Sprintf("`runnel backfill %s` reads its tables again for this function alone, and lets it go on; or %s", name, all), nil
}
