package sourcetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// patience is how long anything may take on a busy machine.
const patience = 90 * time.Second

var marked atomic.Int64

// reader is a log under test.
type reader struct {
	capture.Log
	capture.Snapshotter
	t      *testing.T
	closed bool
}

// place is one that a log had come to: what it gave since its first position, the transactions before that, if it tracks them, and
// where it was read first.
type place struct {
	set   string
	since []event.Position
	first event.Position
	id    string // of the server
}

func (p place) after(q event.Position) place {
	p.since = append(slices.Clone(p.since), q)
	return p
}

func (w *world) acquire(s capture.Source) *reader {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	l, err := s.Acquire(ctx, nil)
	if err != nil {
		w.Fatal(err)
	}
	return w.reader(l)
}

func (w *world) reader(l capture.Log) *reader {
	r := &reader{Log: l, Snapshotter: l.(capture.Snapshotter), t: w.T}
	w.Cleanup(r.close)
	return r
}

func (r *reader) close() {
	if !r.closed {
		r.closed = true
		if err := r.Close(context.Background()); err != nil {
			r.t.Error(err)
		}
	}
}

// check goes to a place, and says whether the server's log goes on there.
func (r *reader) check(p place) (after event.Position, err error) {
	r.t.Helper()
	if tracker, ok := r.Log.(capture.Tracker); ok {
		if err := tracker.Resume(p.set, p.since); err != nil {
			r.t.Fatal(err)
		}
	}
	after = p.first
	if len(p.since) > 0 {
		after = p.since[len(p.since)-1]
	}
	return after, r.Check(r.t.Context(), after, p.first, p.id)
}

func (r *reader) startAt(p place) {
	r.t.Helper()
	after, err := r.check(p)
	if err != nil {
		r.t.Fatalf("check %s: %v", after, err)
	}
	met := after
	if met.Change == 0 || met.Origin != "" {
		met = event.Position{}
	}
	if err := r.Start(r.t.Context(), after, met); err != nil {
		r.t.Fatalf("start after %s: %v", after, err)
	}
}

// here is where a log begins that nothing was read of.
func (r *reader) here() place {
	r.t.Helper()
	p := place{first: r.Info().Confirmed, id: r.Info().Identity}
	if tracker, ok := r.Log.(capture.Tracker); ok {
		if err := tracker.Resume("", nil); err != nil {
			r.t.Fatal(err)
		}
		set, err := tracker.Executed(p.first)
		if err != nil {
			r.t.Fatal(err)
		}
		p.set = set
	}
	return p
}

// started is a reader from now on.
func (w *world) started(s capture.Source) (*reader, place) {
	w.Helper()
	r := w.acquire(s)
	p := r.here()
	r.startAt(p)
	return r, p
}

// item is a copy of an item that outlives the next call.
type item struct {
	capture.Item
	Change event.Change
}

func (i item) String() string {
	switch i.Kind {
	case capture.Changed:
		return strings.TrimRight(fmt.Sprintf("%s %s %s %s", i.Change.Op, i.Schema.Table.Name, i.Change.Before, i.Change.After), " ")
	case capture.Marked:
		return "mark " + i.Mark
	default:
		return fmt.Sprintf("kind %d at %s", i.Kind, i.Position)
	}
}

// until reads until an item is what is asked for.
func (r *reader) until(found func(item) bool) []item {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	var all []item
	for done := false; !done; {
		run, err := r.Next(ctx)
		if err != nil {
			r.t.Fatalf("after %d items: %v", len(all), err)
		}
		for _, i := range run.Items {
			x := item{Item: i}
			if i.Change != nil {
				x.Change = *i.Change
				x.Change.Before, x.Change.After = slices.Clone(i.Change.Before), slices.Clone(i.Change.After)
			}
			all = append(all, x)
			done = done || found(x)
		}
	}
	return all
}

// read gives what the log says up to now.
func (r *reader) read() []item {
	r.t.Helper()
	mark := fmt.Sprintf("now%d", marked.Add(1)) // of its own, for another reader's may still be in the log
	if err := r.Mark(r.t.Context(), mark); err != nil {
		r.t.Fatal(err)
	}
	return r.until(func(i item) bool { return i.Kind == capture.Marked && i.Mark == mark })
}

// fails reads until the log ends with an error.
func (r *reader) fails() error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for {
		if _, err := r.Next(ctx); err != nil {
			if ctx.Err() != nil {
				r.t.Fatal("the log goes on")
			}
			return err
		}
	}
}

// only gives the items of one kind.
func only(all []item, kind capture.Kind) []item {
	return slices.DeleteFunc(slices.Clone(all), func(i item) bool { return i.Kind != kind })
}

func lines(all []item) string {
	var b strings.Builder
	for _, i := range all {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// encoded are changes as the stream gets them, with where they stand in their transactions.
func encoded(changes []item) string {
	var b []byte
	for i := range changes {
		c := &changes[i].Change
		b = fmt.Appendf(c.Position.AppendID(b), " %d %t ", c.Order, c.Last)
		b = append(event.AppendLine(b, c), '\n')
	}
	return string(b)
}

func (w *world) expect(got, want string) {
	w.Helper()
	if got, want := strings.TrimSpace(got), strings.TrimSpace(want); got != want {
		w.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
