package host

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// turn executes a t or an m, and leaves the lane behind it.
func (l *lane) turn(ctx context.Context, m *event.Message, e *event.Event, to sink.Point) error {
	if err := l.prove(ctx, m.Sequence); err != nil {
		return err
	}
	pass, err := l.passes(m, e)
	switch {
	case err != nil:
		return err
	case pass:
		return l.pass(ctx, to)
	case l.g.points != nil && e.Op == event.Mark:
		return l.begin(ctx, e, to)
	case l.g.points != nil:
		return l.barrier(ctx, m, e, to)
	case l.g.sweeper != nil && e.Op == event.Truncate:
		return l.sweep(ctx, e, to)
	}
	return l.pass(ctx, to)
}

// passes says whether a t or m has no effect in the target.
func (l *lane) passes(m *event.Message, e *event.Event) (bool, error) {
	// Not the end of a backfill, and not the beginning of a load that is read over: these are the agent's own, and rows that
	// follow them would come twice, or stay for ever.
	truncates := e.Op == event.Truncate && !e.Snapshot
	if truncates && l.g.spec.Truncate == registry.TruncateHalt {
		return false, haltError{fmt.Errorf("%s was truncated in the source (sequence %d), and the function says truncate: halt; set truncate: apply or ignore, deploy and resume it", e.Table, m.Sequence)}
	}
	// Rows of a load that it does not take would seem to be gone.
	return truncates && l.g.spec.Truncate == registry.TruncateIgnore || e.Snapshot && !l.g.spec.Takes(event.Read), nil
}

// pass stands behind a place without an effect in the target.
func (l *lane) pass(ctx context.Context, to sink.Point) error { return l.write(ctx, to, nil) }

// sweep lets the target forget this partition's rows that are older. It may take as long as the table is large, beyond every
// deadline and lease: it compares versions, so it is harmless where the partition is another's by then. Whoever stops cuts
// it, and the t comes again.
func (l *lane) sweep(ctx context.Context, e *event.Event, to sink.Point) error {
	older := e.Cutoff
	if older == 0 {
		older = e.Version
	}
	s := sink.Sweep{
		Function: l.g.f.name, Generation: l.g.record.Generation, Schema: e.Schema,
		Partition: l.partition, Partitions: l.g.source.Partitions(), Older: older,
	}
	failpoint.At(failpoint.SweepBefore)
	if err := l.g.writer.insistLong(ctx, l, func() error { return l.g.sweeper.Sweep(ctx, s) }); err != nil {
		return l.again(err)
	}
	failpoint.At(failpoint.SweepAfter)
	if err := l.g.writer.confirm(ctx, l); err != nil {
		return err
	}
	l.read = to
	return nil
}

// begin notes an m in the target, in the place of a write.
func (l *lane) begin(ctx context.Context, e *event.Event, to sink.Point) error {
	err := l.g.writer.insist(ctx, l, func(ctx context.Context) error { return l.g.points.Begin(ctx, l.claimed(), e.Schema, to) })
	if err != nil {
		return l.again(err)
	}
	return l.pass(ctx, to)
}

// again says what errors of a checkpointer mean for the lane.
func (l *lane) again(err error) error {
	switch {
	case errors.Is(err, sink.ErrBehind):
		return fmt.Errorf("%w: %w", errReopen, err)
	case errors.Is(err, sink.ErrClosed):
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}

// barrier waits until every partition stands before its t; whoever comes last executes it for all. Meanwhile it looks
// whether this t was lost with the stream's end, and the floor goes on.
func (l *lane) barrier(ctx context.Context, m *event.Message, e *event.Event, to sink.Point) error {
	for {
		at, never, err := l.places(ctx, m, e, to)
		if err != nil {
			return err
		}
		if never {
			return l.pass(ctx, to)
		}
		var outcome sink.Outcome
		b := sink.Barrier{Claim: l.claimed(), Schema: e.Schema, After: l.read, At: at, Cutoff: e.Cutoff}
		err = l.g.writer.insist(ctx, l, func(ctx context.Context) (err error) {
			failpoint.At(failpoint.BarrierBefore)
			outcome, err = l.g.points.Truncate(ctx, b)
			failpoint.At(failpoint.BarrierAfter)
			return err
		})
		if err != nil {
			return l.again(err)
		}
		if outcome == sink.Passed {
			l.read = to
			return nil
		}
		if err := sleep(ctx, barrierPause+rand.N(barrierPause)); err != nil {
			return err
		}
		if err := l.waiting(ctx, to); err != nil {
			return err
		}
	}
}

const barrierPause = 25 * time.Millisecond

// waiting is what a lane must know while it stands before a t.
func (l *lane) waiting(ctx context.Context, to sink.Point) error {
	if time.Since(l.floorAt) < l.host.cfg.FloorEvery {
		return nil
	}
	if err := l.serves(ctx); err != nil {
		return err
	}
	fence, ok, err := l.g.source.FenceAfter(ctx, to.Version.Epoch())
	if err != nil {
		return err
	}
	if ok && fence <= to.Sequence {
		return fmt.Errorf("%w: the t at sequence %d was lost with the stream's end", errReopen, to.Sequence)
	}
	if err := l.fences(ctx); err != nil {
		return err
	}
	if l.read == l.owner.Floor {
		l.floorAt = time.Now()
		return nil
	}
	return l.move(ctx)
}

// places finds the t in all partitions; a zero place is not there yet. never says that one is missing for good, so that the t is
// passed: retention took it, or its writer declared a gap there, and a backfill follows. What stands in its place proves that;
// that nothing is there proves nothing, since a server that led before may answer for a moment, and its stream ends earlier.
func (l *lane) places(ctx context.Context, m *event.Message, e *event.Event, own sink.Point) (at []sink.Point, never bool, err error) {
	w := walk{lane: l, m: m, e: e, at: make([]sink.Point, l.g.source.Partitions())}
	lower, err := w.back(ctx)
	if err != nil {
		return nil, false, err
	}
	higher, err := w.forth(ctx)
	if err != nil {
		return nil, false, err
	}
	w.at[l.partition] = own
	for p := range w.at {
		if w.at[p].Version == 0 && (p < l.partition && lower || p > l.partition && higher) {
			return nil, true, nil
		}
	}
	return w.at, false, nil
}

// walk looks at the messages beside a t: its group's follow each other in the order of the partitions, and only the fences of
// successors lie between them.
type walk struct {
	lane *lane
	m    *event.Message
	e    *event.Event
	at   []sink.Point // where the t is in each partition
}

// back notes what lies before m; all says that there is certainly nothing more.
func (w *walk) back(ctx context.Context) (all bool, err error) {
	for t := w.m; t.Marker() || t.Group.K > 1; {
		next := t.Sequence - 1
		if t.Marker() { // all of them are of one batch
			next = t.Writer.Base - event.FenceMarkers
		}
		if next == 0 {
			break
		}
		before := t
		t, err = w.lane.g.source.Next(ctx, ">", next)
		switch {
		case errors.Is(err, stream.ErrNoMessage):
			return false, nil
		case err != nil:
			return false, err
		case t.Sequence >= before.Sequence || !w.note(t): // gone, or of another group
			return true, nil
		}
	}
	return true, nil
}

// forth notes what lies behind m.
func (w *walk) forth(ctx context.Context) (all bool, err error) {
	for t := w.m; t.Marker() || !t.Group.Complete(); {
		next := t.Sequence + 1
		if t.Marker() {
			next = t.Writer.Base + 1
		}
		t, err = w.lane.g.source.Next(ctx, ">", next)
		switch {
		case errors.Is(err, stream.ErrNoMessage):
			return false, nil
		case err != nil:
			return false, err
		case !w.note(t):
			return true, nil
		}
	}
	return true, nil
}

// note says whether a message is of the group, or lies within it.
func (w *walk) note(t *event.Message) bool {
	if !sameGroup(t.Group, w.m.Group) {
		return false
	}
	if !t.Marker() && twin(t, w.m, w.e) {
		if _, _, p, err := event.ParseSubject(t.Subject); err == nil && p < len(w.at) {
			w.at[p] = sink.Point{Sequence: t.Sequence, Version: t.Writer.Version(t.Sequence, 1)}
		}
	}
	return true
}

func sameGroup(a, b event.Group) bool {
	return a.N == b.N && a.From.Compare(b.From) == 0 && a.To.Compare(b.To) == 0
}

// twin says whether a message is the same t in another partition.
func twin(t, m *event.Message, e *event.Event) bool {
	if !sameGroup(t.Group, m.Group) || t.Lines() != 1 {
		return false
	}
	events, err := t.Decode(nil)
	return err == nil && events[0].Op == e.Op && events[0].Cutoff == e.Cutoff && samePlace(events[0].Position, e.Position)
}

// samePlace compares positions but for the partition, which is the last byte of a fan-out's part.
func samePlace(a, b event.Position) bool {
	a.Part, b.Part = a.Part&^255, b.Part&^255
	return a.Compare(b) == 0
}
