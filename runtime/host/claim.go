package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

func (l *lane) owners() Bucket { return l.host.cfg.World.Bucket(registry.BucketOwners) }

// claim waits until the partition is ours: until it is free, and our share.
func (l *lane) claim(ctx context.Context) error {
	l.seen = 0
	for {
		mine := l.g.share.of(l.partition) == l.host.instance
		taken, err := l.take(ctx, mine)
		if taken {
			return nil
		}
		var h haltError
		if errors.As(err, &h) {
			return err
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, errStopped) {
			l.log.WarnContext(ctx, "cannot claim the partition; it is tried again", "error", err)
		}
		pause := l.host.cfg.Lease / 20
		if !mine && err == nil {
			pause = l.host.cfg.Lease
		}
		if err := l.wait(ctx, pause+rand.N(pause+1)); err != nil {
			return err
		}
	}
}

// wait sleeps until something may have changed.
func (l *lane) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.woken:
	case <-t.C:
	}
	return nil
}

// wake ends such a wait.
func (l *lane) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// take wins the partition's record if nobody who lives holds it, and if it is our share; or where nobody whose share it is has come
// for it since the last look, at least a lease ago.
func (l *lane) take(ctx context.Context, mine bool) (bool, error) {
	asked := time.Now()
	o, e, err := l.look(ctx)
	if errors.Is(err, stream.ErrNotFound) {
		o = registry.Owner{Floor: l.g.record.StartOf(l.partition)}
	} else if err != nil {
		return false, err
	}
	// Closed for a newer generation. Where the function still runs in this one a lease later, KV has lost that other one.
	if o.Closed && !l.lies(e.Revision, asked) {
		return false, fmt.Errorf("%w: a newer generation has taken its place", errStopped)
	}
	if o.Instance != l.host.instance { // our own name: KV lost a release, or its answer
		if !mine && !l.lies(e.Revision, asked) {
			return false, nil
		}
		gone, err := l.host.presence.gone(ctx, o.Instance)
		if err != nil || !gone {
			return false, err
		}
		if _, told := l.g.heirs.LoadOrStore(o.Instance, true); o.Instance != "" && !told {
			l.g.log.InfoContext(ctx, "taking over partitions from a worker that is gone", "owner", o.Instance)
		}
	}
	if err := l.serves(ctx); err != nil {
		return false, err
	}
	failpoint.At(failpoint.ClaimBefore)
	before := o.Instance
	o.Instance, o.Turn, o.Closed = l.host.instance, o.Turn+1, false
	revision, err := l.store(ctx, o, e.Revision)
	if errors.Is(err, stream.ErrConflict) {
		return false, nil
	}
	if err != nil { // perhaps it is ours: the next look tells
		return false, err
	}
	l.owner, l.revision, l.unsure, l.confirmed = o, revision, false, asked
	l.read, l.proven = o.Floor, o.Floor.Sequence
	l.floorAt, l.looked = asked, asked
	if before != "" && before != l.host.instance {
		l.predecessor = before
	}
	failpoint.At(failpoint.ClaimAfter)
	return true, nil
}

// lies says whether the record has been the same for a lease.
func (l *lane) lies(revision uint64, now time.Time) bool {
	if l.seen != revision+1 {
		l.seen, l.seenAt = revision+1, now
	}
	return now.Sub(l.seenAt) >= l.host.cfg.Lease
}

func (l *lane) look(ctx context.Context) (registry.Owner, stream.Entry, error) {
	var o registry.Owner
	e, err := l.owners().Get(ctx, l.key)
	if err != nil {
		return o, e, err
	}
	if err := json.Unmarshal(e.Value, &o); err != nil {
		return o, e, haltError{fmt.Errorf("record %s in %s cannot be read: %w", l.key, registry.BucketOwners, err)}
	}
	return o, e, nil
}

// serves asks whether the function still runs in this generation.
func (l *lane) serves(ctx context.Context) error {
	e, err := l.host.cfg.World.Bucket(registry.BucketFunctions).Get(ctx, l.g.f.name)
	if errors.Is(err, stream.ErrNotFound) {
		return fmt.Errorf("%w: it is deleted", errStopped)
	}
	if err != nil {
		return err
	}
	var r registry.FunctionRecord
	if err := json.Unmarshal(e.Value, &r); err != nil {
		return fmt.Errorf("read the record of function %s: %w", l.g.f.name, err)
	}
	if r.Generation != l.g.record.Generation || r.State != registry.Running {
		return fmt.Errorf("%w: it is %s in generation %d", errStopped, r.State, r.Generation)
	}
	return nil
}

// confirm asks KV whether the partition and the generation are still ours, if that was not asked within the lease less a
// write. A worker that slept, or was cut off, finds out here before it writes.
func (l *lane) confirm(ctx context.Context) error {
	cfg := &l.host.cfg
	if time.Since(l.confirmed) <= cfg.Lease-cfg.WriteDeadline {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, (cfg.Lease-cfg.WriteDeadline)/2) // a later answer says too little
	defer cancel()
	asked := time.Now()
	if err := l.serves(ctx); err != nil {
		return err
	}
	o, e, err := l.look(ctx)
	switch {
	case errors.Is(err, stream.ErrNotFound):
		return fmt.Errorf("%w: its record is deleted", errLost)
	case err != nil:
		return err
	case o.Instance != l.owner.Instance || o.Turn != l.owner.Turn:
		return fmt.Errorf("%w: worker %s holds it", errLost, o.Instance)
	}
	l.owner, l.revision, l.unsure, l.confirmed = o, e.Revision, false, asked
	return nil
}

// move writes the floor down, and so proves that the partition is ours; what is not proven to be read in full it leaves out.
func (l *lane) move(ctx context.Context) error {
	if err := l.prove(ctx, l.read.Sequence); err != nil {
		return err
	}
	failpoint.At(failpoint.FloorBefore)
	err := l.swap(ctx, registry.Owner{Instance: l.owner.Instance, Turn: l.owner.Turn, Floor: l.read})
	failpoint.At(failpoint.FloorAfter)
	return err
}

// store waits for the answer also when ctx ends: whoever stops needs to know what it holds.
func (l *lane) store(ctx context.Context, o registry.Owner, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.host.cfg.Lease/3)
	defer cancel()
	return l.owners().Swap(ctx, l.key, encode(o), revision)
}

func (l *lane) swap(ctx context.Context, o registry.Owner) error {
	for {
		revision, err := l.store(ctx, o, l.revision)
		if err == nil {
			l.accept(o, revision)
			return nil
		}
		if errors.Is(err, stream.ErrConflict) && !l.unsure {
			return fmt.Errorf("%w: its record was changed by another", errLost)
		}
		l.unsure = true
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// No answer: the leader knows whether it was written.
		now, e, err := l.look(ctx)
		switch {
		case errors.Is(err, stream.ErrNotFound) || err == nil && now.Turn != o.Turn:
			return fmt.Errorf("%w: its record was changed by another", errLost)
		case err == nil && now == o:
			l.accept(o, e.Revision)
			return nil
		case err == nil && now.Instance == l.owner.Instance:
			l.revision, l.unsure = e.Revision, false
		case err == nil:
			return fmt.Errorf("%w: worker %s holds it", errLost, now.Instance)
		}
		if err := sleep(ctx, l.host.cfg.RetryMin); err != nil {
			return err
		}
	}
}

func (l *lane) accept(o registry.Owner, revision uint64) {
	moved := o.Floor != l.owner.Floor
	l.owner, l.revision, l.unsure, l.floorAt = o, revision, false, time.Now()
	if observe := l.host.cfg.Observer.Floor; moved && observe != nil {
		observe(l.g.f.name, l.partition, o.Floor)
	}
}

// release gives the partition up, with the floor where it stands.
func (l *lane) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.host.cfg.Lease/3)
	defer cancel()
	o := registry.Owner{Turn: l.owner.Turn, Floor: l.read}
	if err := l.prove(ctx, l.read.Sequence); err != nil {
		o.Floor = l.owner.Floor
	}
	failpoint.At(failpoint.ReleaseBefore)
	if err := l.swap(ctx, o); err != nil && !errors.Is(err, errLost) {
		l.log.WarnContext(ctx, "cannot release the partition; the next claim finds it", "error", err)
	}
	failpoint.At(failpoint.ReleaseAfter)
}

// claimed describes the partition to a target that keeps checkpoints. A generation that takes the place of an older one goes on from the
// checkpoint of that; one that starts at the stream's beginning was deployed to fill its target: it does not stand on what an older
// one of the same name had reached.
func (l *lane) claimed() sink.Claim {
	r := &l.g.record
	c := sink.Claim{Function: l.g.f.name, Generation: r.Generation, Partition: l.place(), Start: r.StartOf(l.partition), Replay: r.Back}
	if r.Replaces != nil {
		c.Replaces = r.Replaces.Generation
	} else if r.Copy != nil {
		c.Fresh = true
	} else if c.Start == (sink.Point{}) {
		c.Replay = true
	}
	return c
}
