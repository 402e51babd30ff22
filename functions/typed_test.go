package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// batchOf is a batch with the events of one partition; "delete" before a row is one, "incomplete" says that it lacks a column.
func batchOf(s *event.Schema, rows ...string) functions.Batch {
	span := functions.Span{}
	for n, row := range rows {
		e := event.Event{Op: event.Create, Table: s.Table, Schema: s, After: event.RowOf([]byte(row)), Version: event.Version(n + 1), Sequence: uint64(n + 1)}
		if deleted, ok := strings.CutPrefix(row, "delete "); ok {
			e.Op, e.Before, e.After = event.Delete, event.RowOf([]byte(deleted)), event.Row{}
		}
		if missing, ok := strings.CutPrefix(row, "incomplete "); ok {
			e.Op, e.After, e.Unavailable = event.Update, event.RowOf([]byte(missing)), []string{"total"}
		}
		span.Events = append(span.Events, e)
	}
	return functions.Batch{Function: "f", Partitions: 1, Spans: []functions.Span{{Partition: 1}, span}}
}

func pointer[T any](v T) *T { return &v }

// base is embedded.
type base struct {
	ID int64 `json:"id"`
}

// everything has a field of each kind.
type everything struct {
	base
	Exact    json.Number       `json:"exact"`
	NaN      json.Number       `json:"nan"`
	Float    float64           `json:"float"`
	Infinite float64           `json:"infinite"`
	Small    *int8             `json:"small"`
	Unsigned uint64            `json:"unsigned"`
	Text     string            // without a tag
	Null     string            `json:"null"`
	Pointer  *string           `json:"pointer"`
	Flag     bool              `json:"flag"`
	MySQL    bool              `json:"tinyint"`
	Zoned    time.Time         `json:"zoned"`
	Local    *time.Time        `json:"local"`
	Day      time.Time         `json:"day"`
	Bytes    []byte            `json:"bytes"`
	Raw      json.RawMessage   `json:"raw"`
	Tags     []string          `json:"tags"`
	Document map[string]any    `json:"document"`
	Labels   map[string]string `json:"labels"`
	Ignored  string            `json:"-"`
	Optional string            `json:"dropped,omitempty"`
}

func TestTypedValues(t *testing.T) {
	t.Parallel()
	var columns []event.Column
	row := map[string]string{
		"id": `9007199254740993`, "exact": `12345678901234567890.123456789`, "nan": `"NaN"`, "float": `1e-7`, "infinite": `"-Infinity"`, "small": `-128`,
		"unsigned": `18446744073709551615`, "TEXT": `"Grüße \"1\""`, "null": `null`, "pointer": `null`, "flag": `true`, "tinyint": `1`,
		"zoned": `"2026-11-21T10:00:00.123456+00:00"`, "local": `"2026-11-21T10:00:00"`, "day": `"2026-11-21"`, "bytes": `"\\x00ff"`,
		"raw": `{"a":[1,2]}`, "tags": `["a","b"]`, "document": `{"n":12345678901234567890,"l":[true,null]}`, "labels": `{"a":"b"}`, "unasked": `"x"`,
	}
	var line []string
	for name, value := range row {
		c := event.Column{Name: name, Type: "text", Nullable: true}
		if name == "id" {
			c = event.Column{Name: name, Type: "bigint", Key: 1}
		}
		columns = append(columns, c)
		line = append(line, fmt.Sprintf("%q:%s", name, value))
	}
	s := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "all"}, columns)
	var got everything
	h := functions.Typed(func(_ context.Context, changes []functions.Change[everything]) error {
		got = *changes[0].After
		return nil
	})
	if err := h.Handle(t.Context(), batchOf(s, "{"+strings.Join(line, ",")+"}")); err != nil {
		t.Fatal(err)
	}
	want := everything{
		base: base{9007199254740993}, Exact: "12345678901234567890.123456789", NaN: "NaN", Float: 1e-7, Infinite: math.Inf(-1), Small: pointer(int8(-128)),
		Unsigned: math.MaxUint64, Text: `Grüße "1"`, Flag: true, MySQL: true,
		Zoned: time.Date(2026, 11, 21, 10, 0, 0, 123456000, time.UTC), Local: pointer(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)),
		Day: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), Bytes: []byte{0, 255}, Raw: json.RawMessage(`{"a":[1,2]}`), Tags: []string{"a", "b"},
		Document: map[string]any{"n": json.Number("12345678901234567890"), "l": []any{true, nil}}, Labels: map[string]string{"a": "b"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(everything{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if err := h.(functions.Checker).Check(t.Context(), []*event.Schema{s}); err != nil {
		t.Error(err)
	}
}

// An event that does not fit is named with table, column and type, and given up by itself.
func TestTypedMismatch(t *testing.T) {
	t.Parallel()
	var handled []int64
	h := functions.Typed(func(_ context.Context, changes []functions.Change[order]) error {
		for _, c := range changes {
			handled = append(handled, c.After.ID)
		}
		return nil
	})
	b := batchOf(orders, `{"id":1,"note":"a","total":5}`, `{"id":2,"note":"b","total":5.5}`, `{"id":3,"note":7,"total":1}`, `{"id":4,"note":"d","total":99999999999999999999}`)
	err := h.Handle(t.Context(), b)
	var partial *functions.BatchError
	if !errors.As(err, &partial) || len(partial.Failed) != 3 {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, f := range partial.Failed {
		var m *functions.MismatchError
		if !sink.IsPermanent(f.Err) || !errors.As(f.Err, &m) {
			t.Errorf("%v is not permanent", f.Err)
		}
		got = append(got, fmt.Sprintf("%d/%d %v", f.Span, f.Event, f.Err))
	}
	want := []string{
		"1/1 table public.orders: column total (integer) holds 5.5, which is no *int for order.Total: not such a number",
		"1/2 table public.orders: column note (text) holds 7, which is no string for order.Note: not a text: json.Number takes numbers of any size, json.RawMessage takes anything",
		"1/3 table public.orders: column total (integer) holds 99999999999999999999, which is no *int for order.Total: out of range",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff([]int64{1}, handled); d != "" {
		t.Errorf("handled (-want +got):\n%s", d)
	}
}

// A number of any size is one all the same.
func TestNumberIsOne(t *testing.T) {
	t.Parallel()
	type row struct {
		Total json.Number `json:"total"`
	}
	for text, want := range map[string]string{`12.50`: "", `-1e400`: "", `"NaN"`: "", `"12"`: "a text, not a number", `{"a":1}`: "not a number", `[1]`: "not a number", `true`: "not a number"} {
		c, err := functions.Decode[row](functions.Items(batchOf(orders, `{"id":1,"note":"a","total":`+text+`}`))[0])
		switch {
		case want == "" && (err != nil || c.After.Total.String() != strings.Trim(text, `"`)):
			t.Errorf("%s: got %v, %v", text, c.After, err)
		case want != "" && (err == nil || !sink.IsPermanent(err) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// A field that names no column is told before the first event.
func TestTypedCheck(t *testing.T) {
	t.Parallel()
	h := functions.Typed(func(context.Context, []functions.Change[struct {
		ID    int64  `json:"id"`
		Total *int   `json:"totl"`
		Older string `json:"older,omitempty"`
		NOTE  string
	}]) error {
		return nil
	})
	err := h.(functions.Checker).Check(t.Context(), []*event.Schema{orders})
	if got := fmt.Sprint(err); !sink.IsHalt(err) || got != `table public.orders has no column for .Total (column "totl"); its columns are id, note, total: correct the tag, or let it say omitempty` {
		t.Errorf("got %s", got)
	}
}

// What the handler says of its changes is said of the batch's events; what cannot be read is said beside it.
func TestTypedErrors(t *testing.T) {
	t.Parallel()
	busy := errors.New("busy")
	b := batchOf(orders, `{"id":1,"note":"a"}`, `{"id":"x"}`, `{"id":2,"note":"b"}`, `incomplete {"id":3,"note":"c"}`, `delete {"id":1}`)
	partly := functions.Typed(func(_ context.Context, changes []functions.Change[order]) error {
		var failed functions.Failures
		for _, c := range changes {
			if c.Deleted() {
				failed.Add(c.Item, busy)
			}
		}
		return failed.Err()
	})
	var partial *functions.BatchError
	if err := partly.Handle(t.Context(), b); !errors.As(err, &partial) || len(partial.Failed) != 2 || partial.Failed[0].Event != 1 || partial.Failed[1].Event != 4 || !errors.Is(partial.Failed[1].Err, busy) {
		t.Errorf("got %+v", partial)
	}
	wholly := functions.Typed(func(context.Context, []functions.Change[order]) error { return busy })
	if err := wholly.Handle(t.Context(), b); !errors.Is(err, busy) || errors.As(err, &partial) {
		t.Errorf("got %v", err)
	}
	never := functions.Typed(func(context.Context, []functions.Change[order]) error { panic("nothing can be read") })
	if err := never.Handle(t.Context(), batchOf(orders, `{"id":"x"}`)); !errors.As(err, &partial) {
		t.Errorf("got %v", err)
	}
}

// Rows can also be read as maps, whose numbers keep their digits.
func TestDecodeMap(t *testing.T) {
	t.Parallel()
	b := batchOf(orders, `{"id":12345678901234567,"note":"a","total":null}`, `{"id":[}`)
	items := functions.Items(b)
	c, err := functions.Decode[map[string]any](items[0])
	if d := cmp.Diff(&map[string]any{"id": json.Number("12345678901234567"), "note": "a", "total": nil}, c.After); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if _, err := functions.Decode[map[string]any](items[1]); !sink.IsPermanent(err) || !strings.Contains(err.Error(), "table public.orders: the row") {
		t.Errorf("got %v", err)
	}
}

// Of each key the last event is left, in order; where it is given up, those that it stood for come again.
func TestLatest(t *testing.T) {
	t.Parallel()
	b := batchOf(orders, `{"id":1,"note":"a"}`, `{"id":2,"note":"a"}`, `{"id":1.0,"note":"b"}`, `delete {"id":2}`, `{"id":3,"note":"a"}`, `{"id":1,"note":"c"}`)
	latest := functions.Latest(functions.Items(b))
	var got []string
	for _, i := range latest {
		got = append(got, fmt.Sprintf("%s v%d %v", i.ID(), i.Version, i.Deleted()))
	}
	if d := cmp.Diff([]string{"2 v4 true", "3 v5 false", "1 v6 false"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	var failed functions.Failures
	if failed.Err() != nil {
		t.Error("an error without failures")
	}
	failed.Add(latest[2], functions.Permanent(errors.New("too long")))
	var partial *functions.BatchError
	if !errors.As(failed.Err(), &partial) {
		t.Fatal(failed.Err())
	}
	got = nil
	for _, f := range partial.Failed {
		got = append(got, fmt.Sprintf("%d/%d %v", f.Span, f.Event, sink.IsPermanent(f.Err)))
	}
	if d := cmp.Diff([]string{"1/5 true", "1/2 false", "1/0 false"}, got); d != "" {
		t.Errorf("failed (-want +got):\n%s", d)
	}
	without := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "log"}, []event.Column{{Name: "text", Type: "text"}})
	if all := functions.Latest(functions.Items(batchOf(without, `{"text":"a"}`, `{"text":"a"}`))); len(all) != 2 || all[0].ID() == all[1].ID() {
		t.Errorf("%d rows without a key", len(all))
	}
}

// The identity of a row is the same text in all of its events, and another one for every other row.
func TestID(t *testing.T) {
	t.Parallel()
	s := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "items"}, []event.Column{{Name: "b", Type: "text", Key: 2}, {Name: "a", Type: "text", Key: 1}})
	seen := map[string]string{}
	for _, row := range []string{`{"a":"x","b":"y"}`, `{"a":"x|","b":"y"}`, `{"a":"x","b":"|y"}`, `{"a":"x%7C","b":"y"}`, `{"a":"","b":""}`, `{"a":7,"b":"y"}`} {
		id := functions.Items(batchOf(s, row))[0].ID()
		if seen[id] != "" {
			t.Errorf("%s and %s are both %s", row, seen[id], id)
		}
		seen[id] = row
		if got := functions.Items(batchOf(s, "delete "+row))[0].ID(); got != id {
			t.Errorf("a delete of %s is %s, want %s", row, got, id)
		}
	}
	if seen["x|y"] == "" || seen["x%7C|y"] == "" {
		t.Errorf("got %v", seen)
	}
	if _, err := functions.AppendID(nil, functions.Items(batchOf(s, `{"a":"x"}`))[0].Event); err == nil {
		t.Error("an event without its key has an identity")
	}
}

func BenchmarkTyped(b *testing.B) {
	var lines []string
	for n := range 1000 {
		lines = append(lines, fmt.Sprintf(`{"id":%d,"note":"a note of some length","total":%d}`, n, n))
	}
	batch := batchOf(orders, lines...)
	h := functions.Typed(func(context.Context, []functions.Change[order]) error { return nil })
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "events/s")
}
