package functions

import (
	"slices"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Item is an event at its place in a batch.
//
// What a conditional write compares is Version: it grows along the stream, for ever, so a target that keeps it beside the row and
// refuses what is older holds the newest state whatever comes twice or late.
type Item struct {
	*event.Event
	at    place
	older []place // of events of the same key that it stands for
}

// place of an event in its batch.
type place struct{ span, event int }

// Items are the events of a batch, in their order. Events that lack columns (Event.Unavailable) are left out: their row is gone by
// now, its delete follows, and the part of it that is known must never be seen.
func Items(b Batch) []Item {
	items := make([]Item, 0, b.Len())
	for s := range b.Spans {
		for i := range b.Spans[s].Events {
			if e := &b.Spans[s].Events[i]; len(e.Unavailable) == 0 {
				items = append(items, Item{Event: e, at: place{s, i}})
			}
		}
	}
	return items
}

// Deleted says whether the row is gone: what remains is its key.
func (i Item) Deleted() bool { return i.Op == event.Delete }

// ID is a text that identifies the row within its table, see AppendID. It panics on an event without its key, of which a stream
// holds none.
func (i Item) ID() string {
	id, err := AppendID(nil, i.Event)
	if err != nil {
		panic(err)
	}
	return string(id)
}

func (i *Item) self() *Item { return i }

// Latest leaves the last one of each key, in order: all that a target needs that takes whole rows. Where the last one fails, the
// ones that it stands for count as not written either: once it is given up as a dead letter, they come again.
func Latest[C any, P interface {
	*C
	self() *Item
}](items []C) []C {
	latest := make([]C, 0, len(items))
	kept := make(map[string]int, len(items))
	var key []byte
	for n := len(items) - 1; n >= 0; n-- {
		item := P(&items[n]).self()
		if len(item.Schema.KeyColumns()) > 0 {
			var err error
			key, err = item.Schema.AppendKey(append(append(key[:0], item.Table.String()...), 0), item.Key())
			if newer, ok := kept[string(key)]; ok && err == nil {
				stands := P(&latest[newer]).self()
				stands.older = append(append(stands.older, item.at), item.older...)
				continue
			}
			if err == nil {
				kept[string(key)] = len(latest)
			}
		}
		latest = append(latest, items[n])
	}
	slices.Reverse(latest)
	return latest
}

// Failures gathers the events of a batch that are not durable; all others are. The zero value is ready.
type Failures struct{ failed []Failure }

// Add says why an event is not durable: an error to try it again, a Permanent one to give it up as a dead letter.
func (f *Failures) Add(i Item, err error) {
	f.failed = append(f.failed, Failure{Span: i.at.span, Event: i.at.event, Err: err})
	for _, at := range i.older {
		f.failed = append(f.failed, Failure{Span: at.span, Event: at.event, Err: &supersededError{err}})
	}
}

// Err is a *BatchError, or nil where nothing failed.
func (f *Failures) Err() error {
	if len(f.failed) == 0 {
		return nil
	}
	return &BatchError{Failed: f.failed}
}

// supersededError is why an event is not durable in whose stead a newer one failed. Whatever that was given up for, this one may
// be written: it hides the class of the error.
type supersededError struct{ err error }

func (e *supersededError) Error() string {
	return "a newer event of its key was to be written instead: " + e.err.Error()
}
