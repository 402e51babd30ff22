package host_test

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

var errTooLong = sink.Permanent(errors.New("note is too long"))

// refusing is how a target says that it can never write the events of some keys.
type refusing func(bad func(key int) bool) func(b sink.Batch) error

// byName answers for each event, as Elasticsearch does; what it does not name is durable.
func byName(h *target) refusing {
	return func(bad func(int) bool) func(sink.Batch) error {
		return func(b sink.Batch) error {
			var failed sink.BatchError
			for i, s := range b.Spans {
				b.Spans[i].Events = slices.Clone(s.Events)
				for n := range s.Events {
					if bad(keyOf(&s.Events[n])) {
						failed.Failed = append(failed.Failed, sink.Failure{Span: i, Event: n, Err: errTooLong})
					}
				}
				b.Spans[i].Events = slices.DeleteFunc(b.Spans[i].Events, func(e event.Event) bool { return bad(keyOf(&e)) })
			}
			if len(failed.Failed) == 0 {
				return nil
			}
			h.store(b)
			return &failed
		}
	}
}

// together names the events, and writes none of their spans, as PostgreSQL does.
func together(bad func(int) bool) func(sink.Batch) error {
	return func(b sink.Batch) error {
		var failed, others []sink.Failure
		for i, s := range b.Spans {
			for n := range s.Events {
				if bad(keyOf(&s.Events[n])) {
					failed = append(failed, sink.Failure{Span: i, Event: n, Err: errTooLong})
				} else {
					others = append(others, sink.Failure{Span: i, Event: n, Err: errors.New("rolled back")})
				}
			}
		}
		if len(failed) == 0 {
			return nil
		}
		return &sink.BatchError{Failed: append(failed, others...)}
	}
}

// silently refuses the batch without saying why.
func silently(bad func(int) bool) func(sink.Batch) error {
	return func(b sink.Batch) error {
		for _, s := range b.Spans {
			for n := range s.Events {
				if bad(keyOf(&s.Events[n])) {
					return errTooLong
				}
			}
		}
		return nil
	}
}

func letters(t *testing.T, function string) []*stream.Letter {
	t.Helper()
	d := shared.conn.DeadLetters()
	var all []*stream.Letter
	if err := d.Each(t.Context(), function, func(l *stream.Letter) error {
		whole, err := d.Get(t.Context(), l.ID)
		all = append(all, whole)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// buried are the sequences of the letters' events, in the order in which they were buried.
func buried(t *testing.T, function string) []uint64 {
	t.Helper()
	var all []uint64
	for _, l := range letters(t, function) {
		all = append(all, l.Sequence)
	}
	return all
}

// without leaves out the events of some keys.
func without(events []written, bad func(int) bool) []written {
	return slices.DeleteFunc(slices.Clone(events), func(w written) bool { return bad(w.key) })
}

func is(key int) func(int) bool { return func(k int) bool { return k == key } }

// One event that can never be written is buried, whole and as it stands in the stream; all others are written, those of its own
// key that come later too.
func TestEventIsBuried(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(h *target) refusing{
		"ByName": byName, "Together": func(*target) refusing { return together }, "Silently": func(*target) refusing { return silently },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFeeder(t, stream.Settings{Partitions: 1})
			f.put(f.schema, keys(1, 40)...)
			function := newFunction(t, f, "$.public.orders", "mask: {redact: [note]}")
			h := newTarget(t)
			var first atomic.Bool // only the first event of key 23 is bad
			h.fail = how(h)(func(key int) bool { return key == 23 && !first.Load() })
			var told atomic.Int64
			start(t, function, only(h), func(c *host.Config) {
				c.Observer.Buried = func(string) { first.Store(true); told.Add(1) }
			})
			h.complete(t, without(f.events, is(23)))
			f.put(f.schema, 23, 41)
			h.complete(t, slices.DeleteFunc(slices.Clone(f.events), func(w written) bool { return w.version == f.events[22].version }))
			all := letters(t, function)
			if len(all) != 1 || told.Load() != 1 {
				t.Fatalf("%d letters, told of %d", len(all), told.Load())
			}
			l := all[0]
			want, err := f.stream.Next(t.Context(), event.Subject(f.name, f.schema.Table, 0), 535)
			if err != nil || string(l.Line) != strings.TrimSuffix(string(want.Data), "\n") {
				t.Errorf("the letter is %s, the stream holds %s (%v)", l.Line, want.Data, err)
			}
			if l.Function != function || l.Generation != 1 || l.Sequence != 535 || l.Version != f.events[22].version || l.Attempts < 1 ||
				l.Reason != "note is too long" || l.Original != want.Subject || time.Since(l.Time) > *patience {
				t.Errorf("%+v", l.DeadLetter)
			}
			if r := record(t, function); r.State != registry.Running {
				t.Errorf("%s: %s", r.State, r.Reason)
			}
		})
	}
}

// Where the target does not name it, one bad event of 5,000 is found within 2·log₂(5,000) tries.
func TestBisection(t *testing.T) {
	t.Parallel()
	const n = 5000
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, n)...)
	most := 2 * bits.Len(n-1)
	for _, key := range []int{1, 2, n / 3, n / 2, n/2 + 1, n - 1, n} {
		t.Run(fmt.Sprint(key), func(t *testing.T) {
			function := newFunction(t, f, "$.public.orders", fmt.Sprintf("batch: {rows: %d, age: 1m}", n))
			h := newTarget(t)
			tries, largest := 0, 0
			refuse := silently(is(key))
			h.fail = func(b sink.Batch) error {
				tries++
				largest = max(largest, b.Len())
				return refuse(b)
			}
			// A consumer that seems to be silent, on a busy machine, would end the batch early.
			stop := start(t, function, only(h), func(c *host.Config) { c.Heartbeat = 10 * time.Second })
			h.complete(t, without(f.events, is(key)))
			waitFor(t, "the letter", func() bool { return len(letters(t, function)) > 0 })
			stop()
			if largest != n || tries > most || h.back > 0 {
				t.Errorf("%d tries for a batch of %d, %d are allowed; %d events twice or out of order", tries, largest, most, h.back)
			}
			if got := letters(t, function); len(got) != 1 || got[0].Version != f.events[key-1].version {
				t.Errorf("%d letters", len(got))
			}
		})
	}
}

// A hundred in a row without a success in between say that something else is wrong: the function halts, and goes on with the
// event that it names.
func TestRefusalsInARowHaltAndNameTheEvent(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(h *target) refusing{
		"ByName": byName, "Together": func(*target) refusing { return together }, "Silently": func(*target) refusing { return silently },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFeeder(t, stream.Settings{Partitions: 1})
			f.put(f.schema, keys(1, 250)...)
			function := newFunction(t, f, "$.public.orders", "")
			h := newTarget(t)
			var mended atomic.Bool
			h.fail = how(h)(func(key int) bool { return key > 20 && !mended.Load() })
			start(t, function, only(h), nil)
			waitFor(t, "halted", func() bool { return record(t, function).State == registry.Halted })
			reason := record(t, function).Reason
			for _, want := range []string{"public.orders", "id=120", "sequence 632", "note is too long", "runnel resume", "runnel dlq list " + function} {
				if !strings.Contains(reason, want) {
					t.Errorf("the reason %q lacks %q", reason, want)
				}
			}
			if got := buried(t, function); len(got) != 99 || got[0] != 533 || got[98] != 631 {
				t.Errorf("%d letters: %v", len(got), got)
			}
			mended.Store(true)
			deploy(t, function, func(r *registry.FunctionRecord) { r.State, r.Reason = registry.Running, "" })
			h.complete(t, without(f.events, func(key int) bool { return key > 20 && key < 120 }))
			if got := buried(t, function); len(got) != 99 {
				t.Errorf("%d letters after it went on", len(got))
			}
		})
	}
}

// Every third event is bad, in batches of hundreds: there are successes in between, whatever a target says of a batch.
func TestManyAreBuried(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(h *target) refusing{
		"ByName": byName, "Together": func(*target) refusing { return together }, "Silently": func(*target) refusing { return silently },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFeeder(t, stream.Settings{Partitions: 2})
			f.put(f.schema, keys(1, 900)...)
			function := newFunction(t, f, "$.public.orders", "")
			h := newTarget(t)
			bad := func(key int) bool { return key%3 == 0 }
			h.fail = how(h)(bad)
			start(t, function, only(h), nil)
			h.complete(t, without(f.events, bad))
			waitFor(t, "300 letters", func() bool { return len(buried(t, function)) == 300 })
			if r := record(t, function); r.State != registry.Running {
				t.Errorf("%s: %s", r.State, r.Reason)
			}
		})
	}
}

// selective is a target with a checkpoint of its own that refuses some keys.
type selective struct {
	*transactional
	refuse func(sink.Batch) error
}

func (s *selective) Handle(ctx context.Context, b sink.Batch) error {
	if err := s.refuse(b); err != nil {
		return err
	}
	return s.transactional.Handle(ctx, b)
}

// The target's checkpoint moves past what is buried together with the rest, also where nothing else is left to write.
func TestCheckpointMovesPastTheBuried(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]refusing{"Together": together, "Silently": silently} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFeeder(t, stream.Settings{Partitions: 2})
			f.put(f.schema, keys(1, 300)...)
			f.put(f.schema, 3, 6, 9) // the last ones of their partitions, perhaps
			function := newFunction(t, f, "$.public.orders", "")
			bad := func(key int) bool { return key%3 == 0 }
			p := &selective{newTransactional(t), refuse(bad)}
			start(t, function, only(p), p.floors)
			p.want(t, once(slices.DeleteFunc(keys(1, 300), bad)), 0)
			last := map[int]event.Version{}
			for _, w := range f.events {
				last[w.partition] = w.version
			}
			waitFor(t, "checkpoints and floors at the end", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				for part, v := range last {
					if p.points[part].Version < v || owner(t, function, 1, part).Floor.Version < v {
						return false
					}
				}
				return true
			})
			if got := buried(t, function); len(got) != 103 {
				t.Errorf("%d letters", len(got))
			}
		})
	}
}

// An expression that fails on a row buries that event, as it was.
func TestFailingExpressionBuries(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, 60)...)
	function := newFunction(t, f, "$.public.orders", "filter: after.id % 10 != 0 || int(after.note) > 0")
	h := newTarget(t)
	bad := func(key int) bool { return key%10 == 0 }
	start(t, function, only(h), nil)
	h.complete(t, without(f.events, bad))
	waitFor(t, "6 letters", func() bool { return len(buried(t, function)) == 6 })
	for _, l := range letters(t, function) {
		if l.Attempts != 0 || !strings.Contains(l.Reason, "filter") || !strings.Contains(string(l.Line), `"note":"n`) {
			t.Errorf("%+v: %s", l.DeadLetter, l.Line)
		}
	}
	f.put(f.schema, keys(100, 100)...)
	h.complete(t, without(f.events, bad))

	always := newFunction(t, f, "$.public.orders", "filter: int(after.note) > 0")
	start(t, always, only(newTarget(t)), nil)
	waitFor(t, "halted", func() bool { return record(t, always).State == registry.Halted })
	if got := len(buried(t, always)); got != 99 {
		t.Errorf("%d letters", got)
	}
}

// graveyard is a world in which burying has troubles.
type graveyard struct {
	host.World
	bury func(ctx context.Context, l *event.DeadLetter, store func() error) error
}

func (g *graveyard) Bury(ctx context.Context, l *event.DeadLetter) error {
	return g.bury(ctx, l, func() error { return g.World.Bury(ctx, l) })
}

// A worker that dies before the letter is stored, or between that and its floor, leaves the event to the next one: there is one
// letter in the end.
func TestDeathWhileBurying(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprint("stored=", stored), func(t *testing.T) {
			t.Parallel()
			f := newFeeder(t, stream.Settings{Partitions: 1})
			f.put(f.schema, keys(1, 40)...)
			function := newFunction(t, f, "$.public.orders", "")
			h := newTarget(t)
			h.fail = silently(is(23))
			reached := make(chan struct{})
			var once sync.Once
			dying := &graveyard{realWorld(), func(_ context.Context, _ *event.DeadLetter, store func() error) error {
				if stored {
					if err := store(); err != nil {
						return err
					}
				}
				once.Do(func() { close(reached) })
				return errors.New("the process is gone")
			}}
			stop := start(t, function, only(h), func(c *host.Config) { c.World = dying })
			<-reached
			stop()
			if o := owner(t, function, 1, 0); o.Floor.Version >= f.events[22].version {
				t.Fatalf("the floor is at %d, the event at %d", o.Floor.Version, f.events[22].version)
			}
			start(t, function, only(h), nil)
			h.complete(t, without(f.events, is(23)))
			waitFor(t, "the floor to pass", func() bool { return owner(t, function, 1, 0).Floor.Version >= f.events[22].version })
			if got := buried(t, function); len(got) != 1 {
				t.Errorf("letters of %v", got)
			}
		})
	}
}

// Where nothing can be buried, its function is stalled and says why; it passes nothing, and delays no other one.
func TestNowhereToBury(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, keys(1, 40)...)
	function, other := newFunction(t, f, "$.public.orders", ""), newFunction(t, f, "$.public.orders", "")
	h, o := newTarget(t), newTarget(t)
	h.fail = silently(is(23))
	var away, stalled atomic.Bool
	away.Store(true)
	w := &graveyard{realWorld(), func(_ context.Context, _ *event.DeadLetter, store func() error) error {
		if away.Load() {
			return errors.New("RUNNEL_DLQ is full")
		}
		return store()
	}}
	start(t, function, only(h), func(c *host.Config) {
		c.World = w
		c.Observer.Stalled = func(_ string, s bool) { stalled.Store(s) }
	})
	start(t, other, only(o), func(c *host.Config) { c.World = w })
	waitFor(t, "stalled", stalled.Load)
	f.put(f.schema, keys(41, 40)...)
	o.complete(t, f.events)
	for _, w := range h.got() {
		if w.key >= 23 {
			t.Fatalf("event of key %d was written before that of key 23 was buried", w.key)
		}
	}
	away.Store(false)
	h.complete(t, without(f.events, is(23)))
	waitFor(t, "going on", func() bool { return !stalled.Load() })
	if got := buried(t, function); len(got) != 1 {
		t.Errorf("letters of %v", got)
	}
}

// What does not fit into RUNNEL_DLQ is not passed.
func TestTooLargeToBury(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	f.put(f.schema, 1, 2)
	at := f.position()
	line := event.AppendLine(nil, &event.Change{Op: event.Create, Schema: f.schema, After: row(3, strings.Repeat("x", 9<<20)), Position: at, CommitMS: 1, TxID: f.log})
	f.publish(event.Subject(f.name, f.schema.Table, 0), event.Group{From: f.group, To: at, K: 1, N: 1}, event.MessageID(f.name, at), "", line)
	f.flush()
	function := newFunction(t, f, "$.public.orders", "")
	h := newTarget(t)
	h.fail = silently(is(3))
	start(t, function, only(h), nil)
	waitFor(t, "halted", func() bool { return record(t, function).State == registry.Halted })
	for _, want := range []string{"id=3", "note is too long", "larger than a message of RUNNEL_DLQ may be", "runnel resume"} {
		if r := record(t, function).Reason; !strings.Contains(r, want) {
			t.Errorf("the reason %q lacks %q", r, want)
		}
	}
	h.complete(t, f.events)
}

// gathering is a target that gets the spans of all partitions in one batch.
type gathering struct{ *target }

func (g *gathering) Combine() {}

// The spans of several partitions in one batch, each with events that can never be written.
func TestCombinerBuries(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(h *target) refusing{
		"ByName": byName, "Together": func(*target) refusing { return together }, "Silently": func(*target) refusing { return silently },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFeeder(t, stream.Settings{Partitions: 8})
			for i := range 10 {
				f.put(f.schema, keys(i*100, 100)...)
			}
			function := newFunction(t, f, "$.public.orders", "batch: {rows: 50}")
			h := &gathering{newTarget(t)}
			bad := func(key int) bool { return key%7 == 0 }
			h.fail = how(h.target)(bad)
			start(t, function, only(h), nil)
			h.complete(t, without(f.events, bad))
			waitFor(t, "143 letters", func() bool { return len(buried(t, function)) == 143 })
			if r := record(t, function); r.State != registry.Running {
				t.Errorf("%s: %s", r.State, r.Reason)
			}
		})
	}
}
