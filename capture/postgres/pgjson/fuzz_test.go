package pgjson_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzAppend feeds any text to any type: no panic, dst is kept, and what is appended is JSON wherever the type's own text
// need not be.
func FuzzAppend(f *testing.F) {
	types := fixed(f)
	for _, text := range []string{"t", "1", "infinity", "2024-01-01", "2024-01-01 00:00:00+00 BC", "{1,NULL}", `[1:2]={"a\"b",c}`, "{(1,1),(0,0)}", `("{""(1,\\""a b\\"")"",NULL}","(""(1,2)"",t)",)`, "(1,\"a\"\"\")", "1 2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, typ := range types {
			got, err := typ.Append([]byte("dst"), []byte(text))
			if !strings.HasPrefix(string(got), "dst") || err != nil && len(got) != 3 {
				t.Fatalf("%s: got %q, %v", name, got, err)
			}
			switch name {
			case "json", "jsonb", "int", "numeric", "int[]", "vector", "pair", "pair[]", "nested", "tree", "tree[]": // the server vouches for json and for numbers
			default:
				if err == nil && !json.Valid(got[3:]) {
					t.Fatalf("%s: %q gives %q", name, text, got)
				}
			}
		}
	})
}

// FuzzRoundTrip prints values as array_out and record_out do, and finds them again in the JSON.
func FuzzRoundTrip(f *testing.F) {
	types := fixed(f)
	f.Add("a", `b"\`, int32(1), true)
	f.Add("", "NULL", int32(-5), false)
	f.Add("{,}", "(; )\t", int32(0), true)
	f.Fuzz(func(t *testing.T, a, b string, n int32, null bool) {
		if !validText(a) || !validText(b) {
			t.Skip()
		}
		type pair struct {
			N *int32  `json:"n"`
			S *string `json:"s"`
		}
		type nested struct {
			P *pair `json:"ps"`
			B *bool `json:"b"`
		}
		type tree struct {
			Ps []*pair `json:"ps"`
			N  nested  `json:"n"`
			At string  `json:"at"`
		}
		want := []tree{
			{Ps: []*pair{{&n, &a}, nil, {nil, &b}}, N: nested{P: &pair{&n, &b}, B: &null}, At: "2024-01-01T00:00:00+00:00"},
			{Ps: []*pair{}, N: nested{P: &pair{S: &a}}, At: "infinity"},
		}
		if null {
			want[1].N = nested{}
		}
		number := func(n *int32) *string {
			if n == nil {
				return nil
			}
			b, _ := json.Marshal(*n)
			return ptr(string(b))
		}
		printPair := func(p *pair) *string {
			if p == nil {
				return nil
			}
			return ptr(record(number(p.N), p.S))
		}
		var trees []*string
		for _, w := range want {
			var ps []*string
			for _, p := range w.Ps {
				ps = append(ps, printPair(p))
			}
			var flag *string
			if w.N.B != nil {
				flag = ptr(map[bool]string{true: "t", false: "f"}[*w.N.B])
			}
			at := strings.Replace(strings.TrimSuffix(w.At, ":00"), "T", " ", 1)
			trees = append(trees, ptr(record(ptr(array(ps)), ptr(record(printPair(w.N.P), flag)), &at)))
		}
		text := array(trees)
		got, err := types["tree[]"].Append(nil, []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		wantJSON, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if canonical(t, got) != canonical(t, wantJSON) {
			t.Fatalf("%q:\n got %s\nwant %s", text, got, wantJSON)
		}
	})
}

func ptr(s string) *string { return &s }

// validText is text that PostgreSQL could hold.
func validText(s string) bool { return strings.ToValidUTF8(s, "") == s && !strings.Contains(s, "\x00") }

const space = " \t\n\r\v\f"

// array prints as array_out.
func array(elems []*string) string {
	var parts []string
	for _, e := range elems {
		switch {
		case e == nil:
			parts = append(parts, "NULL")
		case *e == "" || strings.EqualFold(*e, "NULL") || strings.ContainsAny(*e, `{}",\`+space):
			parts = append(parts, `"`+strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(*e)+`"`)
		default:
			parts = append(parts, *e)
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// record prints as record_out.
func record(fields ...*string) string {
	var parts []string
	for _, f := range fields {
		switch {
		case f == nil:
			parts = append(parts, "")
		case *f == "" || strings.ContainsAny(*f, `()",\`+space):
			parts = append(parts, `"`+strings.NewReplacer(`"`, `""`, `\`, `\\`).Replace(*f)+`"`)
		default:
			parts = append(parts, *f)
		}
	}
	return "(" + strings.Join(parts, ",") + ")"
}

// canonical is JSON in the spelling of Go.
func canonical(t *testing.T, b []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %q", err, b)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
