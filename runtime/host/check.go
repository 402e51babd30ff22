package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// start finds where to go on after a claim: the target's own checkpoint where it keeps one, else the floor; and where the
// stream no longer holds what comes next, whether a later reading of the tables stands in for it.
func (l *lane) start(ctx context.Context) error {
	if l.g.points != nil {
		if err := l.checkpoint(ctx); err != nil {
			return err
		}
	}
	end, err := l.g.source.End(ctx)
	if err != nil {
		return err
	}
	if end.First <= l.read.Sequence+1 {
		return nil
	}
	return l.heal(ctx, end)
}

// checkpoint reads the target's: it moves with the data, so it is right where it differs from the floor.
func (l *lane) checkpoint(ctx context.Context) error {
	var at sink.Point
	claim := l.claimed()
	err := l.g.writer.insist(ctx, l, func(ctx context.Context) (err error) {
		at, err = l.g.points.Claim(ctx, claim)
		return err
	})
	switch {
	case errors.Is(err, sink.ErrClosed):
		if err := l.outlived(ctx); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", errLost, err)
	case err != nil:
		return err
	}
	l.closed = time.Time{}
	switch {
	case at.Version < l.owner.Floor.Version && at == claim.Start && at != sink.Point{}:
		return haltError{fmt.Errorf("the target was restored to before generation %d of this function: partition %d stands at sequence %d, the target has no checkpoint of it; run `runnel delete %s` and deploy it again: it is filled from the stream's beginning",
			claim.Generation, l.partition, l.owner.Floor.Sequence, l.g.f.name)}
	case at.Version < l.owner.Floor.Version:
		l.log.WarnContext(ctx, "the target's checkpoint is behind the floor; what it lacks is written again",
			"checkpoint", at.Sequence, "floor", l.owner.Floor.Sequence)
	}
	l.read, l.proven = at, at.Sequence
	return nil
}

// outlived runs where the target has closed this generation for a newer one. Where the function's record still names this one a lease
// later, KV has lost the newer one: another one takes the place of both, since no generation is used twice.
func (l *lane) outlived(ctx context.Context) error {
	if l.closed.IsZero() {
		l.closed = time.Now()
	}
	if time.Since(l.closed) < l.host.cfg.Lease {
		return nil
	}
	r, e, err := l.g.current(ctx)
	if err != nil {
		return err
	}
	r.Renew(l.g.spec, time.Now())
	if _, err := l.g.functions().Swap(ctx, l.g.f.name, encode(r), e.Revision); err != nil && !errors.Is(err, stream.ErrConflict) {
		return fmt.Errorf("write the record of function %s: %w", l.g.f.name, err)
	}
	l.log.WarnContext(ctx, "the target was written to by a newer generation, which KV has lost; another one takes its place", "new", r.Generation)
	return nil
}

// fences looks whether a later epoch begins at or below what was read: the stream has lost its end since, and its sequences
// were used again. Then reading goes on from there: errReopen.
func (l *lane) fences(ctx context.Context) error {
	fence, ok, err := l.g.source.FenceAfter(ctx, l.read.Version.Epoch())
	switch {
	case err != nil:
		return err
	case ok && fence <= l.read.Sequence:
		l.log.WarnContext(ctx, "the stream lost its end and goes on below what was read; reading goes back there",
			"read", l.read.Sequence, "fence", fence)
		l.read.Sequence = fence - 1
		l.proven = min(l.proven, l.read.Sequence)
		return errReopen
	}
	return nil
}

// prove asks the leader, after messages up to a sequence were read, whether retention had passed any of them before.
func (l *lane) prove(ctx context.Context, sequence uint64) error {
	if sequence <= l.proven {
		return nil
	}
	end, err := l.g.source.End(ctx)
	if err != nil {
		return err
	}
	if end.First > l.proven+1 {
		if err := l.fell(ctx, end); err != nil {
			return err
		}
	}
	l.proven = sequence
	return nil
}

// idle runs when nothing came for a while. The partition notes that there was nothing for it up to the stream's end, so that
// retention does not seem to pass it: at times, and at once where retention comes near.
func (l *lane) idle(ctx context.Context) error {
	if time.Since(l.looked) < l.host.cfg.IdleEvery/12 {
		return nil
	}
	l.looked = time.Now()
	end, err := l.g.source.End(ctx)
	if err != nil {
		return err
	}
	passable := l.settled(end)
	near := l.read.Sequence+1 < end.First+(end.Last-min(end.Last, end.First))/2
	shorter := end.Last < l.read.Sequence                                                 // it lost its end
	another := end.Message != nil && end.Message.Last().Epoch() != l.read.Version.Epoch() // a writer came since, who may have used sequences again
	if time.Since(l.idleAt) < l.host.cfg.IdleEvery && !near && !shorter && !another {
		return nil
	}
	l.idleAt = time.Now()
	if err := l.prove(ctx, l.read.Sequence); err != nil {
		return err
	}
	// In this order: an end of the leader's, then nothing for us up to it, then the fences.
	next, err := l.g.source.Next(ctx, l.subject, l.read.Sequence+1)
	if err != nil && !errors.Is(err, stream.ErrNoMessage) {
		return err
	}
	if err == nil && next.Sequence <= end.Last || !l.consumer.empty() {
		return nil // on its way
	}
	if err := l.fences(ctx); err != nil {
		return err
	}
	to := sink.Point{Sequence: passable.last, Version: passable.version}
	if to.Sequence <= l.read.Sequence || passable.first > l.read.Sequence+1 || to.Version <= l.read.Version {
		return nil
	}
	l.proven = to.Sequence
	if err := l.write(ctx, to, nil); err != nil {
		return err
	}
	return l.move(ctx)
}

// look is where the stream ended at a look while idle. It does without the message itself, which may be a large one.
type look struct {
	first, last uint64
	version     event.Version // of the last message; 0 where none is held
	at          time.Time
}

// settled takes note of the stream's end, and gives the newest one that is a lease old, or none. Only that far may be passed unread: a
// server that led the stream until a moment ago does not know that it does not any more, and answers that there is nothing
// where there is something.
func (l *lane) settled(end stream.End) look {
	if n := len(l.ends); n > 0 && l.ends[n-1].last > end.Last {
		l.ends = l.ends[:0] // it lost its end
	}
	now := look{first: end.First, last: end.Last, at: l.looked}
	if end.Message != nil {
		now.version = end.Message.Last()
	}
	l.ends = append(l.ends, now)
	for len(l.ends) > 1 && time.Since(l.ends[1].at) >= l.host.cfg.Lease {
		l.ends = l.ends[1:]
	}
	if time.Since(l.ends[0].at) < l.host.cfg.Lease {
		return look{}
	}
	return l.ends[0]
}
