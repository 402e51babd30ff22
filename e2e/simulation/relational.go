package simulation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// relational is a target like PostgreSQL: no versions beside the rows, but a checkpoint in the same transaction as the rows.
type relational struct {
	witness
	state
	backup   *state
	had      map[checkpoint]event.Version // what restores took back
	replayed bool                         // a generation went back to the stream's beginning
	top      event.Version                // the highest that was ever applied
}

// state is what a backup holds.
type state struct {
	rows        map[rowKey]int
	checkpoints map[checkpoint]standing
	backfills   map[event.Table]map[int][]event.Version // begun, by partition
	seen        map[rowKey]event.Version
	applied     map[event.Version]int64 // by which generation
}

type checkpoint struct {
	function   string
	generation int64
	partition  int
}

type standing struct {
	at     sink.Point
	closed bool
}

func newRelational(name string, w *world) *relational {
	return &relational{witness: newWitness(name, w), had: map[checkpoint]event.Version{}, state: state{
		rows: map[rowKey]int{}, checkpoints: map[checkpoint]standing{}, backfills: map[event.Table]map[int][]event.Version{},
		seen: map[rowKey]event.Version{}, applied: map[event.Version]int64{},
	}}
}

func (s *state) clone() *state {
	backfills := map[event.Table]map[int][]event.Version{}
	for t, m := range s.backfills {
		backfills[t] = map[int][]event.Version{}
		for p, vs := range m {
			backfills[t][p] = slices.Clone(vs)
		}
	}
	return &state{maps.Clone(s.rows), maps.Clone(s.checkpoints), backfills, maps.Clone(s.seen), maps.Clone(s.applied)}
}

// Backup copies what is committed.
func (t *relational) Backup() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.backup = t.clone()
	t.h.note(t.name, "backup")
}

// Restore brings the copy back, if there is one.
func (t *relational) Restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.backup == nil {
		return
	}
	for c, s := range t.checkpoints {
		t.had[c] = max(t.had[c], s.at.Version)
	}
	t.state = *t.backup.clone()
	t.saw = map[rowKey][]int{}
	t.c.count("a target is restored to the past")
	t.h.note(t.name, "RESTORED to a backup")
}

func (t *relational) Covers(e *event.Event, generation int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	reached := func(c checkpoint, v event.Version) bool {
		return c.partition == e.Partition && (c.generation == generation && v >= e.Version || c.generation > generation)
	}
	for c, s := range t.checkpoints {
		if reached(c, s.at.Version) {
			return true
		}
	}
	for c, v := range t.had {
		if reached(c, v) {
			return true
		}
	}
	return false
}

func (t *relational) Rows(table event.Table) map[int]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[int]int{}
	for k, revision := range t.rows {
		if k.table != table {
			continue
		}
		if id, keyed := strings.CutPrefix(k.key, "["); keyed {
			out[atoi(strings.TrimSuffix(id, "]"))] = revision
		} else {
			out[revision]++
		}
	}
	return out
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err) // our own keys
	}
	return n
}

// apply is for mu held.
func (t *relational) apply(e *event.Event, c checkpoint) {
	if before, twice := t.applied[e.Version]; twice && before == c.generation {
		t.h.fail("exactly once", "%s applies %s of %s at version %d, sequence %d, once more", t.name, e.Op, e.Table, e.Version, e.Sequence)
		return
	}
	t.applied[e.Version] = c.generation
	k := identity(e)
	if len(t.backfills[e.Table][c.partition]) > 0 {
		t.seen[k] = e.Version
	}
	_, there := t.rows[k]
	if there && len(e.Schema.KeyColumns()) == 0 {
		again := t.excused(e) || t.replayed
		if !again {
			t.h.fail("exactly once", "%s inserts the row of %s at position %s once more", t.name, e.Table, e.Position)
		}
		t.c.count("a row without a key would come twice after a loss")
		return
	}
	revision := t.sees(k, e, t.replayed && e.Version <= t.top)
	if e.Op == event.Delete {
		delete(t.rows, k)
	} else {
		t.rows[k] = revision
	}
	t.top = max(t.top, e.Version)
}

// session is a process's handler: what it has claimed it remembers, with the checkpoint that it last saw.
type session struct {
	*relational
	p       *process
	claimed map[checkpoint]event.Version
}

func (s *session) Handle(ctx context.Context, b sink.Batch) error {
	s.p.w.o.Write(s.p, b)
	b = kept(b)
	var failed sink.BatchError
	for i := range b.Spans {
		sp := &b.Spans[i]
		c := checkpoint{b.Function, b.Generation, sp.Partition}
		var bad []sink.Failure
		err := s.p.write(ctx, s.name, "transaction", func() (err error) {
			bad, err = s.span(c, sp, i)
			return err
		})
		if err != nil {
			return err
		}
		failed.Failed = append(failed.Failed, bad...)
	}
	if len(failed.Failed) > 0 {
		return &failed
	}
	return nil
}

// span is a transaction; where it holds what can never be written nothing of it is, and all of it is named.
func (s *session) span(c checkpoint, sp *sink.Span, n int) ([]sink.Failure, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.check(c, sp.After.Version)
	if err != nil {
		return nil, err
	}
	if at.Version >= sp.To.Version {
		s.c.count("a checkpoint covers a batch that comes again")
		s.reached(c, sp.To.Version)
		return nil, nil
	}
	var never, others []sink.Failure
	for i := range sp.Events {
		switch e := &sp.Events[i]; {
		case e.Version > at.Version && s.refuses(e):
			never = append(never, sink.Failure{Span: n, Event: i, Err: sink.Permanent(errRefused)})
		default:
			others = append(others, sink.Failure{Span: n, Event: i, Err: errRolledBack})
		}
	}
	if len(never) > 0 {
		return append(never, others...), nil
	}
	for i := range sp.Events {
		if sp.Events[i].Version > at.Version {
			s.apply(&sp.Events[i], c)
		}
	}
	s.checkpoints[c] = standing{at: sp.To}
	s.reached(c, sp.To.Version)
	return nil, nil
}

// check is for mu held, as what follows.
func (s *session) check(c checkpoint, after event.Version) (sink.Point, error) {
	if _, claimed := s.claimed[c]; !claimed {
		return sink.Point{}, fmt.Errorf("partition %d was not claimed: %w", c.partition, sink.ErrBehind)
	}
	st, there := s.checkpoints[c]
	switch {
	case !there:
		return sink.Point{}, fmt.Errorf("partition %d has no checkpoint: %w", c.partition, sink.ErrBehind)
	case st.closed:
		s.c.count("a closed generation is refused")
		return sink.Point{}, sink.ErrClosed
	case st.at.Version < after:
		s.c.count("a target is behind")
		return sink.Point{}, fmt.Errorf("partition %d: %w", c.partition, sink.ErrBehind)
	}
	return st.at, nil
}

func (s *session) reached(c checkpoint, v event.Version) { s.claimed[c] = max(s.claimed[c], v) }

func (s *session) Claim(ctx context.Context, c sink.Claim) (at sink.Point, err error) {
	err = s.p.write(ctx, s.name, "claim", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		at, err = s.claim(c)
		return err
	})
	return at, err
}

func (s *session) claim(c sink.Claim) (sink.Point, error) {
	own := checkpoint{c.Function, c.Generation, c.Partition}
	var older checkpoint
	for o, st := range s.checkpoints {
		switch {
		case o.function != c.Function:
		case o.generation > c.Generation:
			return sink.Point{}, sink.ErrClosed
		case o.generation < c.Generation:
			st.closed = true
			s.checkpoints[o] = st
			if o.partition == c.Partition && o.generation > older.generation {
				older = o
			}
		}
	}
	st, there := s.checkpoints[own]
	if !there {
		st.at = c.Start
		s.replayed = s.replayed || c.Replay
		old := s.checkpoints[older].at
		behind := old.Version < c.Start.Version
		switch {
		case older.generation == 0:
		case c.Replaces != 0 && older.generation > c.Replaces && !c.Replay: // JetStream has lost that one
			s.c.count("a generation takes the place of one that KV has lost")
			st.at = old
		case c.Replaces != 0 && older.generation != c.Replaces: // that one never came here
			if behind && !c.Replay {
				st.at = old
			}
		case c.Replaces != 0 && !c.Replay, c.Replay == behind:
			st.at = old
		}
		s.checkpoints[own] = st
	}
	s.claimed[own] = st.at.Version
	return st.at, nil
}

func (s *session) Begin(ctx context.Context, c sink.Claim, schema *event.Schema, at sink.Point) error {
	own := checkpoint{c.Function, c.Generation, c.Partition}
	return s.p.write(ctx, s.name, "begin of a backfill", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		from := s.claimed[own]
		cp, err := s.check(own, from)
		switch {
		case err != nil || cp.Version >= at.Version:
			return err
		case cp.Version != from:
			return fmt.Errorf("partition %d: %w", c.Partition, sink.ErrBehind)
		}
		if s.backfills[schema.Table] == nil {
			s.backfills[schema.Table] = map[int][]event.Version{}
		}
		begun := append(s.backfills[schema.Table][c.Partition], at.Version)
		slices.Sort(begun)
		s.backfills[schema.Table][c.Partition] = slices.Compact(begun)
		s.checkpoints[own] = standing{at: at}
		s.reached(own, at.Version)
		return nil
	})
}

func (s *session) Truncate(ctx context.Context, b sink.Barrier) (outcome sink.Outcome, err error) {
	err = s.p.write(ctx, s.name, "barrier", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		outcome, err = s.pass(&b)
		return err
	})
	return outcome, err
}

// pass is whoever comes last executing a t for all.
func (s *session) pass(b *sink.Barrier) (sink.Outcome, error) {
	own := checkpoint{b.Function, b.Generation, b.Partition}
	at := b.At[b.Partition]
	cp, err := s.check(own, b.After.Version)
	switch {
	case err != nil:
		return sink.Wait, err
	case cp.Version >= at.Version:
		s.reached(own, at.Version)
		return sink.Passed, nil
	}
	before := standing{at: sink.Point{Sequence: at.Sequence - 1, Version: at.Version - 1}}
	for q, t := range b.At {
		sibling, there := s.checkpoints[checkpoint{b.Function, b.Generation, q}]
		if q == b.Partition {
			sibling, there = before, true
		}
		switch {
		case t.Version != 0 && there && sibling.at.Version >= t.Version:
			s.c.count("a barrier was executed already")
			s.checkpoints[own] = standing{at: at}
			s.reached(own, at.Version)
			return sink.Passed, nil
		case t.Version == 0 || !there || sibling.at.Version == 0 || sibling.at.Version != t.Version-1:
			s.c.count("a barrier waits")
			s.checkpoints[own] = before
			s.reached(own, before.at.Version)
			return sink.Wait, nil
		}
	}
	s.c.count("a barrier is executed")
	s.execute(b)
	for q, t := range b.At {
		s.checkpoints[checkpoint{b.Function, b.Generation, q}] = standing{at: t}
	}
	s.reached(own, at.Version)
	return sink.Passed, nil
}

// execute removes rows: all, or at the end of a backfill those that it did not show.
func (s *session) execute(b *sink.Barrier) {
	table := b.Schema.Table
	if b.Cutoff == 0 {
		maps.DeleteFunc(s.rows, func(k rowKey, _ int) bool { return k.table == table })
		return
	}
	begun, ended := s.backfills[table], 0
	whole := len(begun) == len(b.At)
	for _, vs := range begun {
		n, _ := slices.BinarySearch(vs, b.Cutoff+1)
		ended = max(ended, n)
		whole = whole && len(vs) > 0
	}
	if whole && ended > 0 && len(b.Schema.KeyColumns()) > 0 {
		maps.DeleteFunc(s.rows, func(k rowKey, _ int) bool { return k.table == table && s.seen[k] < b.Cutoff })
		s.c.count("the end of a backfill removes what it did not show")
	}
	running := false
	for p, vs := range begun {
		n := min(ended, len(vs))
		running = running || n < len(vs)
		begun[p] = vs[n:]
	}
	if !running {
		maps.DeleteFunc(s.seen, func(k rowKey, _ event.Version) bool { return k.table == table })
	}
}
