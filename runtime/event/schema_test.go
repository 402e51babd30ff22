package event_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
)

// inventory has every trait that a schema record stores.
func inventory() *event.Schema {
	return event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "order items"}, []event.Column{
		{Name: "line", Type: "integer", Key: 2},
		{Name: "order_id", Type: "bigint", Key: 1},
		{Name: `say "<ü>"`, Type: "text[]", Nullable: true},
		{Name: "mood", Type: "public.mood", Base: "enum", Nullable: true},
		{Name: "price", Type: "public.money_eur", Base: "numeric(12,2)"},
	})
}

func TestSchemasAreStored(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*event.Schema{"orders": orders(), "inventory": inventory()} {
		golden(t, name+".schema.json", append(s.Marshal(), '\n'))
		golden(t, name+".schema.key", []byte(s.KVKey()+"\n"))
		got, err := event.ParseSchema(s.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.Columns, got.Columns); diff != "" || got.Fingerprint() != s.Fingerprint() || got.KVKey() != s.KVKey() {
			t.Errorf("%s is read as %s: %s", s.KVKey(), got.KVKey(), diff)
		}
		var library event.Schema
		if err := json.Unmarshal(s.Marshal(), &library); err != nil || library.Table != s.Table {
			t.Errorf("encoding/json reads %+v, %v", library, err)
		}
	}
}

func TestSchemaLookups(t *testing.T) {
	t.Parallel()
	s := inventory()
	if diff := cmp.Diff([]int{1, 0}, s.KeyColumns()); diff != "" {
		t.Errorf("KeyColumns: -want +got:\n%s", diff)
	}
	if s.Index("mood") != 3 || s.Index("none") != -1 {
		t.Errorf("Index: mood is %d, none is %d", s.Index("mood"), s.Index("none"))
	}
	if s.Columns[4].BaseType() != "numeric(12,2)" || s.Columns[0].BaseType() != "integer" {
		t.Errorf("BaseType: %s, %s", s.Columns[4].BaseType(), s.Columns[0].BaseType())
	}
}

func TestFingerprintCoversTableAndColumns(t *testing.T) {
	t.Parallel()
	columns := func() []event.Column {
		return []event.Column{{Name: "id", Type: "bigint", Key: 1}, {Name: "a", Type: "text"}}
	}
	of := func(source string, t event.Table, c []event.Column) string {
		return event.NewSchema(source, "postgresql", "db of "+source, t, c).Fingerprint()
	}
	table := event.Table{Schema: "public", Name: "orders"}
	want := of("shop", table, columns())
	if got := of("other", table, columns()); got != want {
		t.Errorf("the source changes it: %s, %s", got, want)
	}
	seen := map[string]string{want: "none"}
	change := func(name, got string) {
		if other, ok := seen[got]; ok || len(got) != 16 {
			t.Errorf("%s has the fingerprint %s, as has %s", name, got, other)
		}
		seen[got] = name
	}
	change("schema", of("shop", event.Table{Schema: "x", Name: "orders"}, columns()))
	change("table", of("shop", event.Table{Schema: "public", Name: "x"}, columns()))
	for name, f := range map[string]func(c []event.Column){
		"name":     func(c []event.Column) { c[1].Name = "b" },
		"type":     func(c []event.Column) { c[1].Type = "citext" },
		"base":     func(c []event.Column) { c[1].Base = "text" },
		"nullable": func(c []event.Column) { c[1].Nullable = true },
		"key":      func(c []event.Column) { c[1].Key = 2 },
		"order":    func(c []event.Column) { c[0], c[1] = c[1], c[0] },
	} {
		c := columns()
		f(c)
		change(name, of("shop", table, c))
	}
}

func TestParseSchemaRefuses(t *testing.T) {
	t.Parallel()
	record := `{"source":"s","connector":"postgresql","database":"d","table":{"schema":"p","name":"t"},"columns":[%]}`
	for _, columns := range []string{
		`{"name":"","type":"text","nullable":false}`,
		`{"name":"a","type":"text","nullable":false},{"name":"a","type":"text","nullable":false}`,
		`{"name":"a","type":"text","nullable":false,"key":2}`,
		`{"name":"a","type":"text","nullable":false,"key":-1}`,
		`{"name":"a","type":"text","nullable":false,"key":1},{"name":"b","type":"text","nullable":false,"key":1}`,
		`5`,
	} {
		if _, err := event.ParseSchema([]byte(strings.Replace(record, "%", columns, 1))); err == nil {
			t.Errorf("columns %s were taken", columns)
		}
	}
	good := strings.Replace(record, "%", `{"name":"a","type":"text","nullable":false}`, 1)
	if _, err := event.ParseSchema([]byte(good)); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"", "{}", "null", "[]", good + "x", good + good, strings.Replace(good, `"t"`, `""`, 1)} {
		if _, err := event.ParseSchema([]byte(s)); err == nil {
			t.Errorf("%s was taken", s)
		}
	}
}

func FuzzParseSchema(f *testing.F) {
	f.Add(orders().Marshal())
	f.Add(inventory().Marshal())
	f.Add([]byte(`{"table":{"name":"t"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := event.ParseSchema(b)
		if err != nil {
			return
		}
		again, err := event.ParseSchema(s.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.Marshal(), again.Marshal()) || s.Fingerprint() != again.Fingerprint() {
			t.Errorf("%s is read as %s", s.Marshal(), again.Marshal())
		}
	})
}
