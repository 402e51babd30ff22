package host

import (
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

// swap lets the target of the function's copy come in the place of its own, once all partitions of the function are closed at these
// floors. In this order, and each step may be the last one of its process: the copy comes as far as the function, so that no reader sees an
// older state afterwards; the copy stops, and its partitions are closed; the record is marked, after which the swap cannot be withdrawn; the
// target swaps. It gives the floors of the copy, where the new generation begins. None without an error: the record is to be written,
// and looked at again.
//
// What sleeps meanwhile and writes later does no harm: targets that compare versions hold the same row at the same version under either
// name, and one that keeps checkpoints closes those of both generations in the transaction that swaps.
func (g *generation) swap(ctx context.Context, r *registry.FunctionRecord, floors []sink.Point) (starts []sink.Point, holder string, err error) {
	s := r.Swap
	swapper, able := g.handler.(sink.Swapper)
	if !able {
		return nil, "", haltError{fmt.Errorf("a target of this kind (%s) cannot swap; run `runnel replay %s --cancel`", g.spec.To.Kind(), g.f.name)}
	}
	c, e, err := g.copyOf(ctx, s)
	if err != nil {
		return nil, "", err
	}
	if !s.Marked {
		if back, err := g.withdraws(ctx, r, floors); err != nil || back {
			return floors, "", err
		}
		if floors, err = g.reached(ctx, swapper, r.Generation, floors); err != nil {
			return nil, "", err
		}
		if holder, err := g.apart(ctx, c, s, floors); err != nil || holder != "" {
			return nil, holder, err
		}
		if c.State == registry.Running {
			c.State, c.Reason, c.Updated = registry.Paused, "it comes in the place of "+g.f.name, time.Now().UTC()
			if _, err := g.functions().Swap(ctx, s.Copy, encode(c), e.Revision); err != nil {
				return nil, "", err
			}
			failpoint.At(failpoint.SwapStopped)
		}
	}
	starts = make([]sink.Point, len(floors))
	for p := range floors {
		owner, held, err := g.closeOld(ctx, place{s.Copy, s.Generation, p}, c.StartOf(p))
		if err != nil || held != "" {
			return nil, held, err
		}
		starts[p] = owner.Floor
		r.Back = r.Back || owner.Floor.Version < floors[p].Version
	}
	w := sink.Swap{Generation: r.Generation, Copy: s.Copy, CopyGeneration: s.Generation, Into: s.Into, Marks: s.Marks}
	if w.Schemas, err = g.known(ctx); err != nil {
		return nil, "", g.refused(err)
	}
	if !s.Marked {
		if s.Marks, err = swapper.Marks(ctx, w); err != nil {
			return nil, "", g.refused(err)
		}
		s.Marked = true
		return nil, "", nil
	}
	failpoint.At(failpoint.SwapBefore)
	if err := swapper.Swap(ctx, w); err != nil {
		return nil, "", g.refused(err)
	}
	failpoint.At(failpoint.SwapAfter)
	g.log.InfoContext(ctx, "the target of the copy has come in the place of the function's own", "copy", s.Copy, "into", s.Into)
	s.Done = true
	return starts, "", nil
}

// reached is how far the function has come: what a worker that is gone has written stands in the target's own checkpoints only.
func (g *generation) reached(ctx context.Context, swapper sink.Swapper, generation int64, floors []sink.Point) ([]sink.Point, error) {
	points, err := swapper.End(ctx, generation, len(floors))
	if err != nil {
		return nil, g.refused(err)
	}
	floors = slices.Clone(floors)
	for p := range min(len(points), len(floors)) {
		if points[p].Version > floors[p].Version {
			floors[p] = points[p]
		}
	}
	return floors, nil
}

// refused makes of a target's refusal what halts the function; whatever else went wrong is tried again.
func (g *generation) refused(err error) error {
	if sink.IsHalt(err) || sink.IsPermanent(err) {
		return haltError{err}
	}
	g.health.failed(g, nil, err)
	return err
}

// known are the structures that the target gets of the tables that the function reads, in the order of their names.
func (g *generation) known(ctx context.Context) ([]*event.Schema, error) {
	known, err := registry.NewestSchemas(ctx, g.host.schemas.bucket, g.spec)
	if err != nil {
		return nil, fmt.Errorf("read schemas: %w", err)
	}
	if known, err = g.shapes.schemas(known); err != nil {
		return nil, sink.Halt(err)
	}
	return known, nil
}

// copyOf is the record of the copy that a swap names.
func (g *generation) copyOf(ctx context.Context, s *registry.Swap) (registry.FunctionRecord, stream.Entry, error) {
	var c registry.FunctionRecord
	e, err := g.functions().Get(ctx, s.Copy)
	if err == nil {
		err = json.Unmarshal(e.Value, &c)
	}
	switch {
	case errors.Is(err, stream.ErrNotFound) || err == nil && c.Generation != s.Generation:
		if err := g.ended(ctx, s); err != nil {
			return c, e, err
		}
		return c, e, haltError{fmt.Errorf("the copy %s of this function was deleted or deployed anew while it came in its place; run `runnel replay %s --cancel`", s.Copy, g.f.name)}
	case err != nil:
		return c, e, fmt.Errorf("read the record of function %s: %w", s.Copy, err)
	}
	return c, e, nil
}

// ended is an error where the copy is gone since another worker has brought the swap to its end meanwhile: the record says so, or is about
// to be read again.
func (g *generation) ended(ctx context.Context, s *registry.Swap) error {
	now, _, err := g.current(ctx)
	if err != nil {
		return err
	}
	if g.alone.IsZero() {
		g.alone = time.Now()
	}
	if over := now.Swap == nil || now.Swap.Done || now.Swap.Generation != s.Generation; over || time.Since(g.alone) < g.host.cfg.Lease {
		return fmt.Errorf("the copy %s is gone; the record of function %s is read again", s.Copy, g.f.name)
	}
	return nil
}

// apart says what the copy still has to write before it is where the function stands, with all that was read for it alone.
func (g *generation) apart(ctx context.Context, c registry.FunctionRecord, s *registry.Swap, floors []sink.Point) (holder string, err error) {
	last, whole, err := g.backfilled(ctx, s.Copy, c.Backfills)
	if err != nil {
		return "", err
	}
	if !whole {
		return "a backfill of its copy", nil
	}
	for p, floor := range floors {
		at := c.StartOf(p)
		e, err := g.host.cfg.World.Bucket(registry.BucketOwners).Get(ctx, generationKey(s.Copy, s.Generation)+"."+strconv.Itoa(p))
		if err == nil {
			var o registry.Owner
			if err = json.Unmarshal(e.Value, &o); err == nil {
				at = o.Floor
			}
		}
		if err != nil && !errors.Is(err, stream.ErrNotFound) {
			return "", err
		}
		until := last
		if at.Version < floor.Version {
			until = max(until, floor.Sequence)
		}
		if unread, err := g.unread(ctx, p, at, until); err != nil || unread {
			return "its copy to come as far as the function", err
		}
	}
	return "", nil
}

// withdraws takes a swap back while a backfill of the function is not in its target to the end: its end takes rows away that it has not shown,
// and the copy was not shown any of them.
func (g *generation) withdraws(ctx context.Context, r *registry.FunctionRecord, floors []sink.Point) (bool, error) {
	last, whole, err := g.backfilled(ctx, g.f.name, r.Backfills)
	if err != nil {
		return false, err
	}
	for p := 0; whole && p < len(floors); p++ {
		unread, err := g.unread(ctx, p, floors[p], last)
		if err != nil {
			return false, err
		}
		whole = !unread
	}
	if !whole {
		g.log.WarnContext(ctx, "the copy does not come in the place of the function, of which a backfill goes on", "copy", r.Swap.Copy)
		r.Swap = nil
	}
	return !whole, nil
}

// backfilled gives the last sequence of some backfills of a function; whole is false while one of them is still read.
func (g *generation) backfilled(ctx context.Context, function string, all []registry.Backfill) (last uint64, whole bool, err error) {
	for _, b := range all {
		var s registry.BackfillStatus
		key := registry.BackfillKey(g.spec.Source(), registry.BackfillLoad(function, b.ID))
		e, err := g.host.cfg.World.Bucket(registry.BucketSnapshots).Get(ctx, key)
		switch {
		case errors.Is(err, stream.ErrNotFound):
			return 0, false, nil
		case err == nil:
			err = json.Unmarshal(e.Value, &s)
		}
		if err != nil {
			return 0, false, fmt.Errorf("read how far the backfill %d of %s is: %w", b.ID, function, err)
		}
		if s.Sequence == 0 {
			return 0, false, nil
		}
		last = max(last, s.Sequence)
	}
	return last, true, nil
}

// unread says whether a message of a partition lies above a place, and not above a sequence.
func (g *generation) unread(ctx context.Context, partition int, at sink.Point, until uint64) (bool, error) {
	if at.Sequence >= until {
		return false, nil
	}
	m, err := g.source.Next(ctx, filter(g.spec, partition), at.Sequence+1)
	if errors.Is(err, stream.ErrNoMessage) {
		return false, nil
	}
	return err == nil && m.Sequence <= until, err
}

// settle ends what a swap leaves: the copy is no function any more, and a handler that was made before has to look at its target anew.
func (g *generation) settle(ctx context.Context, r *registry.FunctionRecord) error {
	if r.Swap == nil || !r.Swap.Done {
		return nil
	}
	failpoint.At(failpoint.SwapDone)
	if err := g.forgetCopy(ctx, r.Swap); err != nil {
		return fmt.Errorf("delete the copy %s: %w", r.Swap.Copy, err)
	}
	if !g.record.Waits {
		return nil
	}
	g.close()
	return g.insist(ctx, g.host.backoff(), func() error { return g.open(ctx) })
}

// forgetCopy deletes the copy's records, as often as it is asked to. Another copy that was made since has another generation.
func (g *generation) forgetCopy(ctx context.Context, s *registry.Swap) error {
	e, err := g.functions().Get(ctx, s.Copy)
	if errors.Is(err, stream.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var c registry.FunctionRecord
	if err := json.Unmarshal(e.Value, &c); err != nil || c.Generation != s.Generation {
		return nil
	}
	owners := g.host.cfg.World.Bucket(registry.BucketOwners)
	all, err := owners.All(ctx, generationKey(s.Copy, s.Generation)+".*")
	if err != nil {
		return err
	}
	if err := g.functions().Delete(ctx, s.Copy, e.Revision); err != nil {
		return err
	}
	for _, o := range all {
		if err := owners.Delete(ctx, o.Key, o.Revision); err != nil && !errors.Is(err, stream.ErrConflict) {
			return err
		}
	}
	return nil
}
