package simulation

import (
	"context"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// versioned is a target that guards each row by its version, as Elasticsearch does at each write and ClickHouse when it is read.
type versioned struct {
	witness
	docs map[rowKey]document
}

type document struct {
	version   event.Version
	deleted   bool
	revision  int
	partition int
}

func newVersioned(name string, w *world) *versioned {
	return &versioned{witness: newWitness(name, w), docs: map[rowKey]document{}}
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
	t.docs[k] = document{e.Version, e.Op == event.Delete, t.sees(k, e, false), partition}
}

// sweep leaves tombstones, so that what comes late stays dead.
func (t *versioned) sweep(s sink.Sweep) {
	t.mu.Lock()
	defer t.mu.Unlock()
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
	d, there := t.docs[identity(e)]
	return there && d.version >= e.Version
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
	err := s.p.write(ctx, s.name, "bulk", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range b.Spans {
			for n := range b.Spans[i].Events {
				if s.c.fault("one document fails", s.name) {
					failed.Failed = append(failed.Failed, sink.Failure{Span: i, Event: n, Err: errBusy})
					continue
				}
				s.put(&b.Spans[i].Events[n], b.Spans[i].Partition)
			}
		}
		return nil
	})
	if err == nil && len(failed.Failed) > 0 {
		return &failed
	}
	return err
}

func (s elastic) Sweep(ctx context.Context, w sink.Sweep) error {
	return s.p.write(ctx, s.name, "sweep", func() error {
		s.sweep(w)
		return nil
	})
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
	return s.p.write(ctx, s.name, "insert", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range b.Spans {
			for n := range b.Spans[i].Events {
				s.put(&b.Spans[i].Events[n], b.Spans[i].Partition)
			}
		}
		return nil
	})
}

func (s columns) Sweep(ctx context.Context, w sink.Sweep) error {
	return s.p.write(ctx, s.name, "sweep", func() error {
		s.sweep(w)
		return nil
	})
}
