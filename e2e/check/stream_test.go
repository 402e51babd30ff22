package check_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/runtime/event"
)

// start is when everything of these tests begins.
var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func at(second int) time.Time { return start.Add(time.Duration(second) * time.Second) }

var (
	orders = &equal.Table{Name: "orders", Key: []string{"id"}, Columns: []string{"id", "n", "change"}, Types: map[string]string{"id": "bigint", "n": "numeric", "change": "bigint"}}
	tables = map[string]*equal.Table{"orders": orders}
	schema = event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"},
		[]event.Column{{Name: "id", Type: "bigint", Key: 1}, {Name: "n", Type: "numeric"}, {Name: "change", Type: "bigint"}})
)

func row(id, n, change int) []byte {
	return fmt.Appendf(nil, `{"id":%d,"n":%d,"change":%d}`, id, n, change)
}

func key(id int) []byte { return fmt.Appendf(nil, `{"id":%d}`, id) }

// tape writes a stream.
type tape struct {
	all    []*event.Message
	writer event.Writer
	end    uint64
	log    uint64 // of the last change
}

// fence begins with a new writer.
func (s *tape) fence(epoch uint32) {
	s.writer = event.Writer{Epoch: epoch, Base: s.end + event.FenceMarkers}
	for range event.FenceMarkers {
		s.add(&event.Message{Subject: event.FenceSubject("shop")})
	}
}

func (s *tape) add(m *event.Message) {
	s.end++
	m.Sequence, m.Writer, m.TimeMS = s.end, s.writer, at(int(s.end)).UnixMilli()
	s.all = append(s.all, m)
}

// change writes the next change of the log, which is transaction tx; all rows lie in one partition.
func (s *tape) change(op event.Op, tx uint64, before, after []byte) {
	from := s.log
	s.log++
	s.again(op, tx, from, s.log, before, after)
}

func (s *tape) again(op event.Op, tx, from, to uint64, before, after []byte) {
	p := func(n uint64) event.Position { return event.Position{Timeline: 1, Commit: 100, Change: n} }
	line := event.AppendLine(nil, &event.Change{Op: op, Schema: schema, Before: before, After: after, TxID: tx, Order: 1, Position: p(to), CommitMS: at(int(to)).UnixMilli()})
	s.add(&event.Message{Subject: event.Subject("shop", schema.Table, 0), Group: event.Group{From: p(from), To: p(to), K: 1, N: 1}, Data: line})
}

// pack makes one group of the last messages, which are taken by two subjects in turn.
func (s *tape) pack(n int) {
	packed := slices.Clone(s.all[len(s.all)-n:])
	s.all, s.end = s.all[:len(s.all)-n], s.end-uint64(n)
	for p := range 2 {
		m := &event.Message{Subject: event.Subject("shop", schema.Table, p), Group: event.Group{From: packed[0].Group.From, To: packed[n-1].Group.To, K: p + 1, N: 2}}
		for i := p; i < n; i += 2 {
			m.Data = append(m.Data, packed[i].Data...)
		}
		s.add(m)
	}
}

// sweep writes the end of a load: what is older than the cutoff was not shown by it.
func (s *tape) sweep(cutoff event.Version) {
	p := event.Position{Timeline: 1, Commit: 100, Change: s.log}
	line := event.AppendLine(nil, &event.Change{Op: event.Truncate, Schema: schema, Position: p, Snapshot: true, Cutoff: cutoff})
	s.add(&event.Message{Subject: event.Subject("shop", schema.Table, 0), Group: event.Group{From: p, To: p, K: 1, N: 1}, Data: line})
}

// right is what the journal says.
func right() *tape {
	s := &tape{}
	s.fence(1)
	s.change(event.Create, 7, nil, row(1, 1, 1))
	s.change(event.Update, 7, nil, row(1, 2, 2))
	s.change(event.Delete, 8, key(1), nil)
	s.change(event.Create, 8, nil, row(5, 2, 3))
	s.change(event.Delete, 9, key(5), nil)
	return s
}

// behindAMark says how far the log was read, and then less; the newest change lies before both.
func behindAMark(another bool) *tape {
	s := right()
	s.log += 10
	s.sweep(0)
	if another {
		s.fence(2)
	}
	s.log -= 5
	s.sweep(0)
	return s
}

func journal() []check.Entry {
	return []check.Entry{
		{ID: 1, XID: 7, At: at(1), Op: "i", Table: "orders", New: row(1, 1, 1)},
		{ID: 2, XID: 7, At: at(1), Op: "u", Table: "orders", Old: row(1, 1, 1), New: []byte(`{"id":1,"n":2.0,"change":2}`)},
		{ID: 3, XID: 8, At: at(3), Op: "u", Table: "orders", Old: row(1, 2, 2), New: row(5, 2, 3)},
		{ID: 4, XID: 9, At: at(5), Op: "d", Table: "orders", Old: row(5, 2, 3)},
	}
}

// A checker that finds nothing proves nothing: each kind of violation is planted.
func TestStreamFindsWhatIsPlanted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, counts, text string
		stream             func() *tape
	}{
		{"Right", "lost=0 duplicated=0 disordered=0", "", right},
		{"Group", "lost=0 duplicated=0 disordered=0", "", func() *tape {
			s := right()
			s.pack(5)
			return s
		}},
		{"OrderInAGroup", "lost=0 duplicated=0 disordered=2", "change 1 is u of orders 1, want c of orders 1", func() *tape {
			s := &tape{}
			s.fence(1)
			s.change(event.Update, 7, nil, row(1, 2, 2))
			s.change(event.Create, 7, nil, row(1, 1, 1))
			s.change(event.Delete, 8, key(1), nil)
			s.change(event.Create, 8, nil, row(5, 2, 3))
			s.change(event.Delete, 9, key(5), nil)
			s.pack(5)
			return s
		}},
		{"Gap", "lost=1 duplicated=0 disordered=0", "d of orders 5 is not in the stream", func() *tape {
			s := right()
			s.all = s.all[:len(s.all)-1]
			return s
		}},
		{"GapOfATransaction", "lost=2 duplicated=0 disordered=0", "transaction 8: d of orders 1 is not in the stream", func() *tape {
			s := right()
			s.all = slices.Delete(s.all, len(s.all)-3, len(s.all)-1)
			return s
		}},
		{"Duplicate", "lost=0 duplicated=2 disordered=0", "was stored before", func() *tape { // seen by its position and by its transaction
			s := right()
			s.again(event.Delete, 9, 4, 5, key(5), nil)
			return s
		}},
		{"Order", "lost=0 duplicated=0 disordered=3", "change 1 is u of orders 1, want c of orders 1", func() *tape {
			s := &tape{}
			s.fence(1)
			s.again(event.Update, 7, 1, 2, nil, row(1, 2, 2))
			s.again(event.Create, 7, 0, 1, nil, row(1, 1, 1))
			s.log = 2
			s.change(event.Delete, 8, key(1), nil)
			s.change(event.Create, 8, nil, row(5, 2, 3))
			s.change(event.Delete, 9, key(5), nil)
			return s
		}},
		{"Value", "disordered=0 backwards=0 differing=1", "n is 3, want 2", func() *tape {
			s := right()
			s.all[event.FenceMarkers+1] = func() *event.Message {
				o := &tape{writer: s.writer, end: event.FenceMarkers + 1, log: 1}
				o.change(event.Update, 7, nil, row(1, 3, 2))
				return o.all[0]
			}()
			return s
		}},
		{"Phantom", "lost=0 duplicated=1 disordered=0", "not in the journal", func() *tape {
			s := right()
			s.change(event.Create, 10, nil, row(9, 9, 4))
			return s
		}},
		{"BehindAMark", "lost=0 duplicated=0 disordered=1", "goes back behind", func() *tape { return behindAMark(false) }},
		{"BehindAMarkOfAnotherWriter", "lost=0 duplicated=0 disordered=0", "", func() *tape { return behindAMark(true) }},
		{"GroupNotComplete", "lost=1 duplicated=0 disordered=0", "was never completed", func() *tape {
			s := right()
			s.all[len(s.all)-1].Group.N = 2
			return s
		}},
		{"GroupCutShort", "lost=1 duplicated=0 disordered=0", "follows the incomplete", func() *tape {
			s := right()
			s.all[len(s.all)-2].Group.N = 2
			return s
		}},
		{"GroupWithoutBeginning", "lost=1 duplicated=0 disordered=0", "without its beginning", func() *tape {
			s := right()
			last := s.all[len(s.all)-1]
			last.Group.K, last.Group.N = 2, 2
			return s
		}},
		{"BeforeItsGroup", "lost=0 duplicated=0 disordered=1", "is not in its place", func() *tape {
			s := right()
			last := s.all[len(s.all)-1]
			last.Group.From = last.Group.To
			return s
		}},
		{"BehindItsGroup", "lost=0 duplicated=0 disordered=1", "is not in its place", func() *tape {
			s := right()
			last := s.all[len(s.all)-1]
			last.Group.To = last.Group.From
			return s
		}},
		{"VersionsGoBack", "disordered=1", "is not above", func() *tape {
			s := right()
			s.all[len(s.all)-1].Sequence = s.all[len(s.all)-2].Sequence
			return s
		}},
		{"Undecodable", "lost=2", "cannot be decoded", func() *tape {
			s := right()
			s.all[len(s.all)-1].Data = []byte("{}")
			return s
		}},
		{"TwoWriters", "interleaved=0", "", func() *tape {
			s := right()
			s.fence(2)
			return s
		}},
		{"NoFence", "interleaved=2", "without a fence", func() *tape {
			s := right()
			s.writer = event.Writer{Epoch: 2, Base: s.end}
			last := s.all[len(s.all)-1]
			last.Writer = s.writer
			return s
		}},
		{"PartOfAFence", "interleaved=1", "has 511 markers", func() *tape {
			s := &tape{}
			s.fence(1)
			o := right()
			s.all = append(s.all[:event.FenceMarkers-1], o.all[event.FenceMarkers:]...)
			return s
		}},
		{"MarkerOutOfPlace", "interleaved=1", "out of its place", func() *tape {
			s := right()
			last := len(s.all)
			s.fence(2)
			for _, m := range s.all[last+1:] { // something lies between the first marker and the others
				m.Sequence++
			}
			return s
		}},
		{"Zombie", "interleaved=1", "after messages of", func() *tape {
			s := right()
			zombie := s.writer
			last := s.all[len(s.all)-1]
			s.all = s.all[:len(s.all)-1]
			s.end--
			s.fence(2)
			last.Sequence, last.Writer = s.end+1, zombie
			s.all = append(s.all, last)
			return s
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := judged(t, c.stream().all, nil)
			if !strings.Contains(r.String(), c.counts) || c.text == "" && !r.Kept() || !strings.Contains(fmt.Sprint(r.Findings), c.text) {
				t.Errorf("got %s, want %s and %q\n%v", r, c.counts, c.text, r.Err())
			}
		})
	}
}

func judged(t *testing.T, stream []*event.Message, h check.History) *check.Report {
	t.Helper()
	var r check.Report
	err := r.Stream(check.Stream{Source: "shop", Messages: check.Of(stream), Journal: check.EntriesOf(journal()), Tables: tables, Targets: map[string]string{"warehouse": "warehouse"}}, h.All)
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

// Where more transactions differ than are read again, the number of their changes tells.
func TestStreamFindsManyDifferences(t *testing.T) {
	t.Parallel()
	s, entries := &tape{}, []check.Entry(nil)
	s.fence(1)
	want := map[check.Promise]int{}
	for n := range 2000 {
		tx := uint64(n + 1)
		entries = append(entries, check.Entry{ID: int64(2*n + 1), XID: tx, At: at(n), Op: "i", Table: "orders", New: row(n, 1, 1)},
			check.Entry{ID: int64(2*n + 2), XID: tx, At: at(n), Op: "u", Table: "orders", Old: row(n, 1, 1), New: row(n, 2, 2)})
		s.change(event.Create, tx, nil, row(n, 1, 1))
		switch n % 3 {
		case 0:
			want[check.Lost]++
		case 1:
			s.change(event.Update, tx, nil, row(n, 3, 2))
			want[check.Differing]++
		case 2:
			s.change(event.Update, tx, nil, row(n, 2, 2))
			s.change(event.Update, tx, nil, row(n, 2, 2))
			want[check.Duplicated]++
		}
	}
	var r check.Report
	if err := r.Stream(check.Stream{Source: "shop", Messages: check.Of(s.all), Journal: check.EntriesOf(entries), Tables: tables}, nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range check.Promises {
		if r.Count(p) != want[p] {
			t.Errorf("%s: got %d, want %d", p, r.Count(p), want[p])
		}
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	s := right()
	var ids []string
	for n := range s.log {
		ids = append(ids, event.Position{Timeline: 1, Commit: 100, Change: n + 1}.ID())
	}
	for _, c := range []struct {
		name, want string
		committed  []string
	}{
		{"Right", "", ids},
		{"Lost", "lost: change", append(slices.Clone(ids), event.Position{Timeline: 1, Commit: 200}.ID())},
		{"Invented", "was never committed", ids[1:]},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := check.Complete(s.all[event.FenceMarkers:], c.committed)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Fold follows deletes, a TRUNCATE, and the end of a load, which removes what is older than its cutoff.
func TestFold(t *testing.T) {
	t.Parallel()
	schemas := func(event.Table, string) (*event.Schema, error) { return schema, nil }
	for _, c := range []struct {
		name, want string
		more       func(s *tape)
	}{
		{"Rows", "[1 2]", func(*tape) {}},
		{"Delete", "[2]", func(s *tape) { s.change(event.Delete, 9, key(1), nil) }},
		{"Truncate", "[3]", func(s *tape) {
			s.change(event.Truncate, 9, nil, nil)
			s.change(event.Create, 9, nil, row(3, 1, 3))
		}},
		{"EndOfALoad", "[2 3]", func(s *tape) {
			s.change(event.Create, 9, nil, row(3, 1, 3))
			s.sweep(s.writer.Version(s.end-1, 1)) // where row 2 was written
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &tape{}
			s.fence(1)
			s.change(event.Create, 7, nil, row(1, 1, 1))
			s.change(event.Create, 7, nil, row(2, 1, 2))
			c.more(s)
			state, err := check.Fold(s.all[event.FenceMarkers:], schemas)
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, text := range state[schema.Table] {
				v, _ := event.RowOf([]byte(text)).Column("id")
				id, _ := v.Int64()
				got = append(got, id)
			}
			slices.Sort(got)
			if fmt.Sprint(got) != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
}

// What a run declares is no breach, and only that.
func TestAllowedInTheStream(t *testing.T) {
	t.Parallel()
	gap := right()
	gap.all = slices.Delete(gap.all, event.FenceMarkers+2, event.FenceMarkers+4) // transaction 8, at second 3
	again := right()
	again.fence(2)
	again.again(event.Delete, 9, 4, 5, key(5), nil)
	lost := func(from, until int) check.History {
		return check.History{{Allow: &check.Allowance{Promise: check.Lost, From: at(from), Until: at(until), Why: "--resnapshot"}}}
	}
	twice := check.History{ // the change is of second 5, and is stored once more after the second fence
		{Allow: &check.Allowance{Promise: check.Duplicated, From: at(4), Until: at(6), Why: "--resnapshot"}},
		{Allow: &check.Allowance{Promise: check.Duplicated, From: at(int(again.end)), Why: "--resnapshot"}},
		{Allow: &check.Allowance{Promise: check.Disordered, From: at(int(again.end)), Why: "--resnapshot"}},
	}
	for _, c := range []struct {
		name   string
		stream *tape
		h      check.History
		want   string
	}{
		{"Gap", gap, nil, "lost=2 "},
		{"DeclaredGap", gap, lost(2, 4), "lost=0 "},
		{"DeclaredElsewhere", gap, lost(4, 9), "lost=2 "},
		{"DeclaredOfAnotherPromise", gap, check.History{{Allow: &check.Allowance{Promise: check.Duplicated}}}, "lost=2 "},
		{"GapByEntries", gap, check.History{{Gap: &check.Gap{First: 3, Last: 3}}}, "lost=0 "},
		{"GapByOtherEntries", gap, check.History{{Gap: &check.Gap{First: 4, Last: 9}}}, "lost=2 "},
		{"GapWhereTheLogGoesBack", again, check.History{{Gap: &check.Gap{First: 4, Last: 4, From: at(int(again.end))}}}, "lost=0 duplicated=0 disordered=0 "},
		{"Again", again, nil, "duplicated=2 "},
		{"DeclaredAgain", again, twice, "lost=0 duplicated=0 disordered=0 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := judged(t, c.stream.all, c.h)
			if !strings.Contains(r.String(), c.want) {
				t.Errorf("got %s, want %s\n%v", r, c.want, r.Err())
			}
		})
	}
}
