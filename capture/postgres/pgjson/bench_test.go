package pgjson_test

import (
	"strings"
	"testing"
)

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ typ, text string }{
		{"int", "123456"}, {"numeric", "123456789.00"}, {"bool", "t"}, {"text", strings.Repeat("some words; ", 8)}, {"timestamptz", "2024-02-29 12:34:56.789+00"},
		{"jsonb", `{"a": [1, 2, {"b": "c"}]}`}, {"json", `{"a": [1, 2, {"b": "c"}]}`}, {"int[]", "{1,2,3,4,5,NULL}"}, {"text[]", `{a,"b c","d \"e\"",NULL}`},
		{"tree[]", `{"(\"{\"\"(1,\\\\\"\"a b\\\\\"\")\"\",NULL}\",\"(\"\"(1,2)\"\",t)\",)"}`},
	} {
		typ := fixed(b)[c.typ]
		b.Run(c.typ, func(b *testing.B) {
			text, dst := []byte(c.text), make([]byte, 0, 4096)
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				out, err := typ.Append(dst, text)
				if err != nil || len(out) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestNoAllocs holds Append to its promise.
func TestNoAllocs(t *testing.T) {
	typ, dst := fixed(t)["tree[]"], make([]byte, 0, 4096)
	text := []byte(array([]*string{ptr(record(ptr(array([]*string{ptr(record(ptr("1"), ptr(`a "b"`)))})), nil, nil))}))
	if n := testing.AllocsPerRun(100, func() { typ.Append(dst, text) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}
