package simulation

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// versioned is a target that guards each row by its version, as Elasticsearch does at each write and ClickHouse when it is read.
type versioned struct {
	witness
	docs   map[rowKey]document
	backup map[rowKey]document
	had    map[rowKey]event.Version // what a restore took, or was forgotten
	boot   int                      // grows when the target starts again: what was on its way is lost
}

type document struct {
	version   event.Version
	deleted   bool
	revision  int
	partition int
}

func newVersioned(name string, w *world) *versioned {
	return &versioned{witness: newWitness(name, w), docs: map[rowKey]document{}, had: map[rowKey]event.Version{}}
}

// put is for mu held.
func (t *versioned) put(e *event.Event, partition int) {
	k := identity(e)
	old, there := t.docs[k]
	if there && e.Version < old.version {
		t.c.count("a version guard refuses an older write")
		return
	}
	if there && e.Version == old.version {
		t.c.count("a write is repeated")
	}
	again := e.Version <= t.had[k]
	if again && !there {
		t.c.count("an event comes again whose row's version is forgotten")
	}
	t.docs[k] = document{e.Version, e.Op == event.Delete, t.sees(k, e, again), partition}
}

// sweep is for mu held. It leaves tombstones, so that what comes late stays dead.
func (t *versioned) sweep(s sink.Sweep) {
	for k, d := range t.docs {
		if k.table == s.Schema.Table && d.partition == s.Partition && d.version < s.Older && !d.deleted {
			t.docs[k] = document{s.Older, true, d.revision, d.partition}
			t.c.count("a sweep removes a row")
		}
	}
}

func (t *versioned) Covers(e *event.Event, _ int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Op == event.Mark {
		return true
	}
	if e.Op == event.Truncate {
		older := cmp.Or(e.Cutoff, e.Version)
		for k, d := range t.docs {
			if k.table == e.Table && d.partition == e.Partition && d.version < older && !d.deleted && t.had[k] == 0 {
				return false
			}
		}
		return true
	}
	k := identity(e)
	d, there := t.docs[k]
	return there && d.version >= e.Version || t.had[k] >= e.Version
}

// Restart ends what is on its way. The shards are opened again, and have forgotten the versions of what is deleted.
func (t *versioned) Restart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.boot++
	for k, d := range t.docs {
		if d.deleted {
			t.had[k] = max(t.had[k], d.version)
			delete(t.docs, k)
		}
	}
	t.h.note(t.name, "starts again, and has forgotten what is deleted")
}

// Backup copies what the target holds.
func (t *versioned) Backup() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.backup = maps.Clone(t.docs)
	t.h.note(t.name, "backup")
}

// Restore brings the copy back, if there is one: versions and floors do not show that rows are old, so an operator must have
// everything read again.
func (t *versioned) Restore() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.backup == nil {
		return false
	}
	for k, d := range t.docs {
		t.had[k] = max(t.had[k], d.version)
	}
	t.docs, t.saw = maps.Clone(t.backup), map[rowKey][]int{}
	t.boot++
	t.c.count("a target without checkpoints is restored to the past")
	t.h.note(t.name, "RESTORED to a backup")
	return true
}

// started is how often the target has started.
func (t *versioned) started() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.boot
}

// write is a write that is lost where the target starts again meanwhile. Its answer may be an error.
func (t *versioned) write(ctx context.Context, p *process, what string, do func(), answer ...error) error {
	boot := t.started()
	return p.write(ctx, t.name, what, func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.boot != boot {
			return errAway
		}
		do()
		return errors.Join(answer...)
	})
}

func (t *versioned) Rows(table event.Table) map[int]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[int]int{}
	for k, d := range t.docs {
		if k.table != table || d.deleted {
			continue
		}
		if id, keyed := strings.CutPrefix(k.key, "["); keyed {
			out[atoi(strings.TrimSuffix(id, "]"))] = d.revision
		} else {
			out[d.revision]++ // told apart below from what is there once
		}
	}
	return out
}

// elastic is a process's handler of the target like Elasticsearch: it answers for each document.
type elastic struct {
	*versioned
	p *process
}

func (s elastic) Handle(ctx context.Context, b sink.Batch) error {
	s.p.w.o.Write(s.p, b)
	b = kept(b)
	var failed sink.BatchError
	err := s.write(ctx, s.p, "bulk", func() {
		for i := range b.Spans {
			for n := range b.Spans[i].Events {
				if s.refuses(&b.Spans[i].Events[n]) {
					failed.Failed = append(failed.Failed, sink.Failure{Span: i, Event: n, Err: sink.Permanent(errRefused)})
					continue
				}
				if s.c.fault("one document fails", s.name) {
					failed.Failed = append(failed.Failed, sink.Failure{Span: i, Event: n, Err: errBusy})
					continue
				}
				s.put(&b.Spans[i].Events[n], b.Spans[i].Partition)
			}
		}
	})
	if err == nil && len(failed.Failed) > 0 {
		return &failed
	}
	return err
}

func (s elastic) Sweep(ctx context.Context, w sink.Sweep) error {
	return s.write(ctx, s.p, "sweep", func() { s.sweep(w) })
}

// columns is a process's handler of the target like ClickHouse: one insert for all partitions.
type columns struct {
	*versioned
	p *process
}

func (s columns) Combine() {}

func (s columns) Handle(ctx context.Context, b sink.Batch) error {
	s.p.w.o.Write(s.p, b)
	b = kept(b)
	if len(b.Spans) > 1 {
		s.c.count("spans of several partitions are written together")
	}
	for i := range b.Spans {
		if slices.ContainsFunc(b.Spans[i].Events, func(e event.Event) bool { return s.refuses(&e) }) {
			return s.write(ctx, s.p, "insert that cannot be", func() {}, sink.Permanent(errRefused)) // it does not say which one
		}
	}
	return s.write(ctx, s.p, "insert", func() {
		for i := range b.Spans {
			for n := range b.Spans[i].Events {
				s.put(&b.Spans[i].Events[n], b.Spans[i].Partition)
			}
		}
	})
}

func (s columns) Sweep(ctx context.Context, w sink.Sweep) error {
	return s.write(ctx, s.p, "sweep", func() { s.sweep(w) })
}
