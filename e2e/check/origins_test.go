package check_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Servers of MySQL: the second one's name sorts below the first one's.
const (
	firstServer  = "8e11fa47-71ca-11e1-9e33-c80aa9429562"
	secondServer = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
)

// gtid is a transaction of a server, with its rows' changes in the stream.
type gtid struct {
	origin string
	number uint64
	rows   []int // change; below 0: the row with this change is deleted
}

func (g gtid) end() event.Position { return event.Position{Origin: g.origin, Commit: g.number} }

// replicated writes a stream of transactions as MySQL's come: by GTID, and without a number of their own.
func replicated(all ...gtid) *tape {
	s := &tape{}
	s.fence(1)
	var from event.Position
	for _, g := range all {
		for i, change := range g.rows {
			p := event.Position{Origin: g.origin, Commit: g.number, Change: uint64(i + 1)}
			c := event.Change{Op: event.Create, Schema: schema, After: row(change, 1, change), Order: int64(i + 1), Position: p, CommitMS: at(int(s.end)).UnixMilli()}
			if change < 0 {
				c.Op, c.Before, c.After = event.Delete, key(-change), nil
			}
			s.add(&event.Message{Subject: event.Subject("shop", schema.Table, 0), Group: event.Group{From: from, To: p, K: 1, N: 1}, Data: event.AppendLine(nil, &c)})
			from = p
		}
		from = g.end()
	}
	return s
}

// noted is what the journal says of transactions: a number of its own for each.
func noted(all ...gtid) []check.Entry {
	var entries []check.Entry
	for tx, g := range all {
		for _, change := range g.rows {
			e := check.Entry{ID: int64(len(entries) + 1), XID: uint64(7000 + tx), At: at(len(entries)), Op: "i", Table: "orders", Change: int64(change)}
			if change < 0 {
				e.Op, e.Change, e.Old = "d", 0, row(-change, 1, -change)
			} else {
				e.New = row(change, 1, change)
			}
			entries = append(entries, e)
		}
	}
	return entries
}

// Past a failover transactions have another server's name, which says nothing of their order; and those of the journal are found by what
// they changed.
func TestTransactionsByGTID(t *testing.T) {
	t.Parallel()
	a, b := gtid{firstServer, 41, []int{1, 2, 3}}, gtid{firstServer, 42, []int{-2, 4}}
	c, d := gtid{secondServer, 1, []int{5, -1}}, gtid{secondServer, 2, []int{6}}
	maria := func(server int, number uint64, rows ...int) gtid {
		return gtid{fmt.Sprintf("0-%d", server), number, rows}
	}
	for _, tt := range []struct {
		name   string
		stream []gtid
		noted  []gtid
		want   string // beginning of the first finding
	}{
		{"Right", []gtid{a, b, c, d}, []gtid{a, b, c, d}, ""},
		{"RightOnMariaDB", []gtid{maria(9, 10, 1), maria(9, 11, 2), maria(2, 12, 3)}, []gtid{{rows: []int{1}}, {rows: []int{2}}, {rows: []int{3}}}, ""},
		{"Lost", []gtid{a, c, d}, []gtid{a, b, c, d}, "lost: transaction "},
		{"LostInTheMidst", []gtid{a, {firstServer, 42, []int{4}}, c}, []gtid{a, b, c}, "lost: transaction "},
		{"Invented", []gtid{a, b, c, {secondServer, 3, []int{99}}}, []gtid{a, b, c}, "duplicated: transaction "},
		{"Twice", []gtid{a, b, {secondServer, 1, b.rows}}, []gtid{a, b}, "duplicated: transaction "},
		{"TwiceByItsPosition", []gtid{a, b, a}, []gtid{a, b}, "duplicated: message "},
		{"Disordered", []gtid{a, {firstServer, 42, []int{4, -2}}}, []gtid{a, b}, "disordered: transaction "},
		{"BackOnOneServer", []gtid{b, a}, []gtid{a, b}, "disordered: message "},
		{"BackAfterTheFailover", []gtid{a, d, c}, []gtid{a, d, c}, "disordered: message "},
		{"BackInADomain", []gtid{maria(9, 11, 1), maria(2, 10, 2)}, []gtid{{rows: []int{1}}, {rows: []int{2}}}, "disordered: message "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r check.Report
			err := r.Stream(check.Stream{Source: "shop", Messages: check.Of(replicated(tt.stream...).all), Journal: check.EntriesOf(noted(tt.noted...)), Tables: tables}, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if !r.Kept() {
				got = r.Findings[0].String()
			}
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q: %s", got, tt.want, &r)
			}
		})
	}
}
