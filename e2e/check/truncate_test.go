package check_test

import (
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/event"
)

// truncate writes a TRUNCATE into the stream, in two partitions.
func (s *tape) truncate(at time.Time) {
	from := s.log
	s.log++
	p := func(n uint64, part uint32) event.Position {
		return event.Position{Timeline: 1, Commit: 100 + n, Change: n, Part: part}
	}
	for k := range 2 {
		line := event.AppendLine(nil, &event.Change{Op: event.Truncate, Schema: schema, Order: 1, Position: p(s.log, uint32(k)), CommitMS: at.UnixMilli()})
		s.add(&event.Message{Subject: event.Subject("shop", schema.Table, k), Group: event.Group{From: p(from, 0), To: p(s.log, 0), K: k + 1, N: 2}, Data: line})
	}
}

func TestTruncations(t *testing.T) {
	t.Parallel()
	run := func(second int, sure bool) check.Truncation {
		return check.Truncation{Table: "orders", Began: at(second), Ended: at(second + 1), Sure: sure}
	}
	for _, tt := range []struct {
		name   string
		stream []int // seconds
		run    []check.Truncation
		allow  check.Promise
		want   string
	}{
		{"Right", []int{10, 20}, []check.Truncation{run(10, true), run(20, true)}, "", ""},
		{"Unsure", []int{10}, []check.Truncation{run(10, false), run(20, false)}, "", ""},
		{"SureOnesFirst", []int{10}, []check.Truncation{run(9, false), run(10, true)}, "", ""},
		{"Lost", []int{10}, []check.Truncation{run(10, true), run(20, true)}, "", "lost: the TRUNCATE of orders"},
		{"LostBesideAnUnsureOne", []int{10}, []check.Truncation{run(10, true), run(11, true), run(11, false)}, "", "lost: the TRUNCATE of orders"},
		{"LostInADeclaredGap", []int{10}, []check.Truncation{run(10, true), run(20, true)}, check.Lost, ""},
		{"TheSourceWentBack", []int{10}, []check.Truncation{run(10, true), run(20, true)}, check.Backwards, ""},
		{"Invented", []int{10, 20}, []check.Truncation{run(10, true)}, "", "duplicated: the TRUNCATE of orders"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &tape{}
			s.fence(1)
			for _, second := range tt.stream {
				s.truncate(at(second))
			}
			rec := check.NewRecorder(nil)
			if tt.allow != "" {
				rec.Allow(check.Allowance{Promise: tt.allow, From: at(15), Until: at(25), Why: "test"})
			}
			var r check.Report
			err := r.Stream(check.Stream{Source: "shop", Messages: check.Of(s.all), Tables: tables, Truncated: tt.run}, rec.All)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if !r.Kept() {
				got = r.Findings[0].String()
			}
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
