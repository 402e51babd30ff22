package check

import (
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Truncation is a TRUNCATE of a captured table, which no trigger notes: whoever ran it says when.
type Truncation struct {
	Table        string
	Began, Ended time.Time
	Sure         bool // the source said that it was done; else nobody knows
}

// truncated is one in the stream.
type truncated struct {
	table, id string
	at        time.Time
	known     bool
}

// truncations compares those of the stream with those that were run.
type truncations struct {
	all  []*truncated
	seen map[string]bool
}

func newTruncations() *truncations { return &truncations{seen: map[string]bool{}} }

func (t *truncations) message(_ *event.Message, events []event.Event) {
	for i := range events {
		e := &events[i]
		if e.Op != event.Truncate || e.Snapshot {
			continue
		}
		// Each partition has its own event, and what a stream lost is published again.
		id := fmt.Sprintf("%s of %s:%d", e.Table.Name, e.Position.Origin, e.Position.Commit)
		if !t.seen[id] {
			t.seen[id] = true
			t.all = append(t.all, &truncated{table: e.Table.Name, id: id, at: time.UnixMilli(e.CommitMS)})
		}
	}
}

func (t *truncations) end() {}

// inexact is how far the time of a TRUNCATE in a log may be off: MariaDB's has seconds.
const inexact = 2 * time.Second

// judge finds the stream's TRUNCATE for each that was done, and one that was run for each of the stream. A source that went back has taken
// some along.
func (t *truncations) judge(r *Report, want []Truncation, exceptions History) {
	for _, w := range want {
		if !w.Sure || t.find(w) {
			continue
		}
		s := span{began: w.Began, ended: w.Ended}
		if exceptions.allows(Backwards, "", s) {
			r.allow(Lost)
			continue
		}
		r.breach(exceptions, Lost, "", s, "the TRUNCATE of %s at %s is not in the stream", w.Table, clock(w.Began))
	}
	for _, w := range want {
		if !w.Sure {
			t.find(w)
		}
	}
	for _, have := range t.all {
		if !have.known {
			r.breach(exceptions, Duplicated, "", moment(have.at), "the TRUNCATE of %s at %s was never run", have.id, clock(have.at))
		}
	}
}

// find marks the first one of the stream that it can be.
func (t *truncations) find(w Truncation) bool {
	for _, have := range t.all {
		if !have.known && have.table == w.Table && have.at.After(w.Began.Add(-inexact)) && have.at.Before(w.Ended.Add(inexact)) {
			have.known = true
			return true
		}
	}
	return false
}
