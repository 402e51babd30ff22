package pgjson_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture/postgres/pgjson"
	"github.com/runnel-dev/runnel/e2e/servers"
)

// TestAlteredComposite meets values that were logged under another definition of their type.
func TestAlteredComposite(t *testing.T) {
	t.Parallel()
	conn := connect(t, servers.Postgres(t, 15).PostgresURL(), false)
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TYPE public.pair AS (a int, b text)`)
	var oid uint32
	if err := conn.QueryRow(t.Context(), `SELECT 'public.pair'::regtype::oid`).Scan(&oid); err != nil {
		t.Fatal(err)
	}
	catalog := pgjson.New(conn)
	typ := func() *pgjson.Type {
		t.Helper()
		typ, err := catalog.Type(t.Context(), oid, -1)
		if err != nil {
			t.Fatal(err)
		}
		return typ
	}
	check := func(text, want string, wantErr error) {
		t.Helper()
		got, err := typ().Append([]byte("x"), []byte(text))
		if string(got) != "x"+want || !errors.Is(err, wantErr) {
			t.Errorf("%s: got %s, %v; want x%s, %v", text, got, err, want, wantErr)
		}
	}
	check(`(1,x)`, `{"a":1,"b":"x"}`, nil)
	exec(`ALTER TYPE public.pair ADD ATTRIBUTE c bool`)
	check(`(1,x,t)`, ``, pgjson.ErrShape)
	catalog.Forget()
	check(`(1,x,t)`, `{"a":1,"b":"x","c":true}`, nil)
	check(`(1,x)`, ``, pgjson.ErrShape)
	if got := string(typ().AppendText(nil, []byte(`(1,"x")`))); got != `"(1,\"x\")"` {
		t.Errorf("text: got %s", got)
	}

	exec(`DROP TYPE public.pair`)
	catalog.Forget()
	if !typ().Missing {
		t.Error("the type is gone, but not missing")
	}
	check(`(1,"x")`, `"(1,\"x\")"`, nil)
}

// TestMalformed feeds texts that no server prints: an error each, and nothing appended.
func TestMalformed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typ, text string }{
		{"bool", ""}, {"bool", "true"},
		{"date", ""}, {"date", "02/29/2024"}, {"date", "Infinity"},
		{"timestamp", "2024-01-01"}, {"timestamp", "2024-01-01T00:00:00"}, {"timestamp", "Thu Feb 29 12:34:56 2024"}, {"timestamp", "2024-01-01 12"},
		{"timestamptz", "2024-01-01 00:00:00"}, {"timestamptz", "2024-01-01 00:00:00 CET"},
		{"int[]", ""}, {"int[]", "1"}, {"int[]", "{"}, {"int[]", "}"}, {"int[]", "{1"}, {"int[]", "{1,}"}, {"int[]", "{,1}"}, {"int[]", "{1}2"}, {"int[]", "{1}}"},
		{"int[]", "{{1}{2}}"}, {"int[]", "{1{2}}"}, {"int[]", `{1"2"}`}, {"int[]", `{"1"2}`}, {"int[]", "{1}{2}"}, {"int[]", "[1:2]"}, {"int[]", "[1:2]="},
		{"int[]", "{{{{{{{1}}}}}}}"}, {"text[]", `{"a}`}, {"text[]", `{"a\`}, {"text[]", `{"a\"}`}, {"text[]", `{a"b}`}, {"text[]", `{a\b}`}, {"bool[]", `{t,x}`}, {"bool[]", `{"\x"}`},
		{"vector", " "}, {"vector", "1  2"}, {"vector", "1 "},
		{"pair", ""}, {"pair", "("}, {"pair", "1,2"}, {"pair", "(1,2"}, {"pair", "(,"}, {"pair", `(1,"a)`}, {"pair", `(1,"a"")`}, {"pair", `(1,"a"b)`}, {"pair", `(1,"a\")`}, {"pair", `(1,a"b)`},
		{"pair", "(1)"}, {"pair", "()"}, {"pair", "(1,2,3)"}, {"pair", "(1,2)x)"},
		{"nested", `("(1)",t)`}, {"nested", `("(1,""x)",t)`}, {"nested", `(,x)`},
	} {
		got, err := fixed(t)[c.typ].Append([]byte("dst"), []byte(c.text))
		if err == nil || string(got) != "dst" {
			t.Errorf("%s %q: got %q, %v", c.typ, c.text, got, err)
		}
		if err != nil && c.text != "" && len(c.text) > 6 && strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: the error shows the value: %v", c.typ, err)
		}
	}
}
