package capture

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// everywhere publishes a TRUNCATE: one message in every partition, all of one group.
func (w *writer) everywhere(ctx context.Context, t *table, c *event.Change) error {
	g := event.Group{From: w.cur, To: c.Position, N: len(t.subjects)}
	for p, subject := range t.subjects {
		g.K = p + 1
		piece := *c
		piece.Position.Part += uint32(p)
		w.line = event.AppendLine(w.line[:0], &piece)
		m := stream.Outgoing{Subject: subject, ID: event.MessageID(w.a.cfg.Source, piece.Position), Group: g, Data: w.line}
		if err := w.send(ctx, &m, 1, c.CommitMS); err != nil {
			return err
		}
		failpoint.At(failpoint.GroupPiece)
	}
	return nil
}

// pending is a group that an earlier writer left incomplete: the log is read again over its run, and the messages that are
// missing are published.
type pending struct {
	group event.Group
	have  map[string]bool // subjects that are stored
	skip  int             // messages that were stored but are not held any more: the first ones of the run
	pieces
}

// recover completes what the last writer left incomplete: the m or t of a load at once, a run of the log once it is read again.
func (w *writer) recover(ctx context.Context, g event.Group) error {
	if g.Complete() {
		return nil
	}
	stored, err := w.a.stored(ctx, g)
	if err != nil {
		return fmt.Errorf("read back group %s: %w", g, err)
	}
	if g.From.Compare(g.To) == 0 {
		return w.rest(ctx, g, stored)
	}
	p := &pending{group: g, have: map[string]bool{}, skip: g.K - len(stored)}
	for _, m := range stored {
		p.have[m.Subject] = true
	}
	w.pending = p
	return nil
}

// fencesWithin is how many writers may have died within one group before its first messages count as retired.
const fencesWithin = 16

// stored reads back what the stream holds of the group: its last message is the last one on any table.
func (a *Agent) stored(ctx context.Context, g event.Group) ([]*event.Message, error) {
	last, err := a.lastEvent(ctx)
	switch {
	case errors.Is(err, stream.ErrNoMessage):
		return nil, nil
	case err != nil:
		return nil, err
	}
	from := uint64(1)
	if reach := uint64(g.N + fencesWithin*event.FenceMarkers); last.Sequence > reach {
		from = last.Sequence - reach
	}
	return a.stream.Stored(ctx, g, from)
}

// rest publishes the m or t of a load in the partitions that lack it: the same bytes in each. Where none is held any more the
// load is not done, and its end comes again.
func (w *writer) rest(ctx context.Context, g event.Group, stored []*event.Message) error {
	if len(stored) == 0 {
		return nil
	}
	last := stored[len(stored)-1]
	_, t, _, err := event.ParseSubject(last.Subject)
	if err != nil {
		return err
	}
	for g.K < g.N {
		m := stream.Outgoing{
			Subject: event.Subject(w.a.cfg.Source, t, g.K), ID: last.ID[:strings.LastIndexByte(last.ID, ':')+1] + strconv.Itoa(g.K),
			For: last.For, Data: last.Data,
		}
		g.K++
		m.Group = g
		if err := w.send(ctx, &m, last.Lines(), 0); err != nil {
			return err
		}
	}
	return nil
}

// complete takes a change of the group's run, and publishes what is missing when the run's end is there.
func (w *writer) complete(ctx context.Context, t *table, c *event.Change) error {
	p := w.pending
	if c.Position.After(p.group.To) {
		return p.missed()
	}
	if c.Op == event.Truncate {
		for i, subject := range t.subjects {
			piece := *c
			piece.Position.Part += uint32(i)
			w.collect(p, subject, &piece)
		}
	} else {
		w.collect(p, t.subjects[event.Partition(w.key, len(t.subjects))], c)
	}
	if c.Position.Compare(p.group.To) != 0 {
		return nil
	}
	w.pending = nil
	g := p.group
	for _, m := range p.messages {
		if p.have[m.Subject] {
			continue
		}
		if p.skip > 0 {
			p.skip--
			continue
		}
		g.K++
		m.Group = g
		if g.K > g.N {
			return p.missed()
		}
		if err := w.send(ctx, &m.Outgoing, m.lines, m.commitMS); err != nil {
			return err
		}
	}
	if !g.Complete() {
		return p.missed()
	}
	return nil
}

func (w *writer) collect(p *pending, subject string, c *event.Change) {
	w.line = event.AppendLine(w.line[:0], c)
	p.add(w.a.cfg.Source, subject, c, w.line)
}

func (p *pending) missed() error {
	return &GapError{
		Reason: fmt.Sprintf("the log does not show again what an earlier agent published only in part (group %s)", p.group),
		Fix:    "if the list of tables was changed, set it back until this agent has started once; else run once with --resnapshot",
	}
}
