package mysql

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
)

const (
	uuidA = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuidB = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
)

// TestProgress: what is read of the log, step by step, as it is recorded; read again, it is the same.
func TestProgress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		kind  kind
		from  string
		ended []ended
		since []event.Position
		want  string
		start string // what the server may leave out
	}{
		{"MySQL", uuidSets, uuidA + ":1-5", []ended{{gtid: gtid{uuidA, 6}, at: 60}, {gtid: gtid{uuidB, 1}, at: 70, prepares: "X'78',X'',1", captured: true}, {gtid: gtid{uuidA, 7}, at: 80}},
			[]event.Position{{Origin: uuidA, Commit: 7}, {Origin: uuidA, Commit: 9, Change: 1}, {Origin: uuidA, Commit: 10}, {Origin: uuidB, Commit: 5, Change: 3}},
			uuidA + ":1-7," + uuidB + ":1;+" + uuidA + ":9-10;@" + uuidA + ":7,80,;x" + uuidB + ":1,70,,X'78',X'',1", uuidA + ":1-6"},
		{"Decided", uuidSets, uuidA + ":1-5;@" + uuidA + ":5,50,;o" + uuidA + ":3,30,,X'78',X'',1;x" + uuidA + ":4,40,,X'79',X'',1", []ended{{gtid: gtid{uuidA, 6}, at: 60, decides: "X'79',X'',1"}}, nil,
			uuidA + ":1-6;@" + uuidA + ":6,60,;o" + uuidA + ":3,30,,X'78',X'',1", uuidA + ":1-2:4-5"},
		{"Damaged", uuidSets, uuidA + ":1-5;y" + uuidA + ":3,30,", nil, nil, "", ""},
		{"Empty", uuidSets, "", nil, nil, "-", ""},
		{"MariaDB", domainSets, "0-1-5,1-1-9", []ended{{gtid: gtid{"0-1", 6}, at: 6e6}, {gtid: gtid{"1-1", 10}, at: 7e6, prepares: "X'78',X'',1"}, {gtid: gtid{"0-2", 7}, at: 8e6}},
			[]event.Position{{Origin: "0-2", Commit: 7}, {Origin: "0-2", Commit: 9}, {Origin: "2-1", Commit: 1}, {Origin: "0-2", Commit: 11, Change: 1}},
			"0-2-7,1-1-10;+0-2-9,2-1-1;@0-2-7,8000000,0-1-6;o1-1-10,7000000,1-1-9,X'78',X'',1", "0-1-6,1-1-9"},
		{"FirstOfADomain", domainSets, "", []ended{{gtid: gtid{"0-1", 1}, at: 6e6}}, nil, "0-1-1;@0-1-1,6000000,", ""},
		{"Places", placeSets, placePrefix + uuidA + ":103:104", []ended{{gtid: gtid{placePrefix + uuidA, 104}, at: 60, next: 150}, {gtid: gtid{placePrefix + uuidA, 150}, at: 60, next: 200}},
			[]event.Position{{Origin: placePrefix + uuidA, Commit: 300}},
			placePrefix + uuidA + ":150:200;+" + placePrefix + uuidA + ":300:0;@" + placePrefix + uuidA + ":150,60,", placePrefix + uuidA + ":150:150"},
		{"Turned", placeSets, placePrefix + uuidA + ":103:104", []ended{{gtid: gtid{placePrefix + uuidA, 203}, next: 204}}, nil, placePrefix + uuidA + ":203:204", placePrefix + uuidA + ":203:204"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := parseProgress(tt.kind, tt.from)
			if tt.want == "" {
				if err == nil {
					t.Error("a damaged one is read")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range tt.ended {
				if err := p.end(e); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := p.follow(tt.since); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, p.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			q, err := parseProgress(tt.kind, tt.want)
			if err != nil || q.String() != tt.want {
				t.Errorf("read again: got %s, %v", q.String(), err)
			}
			from, err := q.start(set{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.start, from.String()); d != "" {
				t.Errorf("left out by the server (-want +got):\n%s", d)
			}
		})
	}
}

// FuzzProgress: whatever stands in a record is read or refused.
func FuzzProgress(f *testing.F) {
	f.Add(uint8(0), uuidA+":1-7;+"+uuidA+":9;@"+uuidA+":7,80,;x"+uuidB+":1,70,,X'78',X'',1")
	f.Add(uint8(1), "0-1-5;@0-1-5,6,0-1-4")
	f.Add(uint8(2), placePrefix+uuidA+":150:200")
	f.Fuzz(func(t *testing.T, k uint8, text string) {
		p, err := parseProgress(kind(k%3), text)
		if err != nil {
			return
		}
		if q, err := parseProgress(kind(k%3), p.String()); err != nil || q.String() != p.String() {
			t.Errorf("%q is written as %q and read again as %q, %v", text, p.String(), q.String(), err)
		}
	})
}
