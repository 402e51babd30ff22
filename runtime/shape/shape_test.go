package shape_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/shape"
)

var orders = event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"}, []event.Column{
	{Name: "id", Type: "bigint", Key: 1},
	{Name: "status", Type: "text", Nullable: true},
	{Name: "amount", Type: "numeric(12,2)"},
	{Name: "qty", Type: "integer", Nullable: true},
	{Name: "vip", Type: "boolean", Nullable: true},
	{Name: "at", Type: "timestamp with time zone", Nullable: true},
	{Name: "tags", Type: "text[]", Nullable: true},
	{Name: "doc", Type: "jsonb", Nullable: true},
	{Name: "card", Type: "text", Nullable: true},
})

const full = `{"id":7,"status":"paid","amount":12.50,"qty":3,"vip":true,"at":"2026-11-21T10:00:00.25+00:00","tags":["a",null],"doc":{"n":1.5,"deep":{"x":[1,2]}},"card":"4111111111111234"}`

func compile(t *testing.T, spec shape.Spec) *shape.Shape {
	t.Helper()
	s, err := shape.New(spec, orders)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func update(after string) *event.Event {
	return &event.Event{Op: event.Update, Source: "shop", Table: orders.Table, Schema: orders, Fingerprint: orders.Fingerprint(),
		Before: event.RowOf([]byte(`{"id":7}`)), After: event.RowOf([]byte(after)), CommitMS: 5, Position: event.Position{Commit: 1, Change: 1, N: 1}}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]shape.Result{
		`after.status != 'draft'`:                                  shape.Kept,
		`after.status == 'draft'`:                                  shape.Deleted,
		`after.amount > 12`:                                        shape.Kept,
		`after.amount >= 12.51`:                                    shape.Deleted,
		`after.qty * 2 == 6`:                                       shape.Kept,
		`after.vip`:                                                shape.Kept,
		`!after.vip`:                                               shape.Deleted,
		`after.at > timestamp('2026-01-01T00:00:00Z')`:             shape.Kept,
		`after.at.getFullYear() == 2025`:                           shape.Deleted,
		`'a' in after.tags`:                                        shape.Kept,
		`after.tags.exists(t, t == null)`:                          shape.Kept,
		`after.doc.deep.x[1] == 2 && after.doc.n < 2`:              shape.Kept,
		`has(after.card) && after.card.startsWith('5')`:            shape.Deleted,
		`after.status in ['paid', 'shipped'] && after.qty != null`: shape.Kept,
	} {
		e := update(full)
		_, got, err := compile(t, shape.Spec{Filter: filter}).Apply(nil, e)
		if err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", filter, got, err, want)
		}
		if want == shape.Deleted && (e.Op != event.Delete || string(e.Before.Raw()) != `{"id":7}` || !e.After.IsNull()) {
			t.Errorf("%s: got %c before %s after %s", filter, e.Op, e.Before.Raw(), e.After.Raw())
		}
	}
}

func TestNulls(t *testing.T) {
	t.Parallel()
	row := `{"id":7,"status":null,"amount":0,"qty":null,"vip":null,"at":null,"tags":null,"doc":null,"card":null}`
	for filter, want := range map[string]shape.Result{
		`after.status != 'draft'`:            shape.Kept,
		`after.status == null`:               shape.Kept,
		`has(after.status)`:                  shape.Deleted,
		`after.vip`:                          shape.Deleted,
		`after.at == null`:                   shape.Kept,
		`after.doc == null`:                  shape.Kept,
		`after.qty != null && after.qty > 1`: shape.Deleted,
	} {
		_, got, err := compile(t, shape.Spec{Filter: filter}).Apply(nil, update(row))
		if err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", filter, got, err, want)
		}
	}
	_, _, err := compile(t, shape.Spec{Filter: `after.qty > 1`}).Apply(nil, update(row))
	if err == nil || !strings.Contains(err.Error(), "after.column != null") {
		t.Errorf("got %v, want an error that says how to ask for NULL", err)
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec  shape.Spec
		after string
		types string
	}{
		"nothing": {shape.Spec{}, full, ""},
		"include": {shape.Spec{Include: []string{"status"}}, `{"id":7,"status":"paid"}`, "bigint,text"},
		"exclude": {shape.Spec{Exclude: []string{"doc", "tags", "card", "at"}}, `{"id":7,"status":"paid","amount":12.50,"qty":3,"vip":true}`, ""},
		"rename":  {shape.Spec{Include: []string{"qty"}, Rename: map[string]string{"id": "order_id", "qty": "quantity \"x\""}}, `{"order_id":7,"quantity \"x\"":3}`, ""},
		"set": {shape.Spec{Include: []string{"qty"}, Set: []shape.Computed{
			{"total", `after.amount * double(after.qty)`}, {"qty", `string(after.qty) + ' pieces'`}, {"late", `after.at + duration('1h')`},
			{"list", `after.tags.map(t, t == null ? 'none' : t)`}, {"all", `{'b': after.qty, 'a': [after.vip]}`}, {"nothing", `after.doc.?z.orValue(null)`},
		}}, `{"id":7,"qty":"3 pieces","total":37.5,"late":"2026-11-21T11:00:00.25+00:00","list":["a","none"],"all":{"a":[true],"b":3},"nothing":null}`,
			"bigint,text,double precision,timestamp with time zone,jsonb,jsonb,jsonb"},
		"mask": {shape.Spec{Include: []string{"card", "qty", "status"}, Mask: map[string]shape.Mask{
			"card": {Kind: shape.Last4}, "qty": {Kind: shape.Redact}, "status": {Kind: shape.Hash, Salt: []byte("salt")},
		}}, `{"id":7,"status":"3e7ca6d7e8a3bb2ad2d6e4b6a5d3ab81","qty":null,"card":"************1234"}`, "bigint,text,integer,text"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := compile(t, c.spec)
			e := update(full)
			_, got, err := s.Apply(nil, e)
			if err != nil || got != shape.Kept {
				t.Fatalf("got %v, %v", got, err)
			}
			after := string(e.After.Raw())
			if name == "mask" {
				const from, digits = len(`{"id":7,"status":"`), 64
				if strings.Trim(after[from:from+digits], "0123456789abcdef") != "" || strings.Contains(after, "paid") {
					t.Fatalf("got %s, want a hash", after)
				}
				after, c.after = after[from+digits:], c.after[from+32:]
			}
			if after != c.after {
				t.Errorf("got  %s\nwant %s", after, c.after)
			}
			if !e.After.Valid() {
				t.Errorf("no JSON: %s", e.After.Raw())
			}
			var types []string
			for _, col := range s.Schema().Columns {
				types = append(types, col.Type)
			}
			if got := strings.Join(types, ","); c.types != "" && got != c.types {
				t.Errorf("got types %s, want %s", got, c.types)
			}
		})
	}
}

// What a handler gets holds no value that is masked, left out or filtered away.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	spec := shape.Spec{Exclude: []string{"doc"}, Mask: map[string]shape.Mask{"card": {Kind: shape.Last4}, "status": {Kind: shape.Hash, Salt: []byte("x")}}}
	for _, filter := range []string{"", "after.qty > 100"} {
		spec.Filter = filter
		e := update(full)
		e.Before = event.RowOf([]byte(full)) // REPLICA IDENTITY FULL
		dst, _, err := compile(t, spec).Apply(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"411111111111", "paid", "deep"} {
			for _, b := range [][]byte{dst, e.Line, e.Before.Raw(), e.After.Raw()} {
				if bytes.Contains(b, []byte(secret)) {
					t.Errorf("filter %q: %s is in %s", filter, secret, b)
				}
			}
		}
	}
}

// Columns that are not known, because their row was gone when it was read again, stay unknown, also what is computed from them.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	spec := shape.Spec{Exclude: []string{"tags"}, Rename: map[string]string{"card": "number"}, Set: []shape.Computed{{"n", "after.doc.n"}, {"m", "after.qty"}}}
	e := update(`{"id":7,"status":"paid","amount":1,"qty":1,"vip":true,"at":null,"tags":null}`)
	e.Unavailable = []string{"doc", "card"}
	if _, got, err := compile(t, spec).Apply(nil, e); err != nil || got != shape.Kept {
		t.Fatalf("got %v, %v", got, err)
	}
	if got, want := strings.Join(e.Unavailable, ","), "doc,number,n"; got != want {
		t.Errorf("got unavailable %s, want %s", got, want)
	}
	if got, want := string(e.After.Raw()), `{"id":7,"status":"paid","amount":1,"qty":1,"vip":true,"at":null,"m":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	e = update(`{"id":7,"status":"paid","amount":1,"qty":1,"vip":true,"at":null,"tags":null}`)
	e.Unavailable = []string{"doc", "card"}
	if _, got, err := compile(t, shape.Spec{Filter: "after.doc.n == 1"}).Apply(nil, e); err != nil || got != shape.Deleted {
		t.Errorf("got %v, %v, want a delete: the row's own delete follows", got, err)
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	s := compile(t, shape.Spec{Ops: []event.Op{event.Create, event.Read}, Filter: "false"})
	for op, want := range map[event.Op]shape.Result{
		event.Create: shape.Deleted, event.Read: shape.Deleted, event.Update: shape.Skipped, event.Delete: shape.Skipped,
		event.Truncate: shape.Kept, event.Mark: shape.Kept,
	} {
		e := update(full)
		if e.Op = op; op == event.Delete || op == event.Truncate || op == event.Mark {
			e.After = event.Row{}
		}
		if _, got, err := s.Apply(nil, e); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", op, got, err, want)
		}
	}
	e := update(full)
	e.Op, e.After = event.Delete, event.Row{}
	if _, got, err := compile(t, shape.Spec{Filter: "false"}).Apply(nil, e); err != nil || got != shape.Kept {
		t.Errorf("a delete: got %v, %v, want that it passes", got, err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec shape.Spec
		want []string
	}{
		"no such column": {shape.Spec{Filter: "after.state == 'x'"}, []string{"undefined field 'state'", "the columns of public.orders are id, status"}},
		"types":          {shape.Spec{Filter: "after.qty == 'x'"}, []string{"no matching overload"}},
		"syntax":         {shape.Spec{Filter: "after.qty = 1"}, []string{"filter", "Syntax error"}},
		"no condition":   {shape.Spec{Filter: "after.qty"}, []string{"not true or false"}},
		"no row":         {shape.Spec{Filter: "status == 'x'"}, []string{"the row is `after`"}},
		"no clock":       {shape.Spec{Filter: "after.at < now()"}, []string{"undeclared reference to 'now'"}},
		"key left out":   {shape.Spec{Exclude: []string{"id"}}, []string{"part of the key"}},
		"key masked":     {shape.Spec{Mask: map[string]shape.Mask{"id": {Kind: shape.Redact}}}, []string{"cannot be masked"}},
		"key computed":   {shape.Spec{Set: []shape.Computed{{"id", "1"}}}, []string{"part of the key"}},
		"no salt":        {shape.Spec{Mask: map[string]shape.Mask{"card": {Kind: shape.Hash}}}, []string{"without a salt"}},
		"both":           {shape.Spec{Include: []string{"qty"}, Exclude: []string{"card"}}, []string{"cannot be used together"}},
		"the same twice": {shape.Spec{Rename: map[string]string{"qty": "status"}}, []string{"two columns would be named status"}},
		"all at once":    {shape.Spec{Include: []string{"x"}, Mask: map[string]shape.Mask{"y": {}}, Rename: map[string]string{"z": ""}}, []string{"no column x", "no column y", "no column z"}},
		"no value":       {shape.Spec{Set: []shape.Computed{{"t", "type(after.qty)"}}}, []string{"no column can hold"}},
	} {
		_, err := shape.New(c.spec, orders)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", name, err, want)
			}
		}
	}
}

func TestLast4(t *testing.T) {
	t.Parallel()
	s := compile(t, shape.Spec{Include: []string{"card"}, Mask: map[string]shape.Mask{"card": {Kind: shape.Last4}}})
	for in, want := range map[string]string{`"12345678"`: `"********"`, `"123456789"`: `"*****6789"`, `"ünïcödé-äöüß"`: `"********äöüß"`, `""`: `""`, `null`: `null`} {
		e := update(`{"id":7,"card":` + in + `}`)
		if _, _, err := s.Apply(nil, e); err != nil || string(e.After.Raw()) != `{"id":7,"card":`+want+`}` {
			t.Errorf("%s: got %s, %v", in, e.After.Raw(), err)
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	s, err := shape.New(shape.Spec{Filter: `after.status != 'draft' && after.qty > 1`}, orders)
	if err != nil {
		b.Fatal(err)
	}
	e := update(full)
	b.ReportAllocs()
	for b.Loop() {
		if _, got, err := s.Apply(nil, e); err != nil || got != shape.Kept {
			b.Fatal(got, err)
		}
	}
}
