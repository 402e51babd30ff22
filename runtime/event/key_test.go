package event_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/runtime/event"
)

// keyed is a table whose key has one column of each of the types.
func keyed(types ...string) *event.Schema {
	columns := []event.Column{{Name: "other", Type: "text"}}
	for i, typ := range types {
		name, base, _ := strings.Cut(typ, " is ")
		columns = append(columns, event.Column{Name: fmt.Sprintf("k%d", i+1), Type: name, Base: base, Key: i + 1})
	}
	return event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "t"}, columns)
}

func keyOf(t testing.TB, s *event.Schema, row string) string {
	t.Helper()
	key, err := s.AppendKey(nil, event.RowOf([]byte(row)))
	if err != nil {
		t.Fatal(err)
	}
	return string(key)
}

// TestKeysAreStored writes canonical form, hash and partitions of keys: what docs/formats.md shows as test vectors.
func TestKeysAreStored(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, tt := range []struct{ types, row string }{
		{"bigint", `{"k1":1}`},
		{"bigint", `{"k1":40}`},
		{"bigint", `{"k1":-7}`},
		{"bigint", `{"k1":9223372036854775807}`},
		{"numeric", `{"k1":1.00}`},
		{"numeric", `{"k1":12.50}`},
		{"numeric", `{"k1":0.0050}`},
		{"numeric", `{"k1":"NaN"}`},
		{"double precision", `{"k1":-0}`},
		{"double precision", `{"k1":1e+308}`},
		{"text", `{"k1":""}`},
		{"text", `{"k1":"a\"\u00e9\n"}`},
		{"public.citext", `{"k1":"Jane@EXAMPLE.org"}`},
		{"public.mail is citext", `{"k1":"ÄÖ"}`},
		{"character(5)", `{"k1":"ab   "}`},
		{"boolean", `{"k1":true}`},
		{"uuid", `{"k1":"3e11fa47-71ca-11e1-9e33-c80aa9429562"}`},
		{"numeric[]", `{"k1":[1.0,null,[20]]}`},
		{"public.pair is composite", `{"k1":{"a":1.0,"b":"x"}}`},
		{"bigint,text", `{"k1":17,"k2":"x"}`},
		{"text,text", `{"k1":"a","k2":"b\u0000c"}`},
	} {
		s := keyed(strings.Split(tt.types, ",")...)
		key := keyOf(t, s, tt.row)
		fmt.Fprintf(&b, "| %s | `%s` | `%x` | `%016x` | %d | %d |\n", tt.types, tt.row, key, event.Hash([]byte(key)),
			event.Partition([]byte(key), 8), event.Partition([]byte(key), 256))
	}
	golden(t, "keys.md", []byte(b.String()))
}

func TestEqualKeysAreEqual(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		s    *event.Schema
		rows []string
	}{
		{"Integer", keyed("bigint"), []string{`{"k1":100}`, `{"k1":1e2}`, `{"k1":1E+2}`, `{"k1":100.00}`, `{"k1":0.1e3}`, `{"k1":1000e-1}`, `{ "other" : 5, "k1" : 100 }`}},
		{"Zero", keyed("float8"), []string{`{"k1":0}`, `{"k1":-0}`, `{"k1":0.00}`, `{"k1":-0.0e99}`, `{"k1":0e-5}`}},
		{"Fraction", keyed("numeric"), []string{`{"k1":0.0050}`, `{"k1":5e-3}`, `{"k1":0.5E-2}`, `{"k1":50e-04}`}},
		{"Text", keyed("text"), []string{`{"k1":"aé/\n🙂"}`, `{"k1":"\u0061\u00E9\/\u000a\ud83d\uDE42"}`}},
		{"Citext", keyed("public.citext"), []string{`{"k1":"JANE É"}`, `{"k1":"jane é"}`, `{"k1":"J\u0041ne \u00c9"}`}},
		{"CitextShapeUnknown", keyed("citext is text"), []string{`{"k1":"A"}`, `{"k1":"a"}`}},
		{"DomainOverCitext", keyed("public.mail is public.citext"), []string{`{"k1":"A"}`, `{"k1":"a"}`}},
		{"CitextArray", keyed("citext[]"), []string{`{"k1":["A", "b"]}`, `{"k1":["a","B"]}`}},
		{"Padded", keyed("bpchar"), []string{`{"k1":"a"}`, `{"k1":"a  "}`}},
		{"NumericArray", keyed("numeric[]"), []string{`{"k1":[1.0,2]}`, `{"k1":[ 1 , 2.00 ]}`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := keyOf(t, tt.s, tt.rows[0])
			for _, row := range tt.rows[1:] {
				if got := keyOf(t, tt.s, row); got != want {
					t.Errorf("%s: got %q, want %q as of %s", row, got, want, tt.rows[0])
				}
			}
		})
	}
}

func TestDifferentKeysDiffer(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	s := keyed("text", "text")
	for _, row := range []string{
		`{"k1":"a","k2":"bc"}`, `{"k1":"ab","k2":"c"}`, `{"k1":"","k2":"abc"}`, `{"k1":"abc","k2":""}`, `{"k1":"A","k2":"bc"}`, `{"k1":"a ","k2":"bc"}`,
		`{"k1":"a\u0000sb","k2":"c"}`, `{"k1":"a","k2":"b\u0000sc"}`, `{"k1":"1","k2":"2"}`, `{"k1":1,"k2":2}`, `{"k1":10,"k2":2}`, `{"k1":1,"k2":1e2}`,
		`{"k1":true,"k2":false}`, `{"k1":"t","k2":"f"}`, `{"k1":"NaN","k2":1}`, `{"k1":[1,2],"k2":3}`, `{"k1":[1],"k2":[2,3]}`, `{"k1":[[1],2],"k2":3}`,
		`{"k1":[],"k2":3}`, `{"k1":{},"k2":3}`, `{"k1":{"a":1},"k2":3}`, `{"k1":-1,"k2":3}`, `{"k1":1,"k2":3}`, `{"k1":0.1,"k2":3}`, `{"k1":1e1,"k2":3}`,
		`{"k1":[null],"k2":3}`,
	} {
		key := keyOf(t, s, row)
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have the same key %q", row, other, key)
		}
		seen[key] = row
	}
}

func TestKeyOrderIsThatOfOrdinals(t *testing.T) {
	t.Parallel()
	s := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "items"}, []event.Column{
		{Name: "line", Type: "integer", Key: 2}, {Name: "text", Type: "text"}, {Name: "order_id", Type: "bigint", Key: 1},
	})
	if got, want := keyOf(t, s, `{"line":2,"text":"x","order_id":1}`), "n1\x00n2\x00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIncompleteKeysAreErrors(t *testing.T) {
	t.Parallel()
	s := keyed("bigint", "text")
	for _, row := range []string{``, `{}`, `{"k1":1}`, `{"k1":null,"k2":"a"}`, `{"k1":1,"k2":null}`, `{"k1":1,"k2":"a`, `{"k1":1e99999999999,"k2":"a"}`} {
		if key, err := s.AppendKey(nil, event.RowOf([]byte(row))); err == nil {
			t.Errorf("%s has the key %q", row, key)
		} else if !strings.Contains(err.Error(), "public.t") {
			t.Errorf("%s: the error does not name the table: %v", row, err)
		}
	}
	if key, err := keyed().AppendKey(nil, event.Row{}); err != nil || len(key) != 0 || event.Partition(key, 8) != 0 {
		t.Errorf("a table without a key: got %q, %v", key, err)
	}
}

// TestPartitionsAreEven hashes keys as tables have them: no partition gets a tenth more or less than its share.
func TestPartitionsAreEven(t *testing.T) {
	t.Parallel()
	const keys = 30_000
	for name, row := range map[string]string{
		"Serial": `{"k1":%d}`, "Even": `{"k1":%d0}`, "Text": `{"k1":"user-%06d@example.org"}`, "UUID": `{"k1":"00000000-0000-7000-8000-%012x"}`,
	} {
		s := keyed("text")
		sizes := []int{2, 3, 8, 16}
		count := make([][16]int, len(sizes))
		for k := range keys {
			key := []byte(keyOf(t, s, fmt.Sprintf(row, k+1)))
			for i, n := range sizes {
				count[i][event.Partition(key, n)]++
			}
		}
		for i, n := range sizes {
			for p, got := range count[i][:n] {
				if want := keys / n; got < want*9/10 || got > want*11/10 {
					t.Errorf("%s: partition %d of %d has %d keys of %d", name, p, n, got, keys)
				}
			}
		}
	}
}

func FuzzNumberKeys(f *testing.F) {
	for _, pair := range [][2]string{{"1.0", "1.00"}, {"1e2", "100"}, {"-0", "0"}, {"0.005", "5e-3"}, {"12", "1.2e1"}, {"10", "1"}, {"-1", "1"}} {
		f.Add(pair[0], pair[1])
	}
	s := keyed("numeric")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, okX := rational(a)
		y, okY := rational(b)
		if !okX || !okY {
			return
		}
		keyA, errA := s.AppendKey(nil, event.RowOf([]byte(`{"k1":`+a+`}`)))
		keyB, errB := s.AppendKey(nil, event.RowOf([]byte(`{"k1":`+b+`}`)))
		if errA != nil || errB != nil {
			t.Fatalf("%s: %v, %s: %v", a, errA, b, errB)
		}
		if equal := x.Cmp(y) == 0; equal != (string(keyA) == string(keyB)) {
			t.Errorf("%s and %s: equal is %v, keys %q and %q", a, b, equal, keyA, keyB)
		}
	})
}

// rational reads a JSON number of a moderate size.
func rational(s string) (*big.Rat, bool) {
	if i := strings.IndexAny(s, "eE"); i >= 0 && len(s)-i > 4 || len(s) > 50 || !isJSONNumber(s) {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}
