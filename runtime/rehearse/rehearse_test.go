package rehearse_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/rehearse"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// shower prints batches, and refuses notes that say so.
type shower struct{}

func (shower) Handle(context.Context, sink.Batch) error { return errors.New("nothing is to be sent") }

func (shower) Preview(_ context.Context, b sink.Batch) ([]byte, error) {
	text := ""
	var failed sink.BatchError
	for i, sp := range b.Spans {
		text += fmt.Sprintf("%d:", sp.Partition)
		for j, e := range sp.Events {
			if strings.Contains(string(e.After.Raw()), "refused") {
				failed.Failed = append(failed.Failed, sink.Failure{Span: i, Event: j, Err: sink.Permanent(errors.New("refused"))})
				continue
			}
			text += fmt.Sprintf(" %s%d", e.Op, e.Sequence)
		}
		text += "\n"
	}
	if failed.Failed != nil {
		return []byte(text), &failed
	}
	return []byte(text), nil
}

// combiner wants all partitions at once.
type combiner struct{ shower }

func (combiner) Combine() {}

func function(t *testing.T, more string) *registry.Function {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(path, []byte("kind: function\nname: f\nfrom: shop.public.orders\nto: {postgres: {url: \"${U}\"}}\n"+more), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := registry.ReadFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	return &files.Functions[0]
}

func stream(t *testing.T) []event.Event {
	t.Helper()
	columns := []event.Column{{Name: "id", Type: "bigint", Key: 1}, {Name: "note", Type: "text", Nullable: true}}
	orders := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"}, columns)
	others := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "others"}, columns)
	var all []event.Event
	for i, c := range []struct {
		partition int
		change    event.Change
	}{
		{1, event.Change{Op: event.Create, Schema: orders, After: []byte(`{"id":1,"note":"a"}`)}},
		{2, event.Change{Op: event.Create, Schema: orders, After: []byte(`{"id":2,"note":"refused"}`)}},
		{1, event.Change{Op: event.Update, Schema: orders, After: []byte(`{"id":1,"note":null}`)}},
		{2, event.Change{Op: event.Create, Schema: others, After: []byte(`{"id":2,"note":"b"}`)}},
		{2, event.Change{Op: event.Create, Schema: orders, After: []byte(`{"id":4,"note":"b"}`)}},
		{1, event.Change{Op: event.Truncate, Schema: orders}},
		{1, event.Change{Op: event.Delete, Schema: orders, Before: []byte(`{"id":1}`)}},
	} {
		m := event.Message{Subject: event.Subject("shop", c.change.Schema.Table, c.partition), Sequence: uint64(i + 1), Writer: event.Writer{Epoch: 1}, Data: event.AppendLine(nil, &c.change)}
		events, err := m.Decode(nil)
		if err != nil {
			t.Fatal(err)
		}
		events[0].Schema = c.change.Schema
		all = append(all, events...)
	}
	return all
}

// Batches are as a worker with all partitions makes them, places stand alone, and what cannot be written is named.
func TestPlay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec    string
		handler sink.Handler
		want    []string
	}{
		"Partitions": {"", shower{}, []string{"1: c1 u3\n", "2: c5\n", "t6", "1: d7\n"}},
		"Combined":   {"", combiner{}, []string{"1: c1 u3\n2: c5\n", "t6", "1: d7\n"}},
		"InOrder":    {"ordering: source\n", shower{}, []string{"-1: c1 u3 c5\n", "t6", "-1: d7\n"}},
		"Filtered":   {"filter: after.note == 'b' || after.note == 'refused'\nops: [c, u]\n", shower{}, []string{"1: d1 d3\n", "2: c5\n", "t6"}},
		"Nothing":    {"", nil, []string{"", "", "t6", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := rehearse.New(function(t, c.spec), c.handler, 1, 8)
			if err != nil {
				t.Fatal(err)
			}
			r, err := f.Play(t.Context(), stream(t))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range r.Steps {
				if s.Place {
					got = append(got, fmt.Sprintf("%s%d", s.Events[0].Op, s.Events[0].Sequence))
				} else {
					got = append(got, string(s.Request))
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			dead := 0
			if c.handler != nil {
				dead = 1
			}
			if len(r.Dead) != dead || dead > 0 && (r.Dead[0].Event.Sequence != 2 || r.Dead[0].Err.Error() != "refused") {
				t.Errorf("dead: %v", r.Dead)
			}
		})
	}
}

// Rows are compared by their values, not by how they are written.
func TestJudge(t *testing.T) {
	t.Parallel()
	f, err := rehearse.New(function(t, ""), nil, 1, 8)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Play(t.Context(), stream(t)[:3])
	if err != nil {
		t.Fatal(err)
	}
	good := []registry.JSON{registry.JSON(`{"note":"a","id":1.0}`), registry.JSON(`{"id":20e-1,"note":"refused"}`), registry.JSON(`{"id":1,"note":null}`)}
	if d := rehearse.Judge(&registry.Expectation{Rows: good}, r); len(d) > 0 {
		t.Error(d)
	}
	for name, c := range map[string]struct {
		expected registry.Expectation
		want     string
	}{
		"Value":   {registry.Expectation{Rows: []registry.JSON{good[0], registry.JSON(`{"id":2,"note":"x"}`), good[2]}}, "      note: want \"x\", got \"refused\"\n"},
		"Column":  {registry.Expectation{Rows: []registry.JSON{good[0], good[1], registry.JSON(`{"id":1,"more":1}`)}}, "      note: not expected\n      more: missing\n"},
		"Less":    {registry.Expectation{Rows: good[:2]}, "  + {\"id\":1,\"note\":null}\n"},
		"Order":   {registry.Expectation{Rows: []registry.JSON{good[1], good[0], good[2]}}, "rows (-want +got)\n"},
		"Deletes": {registry.Expectation{Rows: good, Deletes: good[:1]}, "deletes (-want +got)\n  - {\"note\":\"a\",\"id\":1.0}\n"},
		"Dead":    {registry.Expectation{Rows: good, Dead: []string{"why"}}, "dead (-want +got)\n  - why\n"},
		"Request": {registry.Expectation{Request: "POST"}, "request (-want +got)\n  - POST\n  + \n"},
	} {
		d := rehearse.Judge(&c.expected, r)
		if len(d) != 1 || !strings.Contains(d[0].String(), c.want) {
			t.Errorf("%s: got %v, want %s", name, d, c.want)
		}
	}
}
