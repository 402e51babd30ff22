package simulation

import (
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// Errors of targets that pass.
var (
	errAway       = errors.New("the target does not answer")
	errNoReply    = errors.New("the connection to the target broke, nobody knows whether it wrote")
	errRefused    = errors.New("the value does not fit its column")
	errRolledBack = errors.New("not written, because another event of its transaction failed")
	errBusy       = errors.New("429: this document is not taken at the moment")
)

// holds says what a target must show to those who check it.
type holds interface {
	// Covers says whether the target holds a version of an event's row, or a newer one.
	Covers(e *event.Event, generation int64) bool
	// refuses says whether the target can never write an event.
	refuses(e *event.Event) bool
	// Rows are the revisions that a reader sees: of a table without a key under the revisions themselves.
	Rows(t event.Table) map[int]int
}

// witness watches what a target shows of each row: it must never show an older revision after a newer one.
type witness struct {
	name    string
	c       *chance
	h       *history
	d       *database
	excused func(e *event.Event) bool

	mu  sync.Mutex
	saw map[rowKey][]int
}

type rowKey struct {
	table event.Table
	key   string
}

func newWitness(name string, w *world) witness {
	return witness{name: name, c: w.c, h: w.h, d: w.d, excused: w.excused, saw: map[rowKey][]int{}}
}

// identity of an event's row: its key, or of a table without one the place where the row came from.
func identity(e *event.Event) rowKey {
	k := rowKey{table: e.Table}
	switch {
	case len(e.Schema.KeyColumns()) > 0:
		id, _ := e.Key().Column("id")
		k.key = "[" + id.Text() + "]"
	case e.Position.IsZero():
		k.key = "v" + strconv.FormatInt(int64(e.Version), 10)
	default:
		k.key = e.Position.ID()
	}
	return k
}

// sees is called with mu held, when a row is about to show what an event says. again says that the target goes through what it
// has shown once more, on purpose.
func (t *witness) sees(k rowKey, e *event.Event, again bool) int {
	if e.Snapshot && e.Op == event.Delete { // a row was looked for by its key: that says what is, not since when
		t.c.count("a row that was looked for is gone")
		newest := t.newest(k)
		t.saw[k] = append(t.saw[k], newest)
		return newest
	}
	revision, known := t.d.Revision(e)
	if !known {
		t.h.fail("simulation", "event %s of %s at %s has no revision", e.Op, e.Table, e.Position)
		return 0
	}
	t.shows(k, e, revision, again)
	return revision
}

func (t *witness) shows(k rowKey, e *event.Event, revision int, again bool) {
	newest := t.newest(k)
	if revision < newest && !t.d.Dead(revision) {
		if !again && !t.excused(e) {
			t.h.fail("never backwards", "%s shows %s of %s at revision %d, and had shown %d (event %s, position %s, version %d, sequence %d)",
				t.name, k.key, k.table.Name, revision, newest, e.Op, e.Position, e.Version, e.Sequence)
			return
		}
		t.c.count("a row goes back by an exception")
	}
	t.saw[k] = append(t.saw[k], revision)
}

// newest is the newest revision that a row has shown; 0 where there is none.
func (t *witness) newest(k rowKey) int {
	newest := 0
	for _, r := range t.saw[k] {
		if r > newest && !t.d.Dead(r) {
			newest = r
		}
	}
	return newest
}

// refuses says whether the target can never write an event.
func (t *witness) refuses(e *event.Event) bool {
	if e.After.IsNull() {
		return false
	}
	revision, known := t.d.Revision(e)
	return known && t.c.refuses(t.name, revision)
}

// kept is a copy of a batch, for a write that acts after its caller has given up.
func kept(b sink.Batch) sink.Batch {
	b.Spans = slices.Clone(b.Spans)
	for i := range b.Spans {
		b.Spans[i].Events = slices.Clone(b.Spans[i].Events)
	}
	return b
}
