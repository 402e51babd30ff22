package check

import (
	"errors"
	"hash/maphash"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Order says what is wrong with the stream in itself: versions grow, each change is there once and in the log's order, and groups
// are complete, with nothing between their messages.
func Order(all []*event.Message) error {
	var r Report
	if err := r.walk(Of(all), newOrder(&r, nil)); err != nil {
		return err
	}
	if !r.Kept() {
		return errors.New(r.Findings[0].Text)
	}
	return nil
}

// order is that as a pass. It remembers 8 bytes of each change.
type order struct {
	r          *Report
	exceptions History
	last       *event.Message
	reached    event.Position
	seed       maphash.Seed
	seen       map[uint64]struct{}
}

func newOrder(r *Report, exceptions History) *order {
	return &order{r: r, exceptions: exceptions, seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}}
}

func (o *order) say(p Promise, m *event.Message, format string, args ...any) {
	o.r.breach(o.exceptions, p, "", moment(time.UnixMilli(m.TimeMS)), "message %d: "+format, append([]any{m.Sequence}, args...)...)
}

func (o *order) message(m *event.Message, events []event.Event) {
	if m.Marker() {
		return
	}
	g, last := m.Group, o.last
	o.last = m
	if last != nil {
		if first := m.Writer.Version(m.Sequence, 1); first <= last.Last() {
			o.say(Disordered, m, "version %d is not above %d of message %d", first, last.Last(), last.Sequence)
		}
		if !last.Group.Complete() && (g.From != last.Group.From || g.To != last.Group.To || g.N != last.Group.N || g.K != last.Group.K+1) {
			o.say(Lost, m, "group %s follows the incomplete %s of message %d", g, last.Group, last.Sequence)
		}
	}
	if g.K > 1 && (last == nil || last.Group.Complete()) {
		o.say(Lost, m, "group %s without its beginning", g)
	}
	if g.From.Compare(o.reached) < 0 && o.exceptions.allows(Disordered, "", moment(time.UnixMilli(m.TimeMS))) { // the log goes on from here, past a declared gap
		o.r.allow(Disordered)
		o.reached = g.From
	}
	back := g.From.Compare(o.reached) < 0
	if twice := o.changes(m, events); back && !twice {
		o.say(Disordered, m, "group %s goes back behind %s", g, o.reached)
	}
	if g.Complete() && g.To.Compare(o.reached) > 0 {
		o.reached = g.To
	}
}

// changes looks at the events of a message: changes lie within its group, in order, and were not seen before.
func (o *order) changes(m *event.Message, events []event.Event) (twice bool) {
	before := m.Group.From
	for i := range events {
		e := &events[i]
		o.r.Events++
		if e.Snapshot {
			continue
		}
		id := e.Position.ID()
		hash := maphash.String(o.seed, id)
		if _, again := o.seen[hash]; again {
			twice = true
			o.say(Duplicated, m, "change %s was stored before", id)
			continue
		}
		o.seen[hash] = struct{}{}
		p := e.Position
		if e.Op == event.Truncate {
			p.Part = p.Part / 256 * 256
		}
		if p.Compare(before) <= 0 || p.Compare(m.Group.To) > 0 {
			o.say(Disordered, m, "change %s is not in its place in group %s", id, m.Group)
		}
		before = p
	}
	return twice
}

func (o *order) end() {
	if o.last != nil && !o.last.Group.Complete() {
		o.say(Lost, o.last, "group %s was never completed", o.last.Group)
	}
}
