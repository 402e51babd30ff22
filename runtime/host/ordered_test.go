package host_test

import (
	"context"
	"errors"
	"fmt"
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

// ledger is a target of whole transactions, in memory. Its rules are PostgreSQL's: one transaction at a time, a Claim ends it, and the
// checkpoint moves with a commit.
type ledger struct {
	mu        sync.Mutex
	at        sink.Point
	committed [][]entry
	pages     []*page // that were opened
	most      int     // events of one Apply
	fail      func(p *page, events []event.Event) error
	refuse    func(e *event.Event) error
	lose      func() bool // the answer to a commit
}

// entry is an event as the target got it.
type entry struct {
	op      event.Op
	table   string
	key     int
	version event.Version
	tx      uint64 // commit of the source
}

// page is an open transaction.
type page struct {
	l       *ledger
	at      sink.Point
	entries []entry
	over    bool
}

var errPageOver = errors.New("the transaction is over")

func (l *ledger) Handle(_ context.Context, b sink.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range b.Spans {
		switch {
		case s.Partition != sink.All || len(s.Events) > 0:
			return sink.Halt(errors.New("events beside the transactions"))
		case l.busy():
			return errors.New("the checkpoint is locked by a transaction")
		case l.at != s.After:
			return sink.ErrBehind
		}
		l.at = s.To
	}
	return nil
}

func (l *ledger) busy() bool {
	return slices.ContainsFunc(l.pages, func(p *page) bool { return !p.over })
}

func (l *ledger) Claim(_ context.Context, c sink.Claim) (sink.Point, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Partition != sink.All {
		return l.at, sink.Halt(errors.New("a claim of a partition"))
	}
	for _, p := range l.pages {
		p.over = true
	}
	return l.at, nil
}

func (l *ledger) Truncate(context.Context, sink.Barrier) (sink.Outcome, error) {
	return sink.Wait, sink.Halt(errors.New("a TRUNCATE beside the transactions"))
}

func (l *ledger) Begin(context.Context, sink.Claim, *event.Schema, sink.Point) error {
	return sink.Halt(errors.New("an m beside the transactions"))
}

func (l *ledger) Open(_ context.Context, c sink.Claim, after sink.Point) (sink.Transaction, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.busy():
		return nil, errors.New("another transaction is open")
	case l.at.Version < after.Version:
		return nil, sink.ErrBehind
	}
	p := &page{l: l, at: l.at}
	l.pages = append(l.pages, p)
	return p, nil
}

func (p *page) Apply(_ context.Context, events []event.Event) error {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	if p.over {
		return errPageOver
	}
	p.l.most = max(p.l.most, len(events))
	if f := p.l.fail; f != nil {
		if err := f(p, events); err != nil {
			p.over = true
			return err
		}
	}
	var refused sink.BatchError
	var entries []entry
	for i := range events {
		e := &events[i]
		if e.Version <= p.at.Version {
			continue
		}
		if r := p.l.refuse; r != nil {
			if err := r(e); err != nil {
				refused.Failed = append(refused.Failed, sink.Failure{Event: i, Err: sink.Permanent(err)})
				continue
			}
		}
		key := 0
		if e.Op != event.Truncate && e.Op != event.Mark {
			key = keyOf(e)
		}
		entries = append(entries, entry{e.Op, e.Table.Name, key, e.Version, e.Position.Commit})
	}
	if len(refused.Failed) > 0 {
		return &refused
	}
	p.entries = append(p.entries, entries...)
	return nil
}

func (p *page) Commit(_ context.Context, to sink.Point) error {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	if p.over {
		return errPageOver
	}
	p.over = true
	if to.Version > p.l.at.Version {
		p.l.at = to
		p.l.committed = append(p.l.committed, p.entries)
	}
	if p.l.lose != nil && p.l.lose() {
		return errors.New("no answer")
	}
	return nil
}

func (p *page) Rollback() {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	p.over = true
}

// entries are all that is durable.
func (l *ledger) entries() []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.committed...)
}

// whole checks that what is durable is what was written, each once and in order, and that no transaction was ever in the target in part.
func (l *ledger) whole(t *testing.T, want []entry) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d events", len(want)), func() bool { return len(l.entries()) >= len(want) })
	if got := l.entries(); !slices.Equal(got, want) {
		for i := range got {
			if i >= len(want) || got[i] != want[i] {
				t.Fatalf("%d events, of which number %d is %+v; want %d, and %+v", len(got), i, got[i], len(want), want[min(i, len(want)-1)])
			}
		}
	}
	seen := map[uint64]bool{}
	for _, c := range l.committed {
		within := map[uint64]bool{}
		for _, e := range c {
			if e.tx != 0 && seen[e.tx] {
				t.Errorf("transaction %d was committed in parts", e.tx)
			}
			within[e.tx] = true
		}
		for tx := range within {
			seen[tx] = true
		}
	}
}

// change of a transaction of the source.
type change struct {
	op    event.Op
	table *event.Schema
	key   int
}

func inserts(s *event.Schema, ids ...int) []change {
	all := make([]change, len(ids))
	for i, id := range ids {
		all[i] = change{event.Create, s, id}
	}
	return all
}

// transaction publishes changes of one transaction; ends says whether it ends with them. It gives what a target of all tables gets.
func (f *feeder) transaction(ends bool, changes ...change) []entry {
	f.t.Helper()
	at := event.Position{Timeline: 1, Commit: f.log + 1_000_000, Change: f.group.Change}
	var all []entry
	for i, c := range changes {
		at.Change++
		l := event.Change{Op: c.op, Schema: c.table, Position: at, CommitMS: 1, TxID: at.Commit, Order: int64(i + 1), Last: ends && i == len(changes)-1}
		pieces, from := 1, partitionOf(c.table, c.key, f.stream.Partitions())
		switch c.op {
		case event.Truncate:
			pieces, from = f.stream.Partitions(), 0
		case event.Delete:
			l.Before = row(c.key, "")
		default:
			l.After = row(c.key, fmt.Sprint("n", at.Change))
		}
		for p := range pieces {
			piece := l
			piece.Position.Part = uint32(p)
			seq := f.publish(event.Subject(f.name, c.table.Table, from+p), event.Group{From: f.group, To: at, K: p + 1, N: pieces}, event.MessageID(f.name, piece.Position), "", event.AppendLine(nil, &piece))
			if p == 0 {
				all = append(all, entry{c.op, c.table.Table.Name, c.key, f.writer.Version(seq, 1), at.Commit})
			}
		}
		f.group = at
	}
	if ends {
		f.log++
	}
	f.flush()
	return all
}

func newOrdered(t *testing.T, f *feeder, from, more string) string {
	t.Helper()
	name := fmt.Sprintf("fn%d", shared.names.Add(1))
	text := fmt.Sprintf("kind: function\nname: %s\nfrom: %s\nordering: source\nto: {postgres: {url: \"postgres://127.0.0.1:1/x\"}}\n%s", name, strings.ReplaceAll(from, "$", f.name), more)
	deploy(t, name, func(r *registry.FunctionRecord) {
		*r = registry.FunctionRecord{Spec: text, Version: 1, Generation: 1, State: registry.Running}
	})
	return name
}

func TestTransactionsStayWhole(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	items, other := f.table("items"), f.table("other")
	name := newOrdered(t, f, "[$.public.orders, $.public.items]", "batch: {rows: 10}")
	var want []entry
	for i := range 60 {
		want = append(want, f.transaction(true, append(inserts(f.schema, keys(10*i, i%7+1)...), inserts(items, i)...)...)...)
		switch i % 4 {
		case 1:
			f.transaction(true, inserts(other, i, i+1)...)
		case 2: // the last event is of a table that the function does not read
			all := f.transaction(true, append(inserts(f.schema, keys(10*i, 3)...), inserts(other, i)...)...)
			want = append(want, all[:3]...)
		case 3:
			f.putFor("another", f.schema, i)
		}
	}
	l := &ledger{}
	stop := start(t, name, only(l), nil)
	l.whole(t, want)
	for i := range 20 {
		want = append(want, f.transaction(true, inserts(f.schema, keys(10*i, 2)...)...)...)
	}
	l.whole(t, want)
	stop()
	o := owner(t, name, 1, 0)
	if o.Floor != l.at || o.Instance != "" {
		t.Errorf("released at %+v, the checkpoint is %+v", o, l.at)
	}
	// Where nothing is for the target, floor and checkpoint move even so.
	start(t, name, only(l), nil)
	f.transaction(true, inserts(other, 1)...)
	waitFor(t, "the floor behind what is not wanted", func() bool { return owner(t, name, 1, 0).Floor.Version > o.Floor.Version })
	if len(l.entries()) != len(want) {
		t.Error("something came again")
	}
}

// A transaction that is larger than any batch is written while it is read, and whole or not at all: also where the worker stops in
// its middle, the target fails there, or the agent dies and another one goes on.
func TestLargeTransactionIsStreamed(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	name := newOrdered(t, f, "$.public.orders", "batch: {rows: 20}")
	l := &ledger{}
	var failed atomic.Int64
	l.fail = func(p *page, _ []event.Event) error {
		if len(p.entries) > 200 && failed.Add(1) <= 2 {
			return errors.New("the target is away")
		}
		return nil
	}
	stop := start(t, name, only(l), nil)
	want := f.transaction(true, inserts(f.schema, 1, 2, 3)...)
	want = append(want, f.transaction(true, inserts(f.schema, keys(10, 500)...)...)...)
	want = append(want, f.transaction(true, inserts(f.schema, 4)...)...)
	l.whole(t, want)
	if l.most > 60 || failed.Load() < 2 {
		t.Errorf("%d events in a step, failed %d times", l.most, failed.Load())
	}
	half := f.transaction(false, inserts(f.schema, keys(1000, 300)...)...)
	open := func() (n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if p := l.pages[len(l.pages)-1]; !p.over {
			n = len(p.entries)
		}
		return n
	}
	waitFor(t, "the first half in the target", func() bool { return open() >= 250 })
	stop()
	if l.whole(t, want); l.busy() {
		t.Error("a worker that stopped has left a transaction open")
	}
	start(t, name, only(l), nil)
	waitFor(t, "the first half again", func() bool { return open() >= 250 })
	waitFor(t, "that it is rolled back while nothing comes", func() bool { return open() == 0 })
	f.fence(2, f.chain.Sent())
	rest := f.transaction(true, inserts(f.schema, keys(2000, 300)...)...)
	want = append(append(want, half...), rest...)
	l.whole(t, want)
}

// A TRUNCATE is in its place among the changes, once; how the function wants to meet it holds.
func TestTruncateInATransaction(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	items := f.table("items")
	want := f.transaction(true, inserts(f.schema, keys(1, 30)...)...)
	tx := append(inserts(f.schema, 50), change{event.Truncate, f.schema, 0}, change{event.Truncate, items, 0}, change{event.Create, f.schema, 60}, change{event.Truncate, items, 0})
	want = append(want, f.transaction(true, tx...)...)
	want = append(want, f.transaction(true, inserts(f.schema, 70)...)...)
	for _, rows := range []int{1, 1000} {
		l := &ledger{}
		start(t, newOrdered(t, f, `"$.*.*"`, fmt.Sprintf("batch: {rows: %d}", rows)), only(l), nil)
		l.whole(t, want)
	}
	l := &ledger{}
	start(t, newOrdered(t, f, `"$.*.*"`, "truncate: ignore"), only(l), nil)
	l.whole(t, slices.DeleteFunc(slices.Clone(want), func(e entry) bool { return e.op == event.Truncate }))
	halting := newOrdered(t, f, `"$.*.*"`, "truncate: halt")
	start(t, halting, only(&ledger{}), nil)
	waitFor(t, "halted", func() bool { return record(t, halting).State == registry.Halted })
}

// What an agent left without its end, since it declared a gap or was told not to capture the rest, ends where the next one begins.
func TestTransactionWithoutAnEnd(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	want := f.transaction(false, inserts(f.schema, 1, 2)...)
	f.log++
	want = append(want, f.transaction(true, inserts(f.schema, 3)...)...)
	want = append(want, f.transaction(false, inserts(f.schema, 4, 5)...)...)
	l := &ledger{}
	start(t, newOrdered(t, f, "$.public.orders", ""), only(l), nil)
	l.whole(t, want[:3])
	f.publish(event.MarkSubject(f.name), event.Group{From: f.group, To: f.position(), K: 1, N: 1}, "mark", "", nil)
	f.flush()
	l.whole(t, want)
}

// Messages of one run of the log are put into its order.
func TestGroupsAreSorted(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	items := f.table("items")
	from, at := f.group, event.Position{Timeline: 1, Commit: 10}
	lines := map[*event.Schema][]byte{}
	var order []int
	for i, s := range []*event.Schema{f.schema, items, f.schema, f.schema, items, items} {
		at.Change++
		at.Commit = uint64(10 + i/3)
		lines[s] = event.AppendLine(lines[s], &event.Change{Op: event.Create, Schema: s, After: row(i, "x"), Position: at, CommitMS: 1, TxID: at.Commit, Order: 1, Last: i%3 == 2})
		order = append(order, i)
	}
	for k, s := range []*event.Schema{f.schema, items} {
		f.publish(event.Subject(f.name, s.Table, 0), event.Group{From: from, To: at, K: k + 1, N: 2}, fmt.Sprint("g", k), "", lines[s])
	}
	f.flush()
	l := &ledger{}
	start(t, newOrdered(t, f, `"$.*.*"`, ""), only(l), nil)
	waitFor(t, "all events", func() bool { return len(l.entries()) == len(order) })
	for i, e := range l.entries() {
		if e.key != order[i] {
			t.Fatalf("event %d is number %d of the log", i, e.key)
		}
	}
}

// What can never be written is buried, and its transaction goes on without it; of a large one too.
func TestTransactionBuries(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	want := f.transaction(true, inserts(f.schema, keys(1, 300)...)...)
	name := newOrdered(t, f, "$.public.orders", "batch: {rows: 25}\nfilter: 'after.id != 7 || 1/(after.id-7) > 0'")
	l := &ledger{}
	bad := func(key int) bool { return key%60 == 9 }
	l.refuse = func(e *event.Event) error {
		if bad(keyOf(e)) {
			return errTooLong
		}
		return nil
	}
	var lost atomic.Bool
	l.lose = func() bool { return !lost.Swap(true) }
	start(t, name, only(l), nil)
	l.whole(t, slices.DeleteFunc(want, func(e entry) bool { return e.key == 7 || bad(e.key) }))
	if got := letters(t, name); len(got) != 6 {
		t.Errorf("%d letters, want 6", len(got))
	}
}

// Two workers, one of which is frozen in the middle of a large transaction: what it holds open never counts.
func TestFrozenTransaction(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	want := f.transaction(true, inserts(f.schema, keys(1, 400)...)...)
	name := newOrdered(t, f, "$.public.orders", "batch: {rows: 20}")
	l := &ledger{}
	frozen, thaw := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := func() sink.Handler {
		return &freezing{l, func(p *page) {
			if len(p.entries) > 200 {
				once.Do(func() { close(frozen); <-thaw })
			}
		}}
	}
	withdraw := start(t, name, slow, func(c *host.Config) { c.WriteDeadline = time.Second })
	<-frozen
	if _, err := l.Claim(t.Context(), sink.Claim{Partition: sink.All}); err != nil { // by another worker
		t.Fatal(err)
	}
	close(thaw)
	l.whole(t, want)
	withdraw()
}

// freezing stops between two steps.
type freezing struct {
	*ledger
	before func(p *page)
}

func (z *freezing) Open(ctx context.Context, c sink.Claim, after sink.Point) (sink.Transaction, error) {
	tx, err := z.ledger.Open(ctx, c, after)
	if err != nil {
		return nil, err
	}
	return &slowPage{tx.(*page), z.before}, nil
}

type slowPage struct {
	*page
	before func(p *page)
}

func (s *slowPage) Apply(ctx context.Context, events []event.Event) error {
	s.before(s.page)
	return s.page.Apply(ctx, events)
}
