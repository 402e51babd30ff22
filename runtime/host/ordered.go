package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// ordered reads a function's events in the order of the whole stream, and cuts it between transactions of the source: `ordering:
// source`. One lane reads all, also what the function does not want, since any event may be the last one of its transaction.
//
// What is not written yet is kept in memory while it is smaller than a batch. A transaction that is larger goes into the target
// while it is read, in one transaction there (streamed).
type ordered struct {
	l      *lane
	taken  []Delivery
	last   sink.Point // of the newest message that was taken in
	within bool       // a transaction of the source is not over
	tx     event.Position

	group  event.Group // of several messages, whose events wait for the others
	groups int         // how many of its messages came
	first  int         // its first event in the lane's
	safe   sink.Point  // behind the newest message that ended its group

	ready  bool       // transactions ended since the last time that something was written
	whole  int        // events up to here are of whole transactions
	to     sink.Point // where these reach
	behind Delivery   // the message that these end with
	passed sink.Point // up to here nothing is to be written

	refusals map[event.Version]error // events that the function's own expressions refuse
	large    bool                    // a payload came from outside the stream: its size was not counted
	open     sink.Transaction        // of the target, while one of the source goes on that is larger than a batch
	heard    time.Time               // when the newest message came
	patience time.Duration           // how many deadlines a step in the target may take
}

// transactions is the loop between batches of a function that takes whole transactions.
func (l *lane) transactions(ctx context.Context) error {
	o := &ordered{l: l, last: l.read, safe: l.read, to: l.read, passed: l.read, refusals: map[event.Version]error{}, heard: time.Now(), patience: max(l.impatient, 1)}
	defer o.close()
	for {
		if time.Since(l.floorAt) >= l.host.cfg.FloorEvery {
			if err := o.move(ctx); err != nil {
				return err
			}
		}
		limits := l.limits()
		taken, err := l.consumer.take(ctx, o.taken[:0], limits, o.wait())
		o.taken = taken
		if len(taken) > 0 {
			l.filled = limits.reached(taken)
			failpoint.At(failpoint.Fetched)
			if l.oldest.Load() == 0 {
				l.oldest.Store(taken[0].Message.TimeMS)
			}
			err = o.takeIn(ctx)
			clear(o.taken)
		} else if err == nil {
			err = o.rest(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (o *ordered) close() {
	if o.open != nil {
		o.open.Rollback()
	}
	clear(o.l.got)
	clear(o.l.events)
	o.l.got, o.l.events, o.l.shaped = o.l.got[:0], o.l.events[:0], o.l.shaped[:0]
	o.l.oldest.Store(0)
}

// move notes how far the function came, in the target and in the floor.
func (o *ordered) move(ctx context.Context) error {
	l := o.l
	if o.open == nil && o.passed.Version > l.read.Version {
		if err := l.write(ctx, o.passed, nil); err != nil {
			return err
		}
	}
	if l.read == l.owner.Floor {
		l.floorAt = time.Now()
		return nil
	}
	return l.move(ctx)
}

func (o *ordered) wait() time.Duration {
	l := o.l
	switch {
	case o.open != nil:
		return l.host.cfg.Lease - time.Since(o.heard)
	case o.passed.Version > l.read.Version:
		return l.host.cfg.FloorEvery - time.Since(l.floorAt)
	}
	return l.patience()
}

// rest runs when nothing came for a while. What a transaction holds open in the target must not lie there for as long as an agent
// is away: it is begun over once the stream goes on.
func (o *ordered) rest(ctx context.Context) error {
	l := o.l
	switch {
	case o.open == nil:
		return l.idle(ctx)
	case time.Since(o.heard) < l.host.cfg.Lease:
		return nil
	}
	o.open.Rollback()
	o.open = nil
	l.log.WarnContext(ctx, "a large transaction of the source has no end yet; what was written of it is rolled back until the stream goes on", "sequence", o.last.Sequence)
	for {
		end, err := l.g.source.End(ctx)
		if err != nil {
			return err
		}
		if end.Last != o.last.Sequence {
			return errReopen
		}
		if err := l.g.writer.confirm(ctx, l); err != nil {
			return err
		}
		if err := sleep(ctx, l.host.cfg.FloorEvery); err != nil {
			return err
		}
	}
}

// takeIn adds messages to what is there, and writes what can be written.
func (o *ordered) takeIn(ctx context.Context) error {
	o.heard = time.Now()
	for i := range o.taken {
		o.l.got = append(o.l.got, o.taken[i])
		if err := o.message(ctx, &o.taken[i]); err != nil {
			return err
		}
		if o.large {
			if err := o.advance(ctx); err != nil {
				return err
			}
		}
	}
	return o.advance(ctx)
}

// message adds a message's events.
func (o *ordered) message(ctx context.Context, d *Delivery) error {
	l, m := o.l, d.Message
	if d.Foreign != nil {
		return haltError{d.Foreign}
	}
	if err := o.continues(ctx, m); err != nil {
		return err
	}
	o.last = sink.Point{Sequence: m.Sequence, Version: max(o.last.Version, m.Last())}
	if m.Marker() {
		if m.Subject == event.MarkSubject(l.g.spec.Source()) { // the log has moved past all that was published
			o.gathered()
			o.within = false
		}
		o.cutBehind(d)
		return nil
	}
	if o.groups > 0 && !sameGroup(m.Group, o.group) { // its writer declared a gap there
		o.gathered()
	}
	if m.For != "" && m.For != l.g.f.name {
		o.cutBehind(d)
		return nil
	}
	from := len(l.events)
	if err := o.decode(ctx, m); err != nil {
		return err
	}
	o.last.Version = max(o.last.Version, m.Last()) // of a payload that was fetched
	if m.Group.N > 1 {
		if o.groups == 0 {
			o.group, o.first = m.Group, from
		}
		if o.groups++; m.Group.Complete() {
			o.gathered()
			o.cutBehind(d)
		}
		return nil
	}
	o.arrange(from, true)
	o.cutBehind(d)
	return nil
}

// continues looks, where another writer begins, whether what was taken in since is still in the stream.
func (o *ordered) continues(ctx context.Context, m *event.Message) error {
	if m.Writer.Epoch == o.last.Version.Epoch() {
		return nil
	}
	if err := o.l.fences(ctx); err != nil {
		return err
	}
	fence, ok, err := o.l.g.source.FenceAfter(ctx, o.last.Version.Epoch())
	if err == nil && ok && fence <= o.last.Sequence {
		return fmt.Errorf("%w: the stream lost its end at %d", errReopen, fence)
	}
	return err
}

// decode appends the message's events that were not read before. One that is not for the target has no schema: it only tells where
// its transaction ends.
func (o *ordered) decode(ctx context.Context, m *event.Message) error {
	l := o.l
	wanted, err := l.wants(m)
	if err != nil {
		return haltError{err}
	}
	if m.Large != "" {
		o.large = true
		if err := l.payload(ctx, m); err != nil {
			return err
		}
	}
	from := len(l.events)
	if l.events, err = m.Decode(l.events); err != nil {
		return haltError{fmt.Errorf("message %d on %s cannot be read: %w", m.Sequence, m.Subject, err)}
	}
	kept := from
	for i := from; i < len(l.events); i++ {
		e := &l.events[i]
		if e.Version <= l.read.Version {
			continue
		}
		if e.Schema = nil; wanted {
			if err := o.resolve(ctx, m, e); err != nil {
				return err
			}
		}
		l.events[kept] = *e
		kept++
	}
	clear(l.events[kept:])
	l.events = l.events[:kept]
	return nil
}

// resolve finds the schema of an event, unless it is not for the target after all.
func (o *ordered) resolve(ctx context.Context, m *event.Message, e *event.Event) error {
	l := o.l
	if err := l.resolve(ctx, e); err != nil {
		return err
	}
	if e.Op == event.Truncate || e.Op == event.Mark {
		pass, err := l.passes(m, e)
		if pass {
			e.Schema = nil
		}
		return err
	}
	takes, refusal := l.reshape(e)
	switch {
	case refusal != nil:
		o.refusals[e.Version] = refusal
	case !takes:
		e.Schema = nil
	}
	return nil
}

// gathered puts the events of a group's messages into the order of the log, as far as they came.
func (o *ordered) gathered() {
	if o.groups == 0 {
		return
	}
	o.groups = 0
	slices.SortStableFunc(o.l.events[o.first:], func(a, b event.Event) int { return a.Position.Compare(b.Position) })
	o.arrange(o.first, false)
}

// arrange finds the ends of transactions among events, and keeps those for the target. Within one message it may be cut.
func (o *ordered) arrange(from int, within bool) {
	l, kept, at := o.l, from, o.safe
	for i := from; i < len(l.events); i++ {
		e := l.events[i]
		if !e.Snapshot {
			tx := event.Position{Origin: e.Position.Origin, Commit: e.Position.Commit}
			if o.within && tx != o.tx && (within || i == from) { // its writer declared a gap there, or does not capture the rest any more
				o.cut(kept, at)
			}
			o.within, o.tx = !e.Last, tx
		}
		if e.Schema != nil && (kept == from || !twins(&l.events[kept-1], &e)) {
			l.events[kept] = e
			kept++
		}
		if at = (sink.Point{Sequence: max(at.Sequence, e.Sequence-1), Version: e.Version}); within && !o.within {
			o.cut(kept, at)
		}
	}
	clear(l.events[kept:])
	l.events = l.events[:kept]
}

// twins are a t or an m in two partitions.
func twins(a, b *event.Event) bool {
	return a.Op == b.Op && (a.Op == event.Truncate || a.Op == event.Mark) && a.Table == b.Table && a.Cutoff == b.Cutoff && samePlace(a.Position, b.Position)
}

// cutBehind notes that a message, and so its group, is over.
func (o *ordered) cutBehind(d *Delivery) {
	if o.groups > 0 {
		return // a writer's fence within it
	}
	o.safe = o.last
	if !o.within {
		o.behind = *d
		o.cut(len(o.l.events), o.last)
	}
}

func (o *ordered) cut(events int, to sink.Point) { o.ready, o.whole, o.to = true, events, to }

// final says whether an error of the target ends the flow, and how.
func final(ctx context.Context, err error) (error, bool) {
	var h haltError
	switch {
	case errors.Is(err, errLost), errors.Is(err, errStopped), errors.Is(err, errReopen), errors.As(err, &h):
		return err, true
	case errors.Is(err, sink.ErrBehind):
		return fmt.Errorf("%w: %w", errReopen, err), true
	case errors.Is(err, sink.ErrClosed):
		return fmt.Errorf("%w: %w", errLost, err), true
	case sink.IsHalt(err), sink.IsPermanent(err):
		return haltError{err}, true
	case ctx.Err() != nil:
		return ctx.Err(), true
	}
	return err, false
}
