package event_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/runtime/event"
)

func isJSONNumber(s string) bool {
	return s != "" && (s[0] == '-' || '0' <= s[0] && s[0] <= '9') && strings.IndexByte("0123456789", s[len(s)-1]) >= 0 && json.Valid([]byte(s))
}

const wide = `{"id":1,"empty":"","n":null,"t":true,"f":false,"num":-12.50e+3,"text":"a\"b\\","obj":{"a": [1, {"id":9}], "}":"{"},` +
	`"arr":[[1,2],["]"]],"quo\"te":5,"gr\u00f6\u00dfe":6,"größe2":7,"long":"0123456789abcdefghij\\\"klm\\"}`

func TestRowColumns(t *testing.T) {
	t.Parallel()
	want := [][2]string{
		{"id", `1`},
		{"empty", `""`},
		{"n", `null`},
		{"t", `true`},
		{"f", `false`},
		{"num", `-12.50e+3`},
		{"text", `"a\"b\\"`},
		{"obj", `{"a": [1, {"id":9}], "}":"{"}`},
		{"arr", `[[1,2],["]"]]`},
		{`quo"te`, `5`},
		{"größe", `6`},
		{"größe2", `7`},
		{"long", `"0123456789abcdefghij\\\"klm\\"`},
	}
	row := event.RowOf([]byte(wide))
	if !row.Valid() || row.IsNull() || string(row.Raw()) != wide {
		t.Errorf("valid %v, null %v", row.Valid(), row.IsNull())
	}
	var got [][2]string
	for name, v := range row.All() {
		got = append(got, [2]string{name, string(v)})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("All, -want +got:\n%s", diff)
	}
	for _, w := range want {
		if v, ok := row.Column(w[0]); !ok || string(v) != w[1] {
			t.Errorf("column %s: got %s, %v, want %s", w[0], v, ok, w[1])
		}
	}
	for _, name := range []string{"", "ID", "i", "a", `quo\"te`, "}"} {
		if v, ok := row.Column(name); ok {
			t.Errorf("column %q is %s", name, v)
		}
	}
	for name := range row.All() {
		if name != "id" {
			t.Errorf("All went on to %s", name)
		}
		break
	}
}

func TestNullRow(t *testing.T) {
	t.Parallel()
	for _, r := range []event.Row{{}, event.RowOf(nil), event.RowOf([]byte("null"))} {
		if _, ok := r.Column("id"); ok || !r.IsNull() || !r.Valid() || len(r.Raw()) != 0 {
			t.Errorf("%q is no null row", r.Raw())
		}
		for name := range r.All() {
			t.Errorf("a null row has column %s", name)
		}
	}
}

func TestMalformedRows(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		`{`, `{"`, `{"id"`, `{"id":`, `{"id":}`, `{"id":1`, `{"id":1,`, `{"id":1,}`, `{"id":1 "b":2}`, `{id:1}`, `{"id":tru}`, `{"id":01}`, `{"id":1.}`,
		`{"id":-}`, `{"id":1e}`, `{"id":"a\"}`, `{"id":[1}`, `{"id":[1}]`, `{"id":[1,]}`, `{"id":{"a"}}`, `{"id":1}}`, `{"id":1}x`, `[]`, `1`, `"a"`,
		`{"id":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
	} {
		r := event.RowOf([]byte(s))
		if r.Valid() {
			t.Errorf("%.60s is valid", s)
		}
		if _, ok := r.Column("nothing"); ok {
			t.Errorf("%.60s has a column that it does not name", s)
		}
		for range r.All() {
		}
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ raw, text string }{
		{`"plain"`, "plain"},
		{`""`, ""},
		{`"a\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude42\u001f"`, "a\"\\/\b\f\n\r\tAé🙂\x1f"},
		{`"\ud83d"`, "\ufffd"},
		{`"\ud83dx\u0041"`, "\ufffdxA"},
		{`"\ude42\ud83d\ude42"`, "\ufffd🙂"},
		{`"\u00"`, `\u00`},
		{`"\q\"`, `\q\`},
		{`12.50`, "12.50"},
		{`{"a": 1}`, `{"a": 1}`},
		{`null`, "null"},
		{``, ""},
	} {
		if got := event.Value(tt.raw).Text(); got != tt.text {
			t.Errorf("Text of %s: got %q, want %q", tt.raw, got, tt.text)
		}
		if got := string(event.Value(tt.raw).AppendText([]byte("x"))); got != "x"+tt.text {
			t.Errorf("AppendText of %s: got %q", tt.raw, got)
		}
	}
}

func TestNumericValues(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int64{`0`: 0, `-0`: 0, `"4294967295"`: 4294967295, `9223372036854775807`: 1<<63 - 1, `-9223372036854775808`: -1 << 63} {
		if got, err := event.Value(raw).Int64(); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", raw, got, err, want)
		}
	}
	for _, raw := range []string{``, `null`, `1.5`, `1e2`, `9223372036854775808`, `-9223372036854775809`, `"x"`, `true`, `--1`, `+1`, `-`} {
		if got, err := event.Value(raw).Int64(); err == nil {
			t.Errorf("Int64 of %s is %d", raw, got)
		}
	}
	for raw, want := range map[string]float64{`1.5`: 1.5, `-1e300`: -1e300, `5e-324`: 5e-324, `"17"`: 17} {
		if got, err := event.Value(raw).Float64(); err != nil || got != want {
			t.Errorf("%s: got %g, %v, want %g", raw, got, err, want)
		}
	}
	if got, err := event.Value(`"NaN"`).Float64(); err != nil || got == got {
		t.Errorf("NaN: got %g, %v", got, err)
	}
	if got, err := event.Value(`"-Infinity"`).Float64(); err != nil || got > -1e308 {
		t.Errorf("-Infinity: got %g, %v", got, err)
	}
	for _, raw := range []string{``, `null`, `1e999`, `"x"`} {
		if got, err := event.Value(raw).Float64(); err == nil {
			t.Errorf("Float64 of %s is %g", raw, got)
		}
	}
	yes, errYes := event.Value(`true`).Bool()
	no, errNo := event.Value(`false`).Bool()
	if _, err := event.Value(`"true"`).Bool(); !yes || no || errYes != nil || errNo != nil || err == nil {
		t.Errorf("Bool: %v %v, %v %v, of a string %v", yes, no, errYes, errNo, err)
	}
}

func FuzzRow(f *testing.F) {
	f.Add([]byte(wide))
	for _, s := range []string{``, `null`, `{}`, `{"a":1}`, `{"a":"\`, `{"a":{"b":[1,{}]},"c":"\ud83d"}`, `{"a":1,"a":2}`, `{"a" : -0.0e-1 }`, `{"\0":0 ,`} {
		f.Add([]byte(s))
	}
	s := keyed("citext", "numeric")
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := event.RowOf(raw)
		_, _ = s.AppendKey(nil, r)
		columns := 0
		for name, v := range r.All() {
			columns++
			if first, ok := r.Column(name); !ok || columns == 1 && string(first) != string(v) {
				t.Fatalf("column %q is not found again", name)
			}
			_ = v.Text()
			_, _ = v.Int64()
			_, _ = v.Float64()
		}
		if len(raw) == 0 || raw[0] != '{' || raw[len(raw)-1] != '}' || !json.Valid(raw) {
			return
		}
		if !r.Valid() {
			t.Fatal("valid JSON is refused")
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		for name, v := range r.All() {
			raw, ok := want[strings.ToValidUTF8(name, "\ufffd")]
			if !ok && strings.ToValidUTF8(name, "") == name {
				t.Fatalf("column %q is not in the object", name)
			}
			var text string
			if ok && string(raw) == string(v) && v[0] == '"' {
				if err := json.Unmarshal(v, &text); err == nil && strings.ToValidUTF8(v.Text(), "") == v.Text() && v.Text() != text {
					t.Fatalf("%s: got %q, want %q", v, v.Text(), text)
				}
			}
		}
	})
}
