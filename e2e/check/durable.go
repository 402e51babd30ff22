package check

import (
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// mark is what the stream says of a key from a version on.
type mark struct {
	version event.Version
	change  int64 // the newest so far; of a deleted row the last one it had
	deleted bool
}

// sweep is a TRUNCATE or the end of a load in one partition: older rows than the cutoff are gone.
type sweep struct{ version, cutoff event.Version }

type place struct {
	table     string
	partition int
}

// ledger is the stream by table and key, in 24 bytes an event, so that it can be asked what a target must show at a checkpoint.
type ledger struct {
	function string              // whose messages count, beside those for all
	keys     map[string][]string // columns of the tables' keys
	marks    map[place]map[string][]mark
	sweeps   map[place][]sweep
}

func newLedger(function string, keys map[string][]string) *ledger {
	return &ledger{function: function, keys: keys, marks: map[place]map[string][]mark{}, sweeps: map[place][]sweep{}}
}

func (l *ledger) message(m *event.Message, events []event.Event) {
	if m.For != "" && m.For != l.function {
		return
	}
	for i := range events {
		e := &events[i]
		columns := l.keys[e.Table.Name]
		p := place{e.Table.Name, e.Partition}
		switch {
		case columns == nil || e.Op == event.Mark:
		case e.Op == event.Truncate:
			cutoff := e.Cutoff
			if cutoff == 0 {
				cutoff = e.Version
			}
			l.sweeps[p] = append(l.sweeps[p], sweep{e.Version, cutoff})
		default:
			l.add(p, e, columns)
		}
	}
}

func (l *ledger) add(p place, e *event.Event, columns []string) {
	key := make([]string, len(columns))
	for i, c := range columns {
		v, _ := e.Key().Column(c)
		key[i] = v.Text()
	}
	k := strings.Join(key, ",")
	if l.marks[p] == nil {
		l.marks[p] = map[string][]mark{}
	}
	m := mark{version: e.Version, deleted: e.Op == event.Delete}
	if of := l.marks[p][k]; len(of) > 0 {
		m.change = of[len(of)-1].change
	}
	if !m.deleted {
		if v, ok := e.After.Column(changeColumn); ok {
			m.change, _ = v.Int64()
		}
	}
	l.marks[p][k] = append(l.marks[p][k], m)
}

func (l *ledger) end() {}

// changeColumn is the one whose number only grows, of each key.
const changeColumn = "change"

// durable holds the samples of a target against the stream: what lies at or below a checkpoint that was read before is there, or
// something newer.
func (r *Report) durable(l *ledger, all Records, exceptions History, target string) error {
	shows := map[string]map[string]int64{} // table, key: change
	return all.each(func(rec Record) error {
		s := rec.Target
		if s == nil || s.Target != target {
			return nil
		}
		for table, d := range s.Tables {
			if shows[table] == nil {
				shows[table] = map[string]int64{}
			}
			maps.Copy(shows[table], d.Seen)
			for _, k := range d.Gone {
				delete(shows[table], k)
			}
		}
		for _, f := range s.Floors {
			r.Floors++
			for table := range l.keys {
				r.covered(l, place{table, f.Partition}, shows[table], f, s, exceptions)
			}
		}
		return nil
	})
}

// covered looks at all keys of a place.
func (r *Report) covered(l *ledger, p place, shows map[string]int64, f Floor, s *TargetSample, exceptions History) {
	v := event.Version(f.Version)
	marks, seen := l.marks[p], span{began: s.Began, ended: s.Ended}
	for k, of := range marks {
		n := sort.Search(len(of), func(i int) bool { return of[i].version > v })
		if n == 0 {
			continue
		}
		want := of[n-1]
		later := slices.ContainsFunc(of[n:], func(m mark) bool { return m.deleted })
		for _, w := range l.sweeps[p] {
			want.deleted = want.deleted || w.version <= v && w.cutoff > want.version
			later = later || w.version > v
		}
		change, there := shows[k]
		switch {
		case want.deleted && there && change <= want.change:
			r.breach(exceptions, Undurable, s.Target, seen, "%s: %s %s was deleted at or below the floor %d of partition %d, and is there with change %d at %s",
				s.Target, p.table, k, f.Sequence, p.partition, change, clock(s.Ended))
		case !want.deleted && there && change < want.change:
			r.breach(exceptions, Undurable, s.Target, seen, "%s: %s %s shows change %d at %s, and the floor %d of partition %d covers change %d",
				s.Target, p.table, k, change, clock(s.Ended), f.Sequence, p.partition, want.change)
		case !want.deleted && !there && !later:
			r.breach(exceptions, Undurable, s.Target, seen, "%s: %s %s is not there at %s, and the floor %d of partition %d covers change %d",
				s.Target, p.table, k, clock(s.Ended), f.Sequence, p.partition, want.change)
		}
	}
}
