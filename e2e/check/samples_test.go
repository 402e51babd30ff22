package check_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/event"
)

// look is a sample of the warehouse's orders.
func look(second int, newest int64, seen map[string]int64, gone ...string) check.Record {
	return check.Record{Target: &check.TargetSample{
		Target: "warehouse", Began: at(second), Ended: at(second), Newest: newest,
		Tables: map[string]check.Delta{"orders": {Seen: seen, Gone: gone}},
	}}
}

func allow(p check.Promise, target string, from, until int) check.Record {
	return check.Record{Allow: &check.Allowance{Promise: p, Target: target, From: at(from), Until: at(until), Why: "a store was restored"}}
}

type rows = map[string]int64

func TestBackwards(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		want int
		h    check.History
	}{
		{"Grows", 0, check.History{look(1, 9, rows{"1": 7, "2": 9}), look(2, 10, rows{"1": 10}), look(3, 10, nil, "1"), look(4, 11, rows{"1": 11})}},
		{"Older", 1, check.History{look(1, 9, rows{"1": 7, "2": 9}), look(2, 9, rows{"1": 6})}},
		{"OlderThanBeforeItWasGone", 1, check.History{look(1, 9, rows{"1": 7, "2": 9}), look(2, 9, nil, "1"), look(3, 9, rows{"1": 6})}},
		{"BackFromTheDead", 1, check.History{look(1, 9, rows{"1": 7, "2": 9}), look(2, 9, nil, "1"), look(3, 9, rows{"1": 7})}},
		{"Declared", 0, check.History{allow(check.Backwards, "", 3, 4), look(1, 9, rows{"1": 7}), look(3, 6, rows{"1": 6}), look(5, 8, rows{"1": 8})}},
		{"DeclaredBetweenTwoLooks", 0, check.History{look(1, 9, rows{"1": 7}), look(5, 6, rows{"1": 6}), allow(check.Backwards, "warehouse", 2, 3)}},
		{"NewBeginning", 1, check.History{allow(check.Backwards, "", 2, 3), look(1, 9, rows{"1": 7}), look(2, 5, rows{"1": 5}), look(4, 6, rows{"1": 6}), look(5, 5, rows{"1": 5})}},
		{"GapInTheStream", 1, check.History{{Gap: &check.Gap{First: 1, Last: 99}}, look(1, 9, rows{"1": 7}), look(2, 6, rows{"1": 6})}},
		{"DeclaredOfAnother", 1, check.History{allow(check.Backwards, "search", 1, 9), look(1, 9, rows{"1": 7}), look(2, 6, rows{"1": 6})}},
		{"DeclaredLater", 1, check.History{allow(check.Backwards, "", 4, 9), look(1, 9, rows{"1": 7}), look(2, 6, rows{"1": 6})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var r check.Report
			if err := r.Samples(c.h.All); err != nil {
				t.Fatal(err)
			}
			if got := r.Count(check.Backwards); got != c.want || len(r.Findings) != c.want {
				t.Errorf("got %d, want %d: %v", got, c.want, r.Err())
			}
		})
	}
}

// source is a sample of the source each second: change 10 a second, the log 100, confirmed a second behind.
func source(second int) *check.SourceSample {
	return &check.SourceSample{At: at(second), Newest: int64(10 * second), Log: uint64(100 * second), Confirmed: uint64(max(100*second-100, 1)), Reached: uint64(100 * second)}
}

func TestIsolation(t *testing.T) {
	t.Parallel()
	run := func(warehouse func(second int) int64, change func(s *check.SourceSample, second int)) check.History {
		h := check.History{{Away: &check.Away{Target: "search", From: at(10), Until: at(30), Bound: 5 * time.Second}}}
		for second := range 40 {
			s := source(second)
			if change != nil {
				change(s, second)
			}
			search := check.TargetSample{Target: "search", Began: at(second), Ended: at(second), Newest: 100}
			h = append(h, check.Record{Source: s}, look(second, warehouse(second), nil), check.Record{Target: &search})
		}
		return h
	}
	for _, c := range []struct {
		name, want string
		h          check.History
	}{
		{"OthersGoOn", "", run(func(s int) int64 { return int64(10*s - 30) }, nil)},
		{"Delayed", "warehouse at", run(func(s int) int64 { return int64(min(10*s, 140)) }, nil)},
		{"DelayedAtOtherTimes", "", run(func(s int) int64 {
			if s < 12 || s > 30 {
				return 0
			}
			return int64(10 * s)
		}, nil)},
		{"RowsAreDeleted", "", run(func(s int) int64 { return int64(10 * max(0, s-3) % 100) }, func(s *check.SourceSample, second int) { s.Newest = int64(10 * second % 100) })},
		{"SlotStands", "the slot at", run(func(s int) int64 { return int64(10 * s) }, func(s *check.SourceSample, second int) { s.Confirmed = min(s.Confirmed, 1000) })},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var r check.Report
			if err := r.Samples(c.h.All); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(r.Findings); c.want == "" && !r.Kept() || !strings.Contains(got, c.want) || r.Count(check.Delayed) != len(r.Findings) || len(r.Findings) > 1 {
				t.Errorf("got %s, want %q", got, c.want)
			}
		})
	}
}

func TestSlotAheadOfTheStream(t *testing.T) {
	t.Parallel()
	ahead := *source(3)
	ahead.Confirmed = ahead.Reached + 1
	unread := ahead
	unread.Reached = 0
	for _, c := range []struct {
		name string
		want int
		h    check.History
	}{
		{"Behind", 0, check.History{{Source: source(3)}}},
		{"Ahead", 1, check.History{{Source: &ahead}}},
		{"AheadBesideAGap", 1, check.History{{Source: &ahead}, {Gap: &check.Gap{First: 1, Last: 99}}}},
		{"Declared", 0, check.History{{Source: &ahead}, allow(check.Undurable, "", 2, 4)}},
		{"StreamAway", 0, check.History{{Source: &unread}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var r check.Report
			if err := r.Samples(c.h.All); err != nil {
				t.Fatal(err)
			}
			if got := r.Count(check.Undurable); got != c.want {
				t.Errorf("got %d, want %d: %v", got, c.want, r.Err())
			}
		})
	}
}

// The checkpoint covers the first three changes of the stream: order 1 at change 2, then deleted.
func TestDurable(t *testing.T) {
	t.Parallel()
	s := right()
	w := s.writer
	floor := func(rec check.Record, changes int) check.History {
		sequence := w.Base + uint64(changes)
		rec.Target.Floors = []check.Floor{{Partition: 0, Sequence: sequence, Version: int64(w.Version(sequence, 1))}}
		return check.History{rec}
	}
	for _, c := range []struct {
		name, want string
		h          check.History
	}{
		{"Reached", "", floor(look(1, 2, rows{"1": 2}), 2)},
		{"Ahead", "", floor(look(1, 2, rows{"1": 2}), 1)},
		{"DeletedSince", "", floor(look(1, 2, nil), 2)},
		{"Behind", "shows change 1", floor(look(1, 2, rows{"1": 1}), 2)},
		{"Declared", "", append(floor(look(1, 2, rows{"1": 1}), 2), allow(check.Undurable, "warehouse", 0, 2))},
		{"NotDeleted", "was deleted", floor(look(1, 2, rows{"1": 2}), 3)},
		{"Missing", "orders 5 is not there", func() check.History {
			h := floor(look(1, 2, nil), 4)
			h[0].Target.Tables["orders"] = check.Delta{}
			return h
		}()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stream := s.all
			if c.name == "Missing" { // nothing deletes order 5 later
				stream = stream[:len(stream)-1]
			}
			r := judged(t, stream, c.h)
			got := fmt.Sprint(r.Findings)
			if want := c.want; (r.Count(check.Undurable) > 0) != (want != "") || !strings.Contains(got, want) {
				t.Errorf("got %s, want %q", got, want)
			}
			if r.Floors != 1 {
				t.Errorf("%d floors were judged", r.Floors)
			}
		})
	}
}

// A TRUNCATE at or below the checkpoint: rows from before must be gone, later ones not.
func TestDurableAfterTruncate(t *testing.T) {
	t.Parallel()
	s := &tape{}
	s.fence(1)
	s.change(event.Create, 7, nil, row(1, 1, 1))
	s.change(event.Truncate, 8, nil, nil)
	s.change(event.Create, 9, nil, row(2, 1, 2))
	h := func(seen rows) check.History {
		rec := look(1, 2, seen)
		rec.Target.Floors = []check.Floor{{Sequence: s.end, Version: int64(s.writer.Version(s.end, 1))}}
		return check.History{rec}
	}
	for _, c := range []struct {
		name string
		want int
		seen rows
	}{{"Right", 0, rows{"2": 2}}, {"StillThere", 1, rows{"1": 1, "2": 2}}, {"GoneToo", 1, nil}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if r := judged(t, s.all, h(c.seen)); r.Count(check.Undurable) != c.want {
				t.Errorf("want %d: %v", c.want, r.Err())
			}
		})
	}
}

// A load's end at or below the checkpoint: older rows than its cutoff must be gone, others not.
func TestDurableAfterALoad(t *testing.T) {
	t.Parallel()
	s := &tape{}
	s.fence(1)
	s.change(event.Create, 7, nil, row(1, 1, 1))
	s.change(event.Create, 7, nil, row(2, 1, 2))
	s.sweep(s.writer.Version(s.end, 1)) // it has shown row 2
	for _, c := range []struct {
		name string
		want int
		seen rows
	}{{"Right", 0, rows{"2": 2}}, {"StillThere", 1, rows{"1": 1, "2": 2}}, {"GoneToo", 1, nil}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rec := look(1, 2, c.seen)
			rec.Target.Floors = []check.Floor{{Sequence: s.end, Version: int64(s.writer.Version(s.end, 1))}}
			if r := judged(t, s.all, check.History{rec}); r.Count(check.Undurable) != c.want {
				t.Errorf("want %d: %v", c.want, r.Err())
			}
		})
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	table := *orders
	table.Rows = map[string]map[string]string{"1": {"id": "1", "n": "1", "change": "1"}, "2": {"id": "2", "n": "1", "change": "2"}}
	var r check.Report
	r.Equal(&table, "warehouse", table.Rows)
	if !r.Kept() {
		t.Errorf("equal rows: %v", r.Err())
	}
	r.Equal(&table, "warehouse", map[string]map[string]string{"1": {"id": "1", "n": "2", "change": "3"}, "3": {}})
	if r.Count(check.Differing) != 3 { // one is different in two columns, one is missing, one is too many
		t.Errorf("got %v", r.Err())
	}
}

// A sampler records what is different, what is gone, and the floors that it read first; a failed run can be judged again.
func TestSampler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file, err := os.Create(t.TempDir() + "/history.jsonl")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		recorder := check.NewRecorder(file)
		looks := []check.Rows{{"orders": {"1": 1, "2": 2}}, nil, {"orders": {"1": 3}}}
		var order []string
		ctx, cancel := context.WithCancel(t.Context())
		s := check.Sampler{Recorder: recorder, Target: "warehouse", Every: time.Second,
			Floors: func(context.Context) ([]check.Floor, error) {
				order = append(order, "floors")
				return []check.Floor{{Partition: 3, Sequence: 7, Version: 9}}, nil
			},
			Rows: func(context.Context) (check.Rows, error) {
				order = append(order, "rows")
				rows := looks[0]
				if looks = looks[1:]; len(looks) == 0 {
					cancel()
				}
				if rows == nil {
					return nil, errors.New("the target is away")
				}
				return rows, nil
			}}
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		got := history(t, recorder.All)
		if len(got) != 2 || got[1].Target.Newest != 3 {
			t.Fatalf("got %+v", got)
		}
		if diff := cmp.Diff(check.Delta{Seen: rows{"1": 3}, Gone: []string{"2"}}, got[1].Target.Tables["orders"]); diff != "" {
			t.Error(diff)
		}
		if got := strings.Join(order, " "); got != "floors rows floors rows floors rows" {
			t.Error(got)
		}
		if _, err := file.WriteString(`{"target":{"tar`); err != nil { // the run was killed
			t.Fatal(err)
		}
		read := history(t, check.Recorded(file))
		if diff := cmp.Diff(got, read, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
			t.Error(diff)
		}
	})
}

func history(t *testing.T, all check.Records) (h check.History) {
	t.Helper()
	if err := all(func(rec check.Record) error { h = append(h, rec); return nil }); err != nil {
		t.Fatal(err)
	}
	return h
}

// In memory and in a file the same is recorded, and the memory of the second does not grow with what targets show.
func TestRecorder(t *testing.T) {
	t.Parallel()
	file, err := os.Create(t.TempDir() + "/history.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	inMemory, inFile := check.NewRecorder(nil), check.NewRecorder(file)
	for _, r := range []*check.Recorder{inMemory, inFile} {
		r.Add(look(1, 2, rows{"1": 2}))
		r.Add(check.Record{Source: source(2)})
		r.Gap(check.Gap{First: 1, Last: 2, From: at(1), Until: at(2)})
		r.Away(check.Away{Target: "search", From: at(1), Until: at(2)})
	}
	if diff := cmp.Diff(history(t, inMemory.All), history(t, inFile.All), cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
		t.Error(diff)
	}
	if n := len(inFile.Source()); n != 1 {
		t.Errorf("%d samples of the source, want 1", n)
	}
	rec := look(3, 3, rows{"1": 3})
	kept := weak.Make(rec.Target)
	inFile.Add(rec)
	rec = check.Record{}
	for end := time.Now().Add(30 * time.Second); kept.Value() != nil; runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("a sample of a target stays in memory")
		}
	}
	if n := len(history(t, inFile.All)); n != 5 {
		t.Errorf("%d records, want 5", n)
	}
}
