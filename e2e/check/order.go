package check

import (
	"errors"
	"hash/maphash"
	"strings"
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
	reached    map[string]event.Position // of each line of the log
	changed    map[string]event.Position // the newest change of each line
	seed       maphash.Seed
	seen       map[uint64]struct{}
}

func newOrder(r *Report, exceptions History) *order {
	return &order{r: r, exceptions: exceptions, seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}, reached: map[string]event.Position{}, changed: map[string]event.Position{}}
}

// line names what the positions of a log have their order in: of PostgreSQL all of it, of MySQL each server's own transactions, of MariaDB
// each domain, in which any server counts on.
func line(p event.Position) string {
	if domain, _, maria := strings.Cut(p.Origin, "-"); maria && len(p.Origin) != uuidLength {
		return domain
	}
	return p.Origin
}

const uuidLength = 36

// behind says whether a position lies before, or at, another one of its line; of different lines none does.
func behind(p, q event.Position) bool { return along(p, q) <= 0 && line(p) == line(q) }

func before(p, q event.Position) bool { return along(p, q) < 0 && line(p) == line(q) }

func along(p, q event.Position) int {
	p.Origin, q.Origin = line(p), line(q)
	return p.Compare(q)
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
	reached := o.reached[line(g.From)]
	if last != nil && last.Writer != m.Writer && before(g.From, reached) && !before(g.From, o.changed[line(g.From)]) {
		// A writer that was ordered to load everything again begins behind the newest change: what was only said to be read may be another log's.
		o.reached[line(g.From)], reached = g.From, g.From
	}
	if before(g.From, reached) && o.exceptions.allows(Disordered, "", moment(time.UnixMilli(m.TimeMS))) { // the log goes on from here, past a declared gap
		o.r.allow(Disordered)
		o.reached[line(g.From)], reached = g.From, g.From
	}
	back := before(g.From, reached)
	if twice := o.changes(m, events); back && !twice {
		o.say(Disordered, m, "group %s goes back behind %s", g, reached)
	}
	if g.Complete() && !behind(g.To, o.reached[line(g.To)]) {
		o.reached[line(g.To)] = g.To
	}
}

// changes looks at the events of a message: changes lie within its group, in order, and were not seen before.
func (o *order) changes(m *event.Message, events []event.Event) (twice bool) {
	last := m.Group.From
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
		if behind(p, last) || before(m.Group.To, p) {
			o.say(Disordered, m, "change %s is not in its place in group %s", id, m.Group)
		}
		last = p
		if !behind(p, o.changed[line(p)]) {
			o.changed[line(p)] = p
		}
	}
	return twice
}

func (o *order) end() {
	if o.last != nil && !o.last.Group.Complete() {
		o.say(Lost, o.last, "group %s was never completed", o.last.Group)
	}
}
