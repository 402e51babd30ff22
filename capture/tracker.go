package capture

import (
	"context"
	"errors"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Tracker is a Log whose positions do not say alone where to go on: transactions of several origins stand in it in an order of its own, so that
// takes the set of those that were read. The agent keeps the set in its record, and adds what the stream holds beyond.
//
// Such a log may go on at another server that has the same transactions: that the set is there is what Check looks at, and
// not the identity.
type Tracker interface {
	// Resume says what was read, before Executed, Check and Start: a set that Executed gave, its position and those that were reached since, in order. An
	// empty set stands for what the server had at Acquire, where Info.Confirmed is.
	Resume(set string, since []event.Position) error

	// Executed is the set of the transactions that are complete at a position: the last one of Resume, or one that Next gave. What
	// was asked for is never before what was asked for earlier.
	Executed(p event.Position) (string, error)
}

// Remainder is a Tracker that can go on past a gap without a load: with what the server still has.
type Remainder interface {
	// Remaining resumes, in place of Resume and after it, so that all that was not read and is still there comes; what the server has thrown away
	// counts as read. It returns where that begins, and a *GapError where more is wrong than that.
	Remaining(ctx context.Context) (event.Position, error)
}

// remaining goes past a gap with what is left of the log.
func (a *Agent) remaining(ctx context.Context, log Log, gap *GapError, p *plan) error {
	r, ok := log.(Remainder)
	if !ok {
		return &SetupError{Reason: "go on past a gap: " + gap.Reason, Fix: "this kind of source cannot go on without a load: use --resnapshot"}
	}
	from, err := r.Remaining(ctx)
	if err != nil {
		return fmt.Errorf("go on with what is left of the log: %w", err)
	}
	a.cfg.Log.Warn("going on past a gap without a load: what lies in it is missing in all targets", "source", a.cfg.Source, "reason", gap.Reason, "position", from.String())
	p.group, p.first, p.untouched = at(from), from, true
	return nil
}

// track tells a Tracker what was read: a set of the record that the stream still holds, and the messages that follow.
func (a *Agent) track(ctx context.Context, t Tracker, info Info, rec record, end stream.End, p *plan) error {
	if !rec.found {
		_, err := a.lastEvent(ctx)
		switch {
		case errors.Is(err, stream.ErrNoMessage): // at most the fence of an agent that died before its record
			p.group, p.first, p.untouched = at(info.Confirmed), info.Confirmed, true
			return t.Resume("", nil)
		case err != nil:
			return fmt.Errorf("read the last event of %s: %w", a.cfg.Source, err)
		}
	}
	if !rec.found || rec.Executed == "" {
		return &GapError{Reason: "the record of the source is lost, and with it the set of the transactions that were read",
			Fix: "run once with --resnapshot to go on from now and load everything again"}
	}
	for _, s := range []registry.Settled{{Executed: rec.Executed, Sequence: rec.Sequence, Version: rec.Version}, rec.Settled} {
		if s.Executed == "" {
			continue
		}
		held, err := a.stands(ctx, s, end)
		if err != nil {
			return err
		}
		if !held {
			continue
		}
		since, err := a.since(ctx, s.Sequence, end)
		if err != nil {
			return err
		}
		if end.Message == nil { // nothing is held any more, and nothing followed the record
			since = []event.Position{reached(p.group)}
		}
		return t.Resume(s.Executed, since)
	}
	return &GapError{Reason: fmt.Sprintf("the stream ends at %d and no longer holds what the record of the source was written for", end.Last),
		Fix: "run once with --resnapshot to go on from now and load everything again"}
}

// begin tells a Tracker that nothing was read before Info.Confirmed.
func begin(log Log) error {
	if t, ok := log.(Tracker); ok {
		return t.Resume("", nil)
	}
	return nil
}

// stands says whether the stream still holds the message that a set belongs to, so that what follows it is all that came since. A
// sequence alone does not show that: a stream that lost its tail gives them out again.
func (a *Agent) stands(ctx context.Context, s registry.Settled, end stream.End) (bool, error) {
	if end.Last < s.Sequence {
		return false, nil
	}
	if end.Message == nil { // retention took all
		return end.Last == s.Sequence, nil
	}
	m, err := a.stream.Next(ctx, ">", s.Sequence)
	switch {
	case errors.Is(err, stream.ErrNoMessage):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read message %d of the stream of %s: %w", s.Sequence, a.cfg.Source, err)
	}
	return m.Sequence == s.Sequence && (m.Last() == s.Version || m.Marker() && m.Writer.Version(m.Sequence, 0) == s.Version), nil
}

// since lists the positions of the messages from a sequence on. That of the first one belongs to the set itself, but its transaction may not be
// complete in it, and be complete by what follows.
func (a *Agent) since(ctx context.Context, from uint64, end stream.End) ([]event.Position, error) {
	var out []event.Position
	for after := from - 1; after < end.Last && end.Message != nil; {
		m, err := a.stream.Next(ctx, ">", after+1)
		if errors.Is(err, stream.ErrNoMessage) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read message %d of the stream of %s: %w", after+1, a.cfg.Source, err)
		}
		if m.Sequence > after+1 {
			return nil, &GapError{Reason: fmt.Sprintf("retention took the messages from %d to %d, which the record of the source does not cover", after+1, m.Sequence-1),
				Fix: "run once with --resnapshot to go on from now and load everything again"}
		}
		after = m.Sequence
		if p := reached(m.Group); len(out) == 0 || out[len(out)-1] != p {
			out = append(out, p)
		}
	}
	return out, nil
}

// executed is the set at a position, for the record; empty where a position says all.
func executed(log Log, p event.Position) (string, error) {
	t, ok := log.(Tracker)
	if !ok {
		return "", nil
	}
	set, err := t.Executed(p)
	if err != nil {
		return "", fmt.Errorf("the transactions read up to %s: %w", p, err)
	}
	return set, nil
}
