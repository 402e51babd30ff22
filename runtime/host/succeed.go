package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// succeed takes the place of an older generation: it waits until each of its owners has released its partition or is gone, closes the
// partitions, so that nobody claims them any more, and begins where they stood. Every worker does this, and the first one to come
// to the end writes it into the function's record; a worker of the old generation that sleeps finds its partition closed, and the new
// generation, before it writes.
func (g *generation) succeed(ctx context.Context) error {
	told := ""
	for {
		r, e, err := g.current(ctx)
		var holder string
		switch {
		case err != nil:
		case !r.Waits:
			if err = g.settle(ctx, &r); err != nil {
				break
			}
			g.record = r
			if r.Replay != nil {
				g.slow = newPace(float64(r.Replay.Rate))
			}
			return nil
		default:
			if holder, err = g.replace(ctx, &r); err == nil && holder == "" {
				failpoint.At(failpoint.SucceedBefore)
				_, err = g.functions().Swap(ctx, g.f.name, encode(r), e.Revision)
				failpoint.At(failpoint.SucceedAfter)
				if err == nil && r.Waits {
					failpoint.At(failpoint.SwapMarked)
				} else if err == nil {
					g.log.InfoContext(ctx, "takes the place of an older generation", "old", r.Replaces.Generation)
				}
				if err == nil || errors.Is(err, stream.ErrConflict) {
					continue // the record says what it is now
				}
			}
		}
		var h haltError
		if errors.As(err, &h) {
			return err
		}
		if errors.Is(err, errStopped) { // the watch tells it too, and then this ends
			_ = sleep(ctx, g.host.cfg.Lease/10)
			return err
		}
		if err != nil && ctx.Err() == nil {
			g.log.WarnContext(ctx, "cannot take the place of an older generation; it is tried again", "error", err)
		}
		if holder != "" && holder != told {
			told = holder
			g.log.InfoContext(ctx, "waits to take the place of an older generation", "old", r.Replaces.Generation, "for", holder)
		}
		if err := sleep(ctx, g.host.cfg.Lease/40); err != nil {
			return err
		}
	}
}

func (g *generation) functions() Bucket { return g.host.cfg.World.Bucket(registry.BucketFunctions) }

// current is the function's record as KV has it now, if it still runs in this generation.
func (g *generation) current(ctx context.Context) (registry.FunctionRecord, stream.Entry, error) {
	var r registry.FunctionRecord
	e, err := g.functions().Get(ctx, g.f.name)
	switch {
	case errors.Is(err, stream.ErrNotFound):
		return r, e, fmt.Errorf("%w: it is deleted", errStopped)
	case err == nil:
		err = json.Unmarshal(e.Value, &r)
	}
	if err != nil {
		return r, e, fmt.Errorf("read the record of function %s: %w", g.f.name, err)
	}
	if r.Generation != g.record.Generation || r.State != registry.Running {
		return r, e, fmt.Errorf("%w: it is %s in generation %d", errStopped, r.State, r.Generation)
	}
	return r, e, nil
}

// replace closes the older generation, and notes in the record where it stood. It names who is waited for: a worker that still holds a
// partition of it.
func (g *generation) replace(ctx context.Context, r *registry.FunctionRecord) (holder string, err error) {
	partitions := g.source.Partitions()
	old := partitions
	if r.Replaces.One {
		old = 1
	}
	floors := make([]sink.Point, old)
	for p := range old {
		owner, held, err := g.closeOld(ctx, place{g.f.name, r.Replaces.Generation, p}, r.StartOf(p))
		if err != nil || held != "" {
			return held, err
		}
		floors[p] = owner.Floor
		r.Back = r.Back || r.Replaces.Back && owner.Turn == 1 // it had not yet gone back there
	}
	if r.Swap != nil {
		if floors, holder, err = g.swap(ctx, r, floors); err != nil || holder != "" || floors == nil {
			return holder, err
		}
	}
	if old != g.spec.Lanes(partitions) { // another order: one place for all
		lowest := slices.MinFunc(floors, func(a, b sink.Point) int { return cmp.Compare(a.Version, b.Version) })
		if lowest, err = Outside(ctx, g.source, lowest); err != nil {
			return "", err
		}
		floors = slices.Repeat([]sink.Point{lowest}, g.spec.Lanes(partitions))
	}
	return "", g.begin(ctx, r, floors)
}

// place is a partition of a generation.
type place struct {
	function   string
	generation int64
	partition  int
}

// closeOld closes a partition of another generation, which was never claimed if it has no record; held names the worker that still has it.
func (g *generation) closeOld(ctx context.Context, at place, start sink.Point) (o registry.Owner, held string, err error) {
	owners := g.host.cfg.World.Bucket(registry.BucketOwners)
	key := generationKey(at.function, at.generation) + "." + strconv.Itoa(at.partition)
	e, err := owners.Get(ctx, key)
	switch {
	case errors.Is(err, stream.ErrNotFound):
		o.Floor = start
	case err != nil:
		return o, "", err
	default:
		if err := json.Unmarshal(e.Value, &o); err != nil {
			return o, "", haltError{fmt.Errorf("record %s in %s cannot be read: %w", key, registry.BucketOwners, err)}
		}
	}
	if o.Closed {
		return o, "", nil
	}
	if o.Instance != "" && o.Instance != g.host.instance { // our own has ended: KV lost its release, or the answer
		gone, err := g.host.presence.gone(ctx, o.Instance)
		if err != nil || !gone {
			return o, o.Instance, err
		}
	}
	gone := o.Instance
	o.Instance, o.Turn, o.Closed = "", o.Turn+1, true
	if _, err = owners.Swap(ctx, key, encode(o), e.Revision); err == nil && gone != "" {
		err = g.source.Forget(ctx, consumerOf(at.function, at.generation, at.partition, gone))
	}
	return o, "", err
}

// begin notes in the record where the generation begins, and where what was ordered for it does.
func (g *generation) begin(ctx context.Context, r *registry.FunctionRecord, floors []sink.Point) error {
	end, err := g.source.End(ctx)
	if err != nil {
		return err
	}
	r.Waits, r.Starts, r.Updated = false, floors, time.Now().UTC()
	for i := range r.Backfills {
		if b := &r.Backfills[i]; b.Start == (sink.Point{}) {
			b.Start = pointOf(end)
		}
	}
	p := r.Replay
	switch {
	case p == nil:
	case p.Cancelled:
		for i, until := range p.Until {
			if i < len(r.Starts) && until.Version > r.Starts[i].Version {
				r.Starts[i] = until
			}
		}
	case p.Until == nil:
		p.Until, r.Starts = floors, slices.Clone(floors)
		for i := range r.Starts {
			if p.From.Version < r.Starts[i].Version {
				r.Starts[i], r.Back = p.From, true
			}
		}
	}
	return nil
}

// replayed leaves a replay that has come to its end, and goes on where the function had been. Where the target keeps a checkpoint there is
// no other end than that.
func (l *lane) replayed() bool {
	r := l.g.record.Replay
	if r == nil || r.To == 0 || l.g.points != nil || !r.Over(l.partition, l.read) || l.partition >= len(r.Until) {
		return false
	}
	until := r.Until[l.partition]
	if l.read.Version >= until.Version {
		return false
	}
	l.read, l.proven = until, until.Sequence
	return true
}

// pace is the lane's at the moment: a replay may have one of its own.
func (l *lane) pace() *pace {
	if l.g.slow != nil && !l.g.record.Replay.Over(l.partition, l.read) {
		return l.g.slow
	}
	return l.g.pace
}

// Reader of a stream's messages.
type Reader interface {
	Next(ctx context.Context, subject string, from uint64) (*event.Message, error)
	End(ctx context.Context) (stream.End, error)
}

// Before is the place right before the first message at or above a sequence, outside of any group: a generation may begin there.
func Before(ctx context.Context, s Reader, sequence uint64) (sink.Point, error) {
	m, err := s.Next(ctx, ">", sequence)
	if errors.Is(err, stream.ErrNoMessage) {
		end, err := s.End(ctx)
		return pointOf(end), err
	}
	for err == nil && (m.Group.K > 1 || m.Marker() && !m.Group.Complete()) {
		back := m.Sequence - 1
		if m.Marker() { // all of them are of one batch
			back = m.Writer.Base - event.FenceMarkers
		}
		if back == 0 {
			break
		}
		var before *event.Message
		before, err = s.Next(ctx, ">", back)
		if err != nil || before.Sequence >= m.Sequence { // retention took it
			break
		}
		m = before
	}
	if err != nil {
		return sink.Point{}, fmt.Errorf("look for the beginning of a group before sequence %d: %w", sequence, err)
	}
	return sink.Point{Sequence: m.Sequence - 1, Version: m.Writer.Version(m.Sequence, 0)}, nil
}

// Outside is a place, or the one before the group that it lies in.
func Outside(ctx context.Context, s Reader, p sink.Point) (sink.Point, error) {
	before, err := Before(ctx, s, p.Sequence+1)
	if err != nil || before.Version >= p.Version {
		return p, err
	}
	return before, nil
}
