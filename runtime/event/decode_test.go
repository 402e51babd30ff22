package event_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
)

var rows = cmp.Comparer(func(a, b event.Row) bool { return string(a.Raw()) == string(b.Raw()) })

// expected is what Decode must make of a change that AppendLine wrote.
func expected(c *event.Change, m *event.Message, line int) event.Event {
	s := c.Schema
	e := event.Event{
		Op: c.Op, Source: s.Source, Table: s.Table, Partition: 3,
		Before: event.RowOf(c.Before), After: event.RowOf(c.After), Cutoff: c.Cutoff,
		Fingerprint: s.Fingerprint(), Position: c.Position, CommitMS: c.CommitMS, Unavailable: c.Unavailable,
		Snapshot: c.Snapshot, TxID: c.TxID, Order: c.Order, Last: c.Last,
		Sequence: m.Sequence, Version: m.Writer.Version(m.Sequence, line),
		Line: []byte(strings.TrimSuffix(string(event.AppendLine(nil, c)), "\n")),
	}
	e.Position.Timeline = 0
	if c.Snapshot && c.Op != event.Truncate && c.Op != event.Mark {
		e.Position = event.Position{}
	}
	return e
}

func TestDecodeIsTheInverseOfAppendLine(t *testing.T) {
	t.Parallel()
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			m := message(s.change.Schema)
			var want []event.Event
			for line := range 3 {
				m.Data = event.AppendLine(m.Data, &s.change)
				want = append(want, expected(&s.change, m, line+1))
			}
			got, err := m.Decode(nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, rows); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			m.Data = m.Data[:len(m.Data)-1]
			if got, err = m.Decode(got[:0]); err != nil || len(got) != 3 {
				t.Errorf("without the last line break: %d events, %v", len(got), err)
			}
		})
	}
}

func TestDecodeTakesMembersInAnyOrder(t *testing.T) {
	t.Parallel()
	m := message(orders())
	m.Data = []byte(`{ "after" : {"id":1} , "new":[1,{"op":"d"}], "source":{"fingerprint":"ab","position":"0/2:0/1:0"},"op":"c" }`)
	got, err := m.Decode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := got[0]; e.Op != event.Create || string(e.After.Raw()) != `{"id":1}` || e.Position.Commit != 2 || e.Fingerprint != "ab" {
		t.Errorf("got %+v", e)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	source := `"source":{"position":"0/2:0/1:0","fingerprint":"ab"}`
	for _, tt := range []struct{ name, line, want string }{
		{"Nothing", ` `, "no JSON object"},
		{"HalfALine", `{"op":"c","after":{"id":1`, "no JSON object"},
		{"TwoObjects", `{"op":"c","after":{"id":1},` + source + `}{}`, "no JSON object"},
		{"NoOp", `{"after":{"id":1},` + source + `}`, `"op" is missing`},
		{"UnknownOp", `{"op":"x","after":{"id":1},` + source + `}`, `"op"`},
		{"NoSource", `{"op":"c","after":{"id":1}}`, `"source" lacks`},
		{"BadPosition", `{"op":"c","after":{"id":1},"source":{"position":"0/02:0/1:0","fingerprint":"ab"}}`, `"position"`},
		{"AfterIsNull", `{"op":"c","after":null,` + source + `}`, "lacks its row"},
		{"AfterIsNumber", `{"op":"c","after":5,` + source + `}`, "must be objects"},
		{"BeforeOfDelete", `{"op":"d","before":null,` + source + `}`, "lacks its row"},
		{"CutoffIsText", `{"op":"t","before":"5",` + source + `}`, "no version"},
		{"CutoffIsNegative", `{"op":"t","before":-5,` + source + `}`, "no version"},
		{"Unbalanced", `{"op":"c","after":{"id":[1}},` + source + `}`, "no JSON object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := message(orders())
			c := sample(t, "Create")
			m.Data = event.AppendLine(m.Data, &c)
			m.Data = append(m.Data, tt.line...)
			kept := []event.Event{{Op: event.Mark}}
			got, err := m.Decode(kept)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "message 70000 on cdc.shop.public.orders.3, line 2") {
				t.Errorf("got %v, want message, line and %q", err, tt.want)
			}
			if len(got) != 1 {
				t.Errorf("got %d events besides the error, want the one that was there", len(got)-1)
			}
		})
	}
}

func TestDecodeBoundsLines(t *testing.T) {
	t.Parallel()
	c := sample(t, "Create")
	m := message(c.Schema)
	for range event.MaxLines {
		m.Data = event.AppendLine(m.Data, &c)
	}
	if got, err := m.Decode(nil); err != nil || len(got) != event.MaxLines {
		t.Fatalf("got %d events, %v", len(got), err)
	}
	m.Data = event.AppendLine(m.Data, &c)
	if _, err := m.Decode(nil); err == nil {
		t.Error("1025 lines were taken")
	}
}

func TestDecodeOfMarkersAndEmptyMessages(t *testing.T) {
	t.Parallel()
	for _, subject := range []string{event.FenceSubject("shop"), event.MarkSubject("shop")} {
		m := event.Message{Subject: subject, Sequence: 1}
		if got, err := m.Decode(nil); err != nil || len(got) != 0 {
			t.Errorf("%s: got %d events, %v", subject, len(got), err)
		}
	}
	if _, err := message(orders()).Decode(nil); err == nil {
		t.Error("an empty message was taken")
	}
	m := message(orders())
	m.Large = "o1"
	if _, err := m.Decode(nil); err == nil || !strings.Contains(err.Error(), "o1") {
		t.Errorf("a payload that was not fetched: got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples() {
		f.Add(event.AppendLine(nil, &s.change))
	}
	f.Add([]byte(`{"op":"c"}`))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := message(orders())
		m.Data = data
		events, err := m.Decode(nil)
		if err != nil {
			return
		}
		if len(events) != m.Lines() {
			t.Fatalf("%d events of %d lines", len(events), m.Lines())
		}
		for i := range events {
			if e := &events[i]; !e.Before.Valid() || !e.After.Valid() {
				t.Fatalf("malformed row: %s", e.Line)
			}
			_ = fmt.Sprint(events[i].Position)
		}
	})
}

// TestRandomChangesComeBack decodes messages of random changes into a batch that is already in use.
func TestRandomChangesComeBack(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	s := inventory()
	text := func() string {
		b := make([]rune, r.IntN(30))
		for i := range b {
			b[i] = []rune{rune(r.IntN(0x80)), rune(r.IntN(0x800)), '🙂', '"', '\\'}[r.IntN(5)]
		}
		return string(b)
	}
	row := func() []byte {
		b := []byte(`{"line":`)
		b = strconv.AppendInt(b, r.Int64(), 10)
		b = append(b, `,"doc":{"a": [1, null, {}], "b":`...)
		b = event.AppendJSONString(b, text())
		b = append(b, `},`...)
		b = event.AppendJSONString(b, text())
		b = append(b, ':')
		b = event.AppendJSONString(b, text())
		return append(b, '}')
	}
	var events []event.Event
	for range 100 {
		m := message(s)
		m.Sequence = r.Uint64N(1 << 40)
		var want []event.Event
		for line := range 1 + r.IntN(5) {
			c := event.Change{
				Op: []event.Op{event.Create, event.Update, event.Delete, event.Read, event.Truncate, event.Mark}[r.IntN(6)], Schema: s,
				Position: event.Position{Timeline: r.Uint32(), Commit: r.Uint64(), Change: r.Uint64(), N: r.Uint32(), Part: r.Uint32N(3)},
				CommitMS: r.Int64() - r.Int64(), TxID: r.Uint64(), Snapshot: r.IntN(2) == 0,
			}
			if r.IntN(3) == 0 {
				c.Position.Origin = []string{"0-1", "3e11fa47-71ca-11e1-9e33-c80aa9429562"}[r.IntN(2)]
			}
			if !c.Snapshot {
				c.Order, c.Last = r.Int64N(5), false
				c.Last = c.Order > 0 && r.IntN(2) == 0
			}
			switch c.Op {
			case event.Truncate, event.Mark:
				c.Cutoff = event.Version(r.Int64())
			case event.Delete:
				c.Before = row()
			case event.Create, event.Update, event.Read:
				c.After = row()
				for range r.IntN(3) {
					c.Unavailable = append(c.Unavailable, text())
				}
			}
			m.Data = event.AppendLine(m.Data, &c)
			want = append(want, expected(&c, m, line+1))
		}
		from := len(events)
		var err error
		if events, err = m.Decode(events); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, events[from:], rows); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	}
}
