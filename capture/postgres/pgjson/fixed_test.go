package pgjson_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/capture/postgres/pgjson"
)

// fixed are types without a server, by a catalog that is answered from memory.
func fixed(t testing.TB) map[string]*pgjson.Type {
	t.Helper()
	rows := []typeRow{
		{oid: 16, name: "bool"}, {oid: 23, name: "int"}, {oid: 25, name: "text"}, {oid: 114, name: "json"}, {oid: 603, name: "box"}, {oid: 1700, name: "numeric"},
		{oid: 1082, name: "date"}, {oid: 1114, name: "timestamp"}, {oid: 1184, name: "timestamptz"}, {oid: 3802, name: "jsonb"},
		{oid: 1000, name: "bool[]", output: "array_out", elem: 16}, {oid: 1007, name: "int[]", output: "array_out", elem: 23}, {oid: 1009, name: "text[]", output: "array_out", elem: 25},
		{oid: 1020, name: "box[]", output: "array_out", elem: 603, delim: ";"}, {oid: 22, name: "vector", output: "int2vectorout", elem: 23},
		{oid: 20001, name: "pair", typtype: "c", names: []string{"n", "s"}, types: []uint32{23, 25}},
		{oid: 20002, name: "pair[]", output: "array_out", elem: 20001},
		{oid: 20003, name: "nested", typtype: "c", names: []string{"ps", "b"}, types: []uint32{20001, 16}},
		{oid: 20004, name: "tree", typtype: "c", names: []string{"ps", "n", "at"}, types: []uint32{20002, 20003, 1184}},
		{oid: 20005, name: "tree[]", output: "array_out", elem: 20004},
	}
	catalog := pgjson.New(answers(rows))
	types := map[string]*pgjson.Type{}
	for _, r := range rows {
		typ, err := catalog.Type(context.Background(), r.oid, -1)
		if err != nil {
			t.Fatal(err)
		}
		types[r.name] = typ
	}
	return types
}

// typeRow is what the catalog's query gives of one type.
type typeRow struct {
	oid                          uint32
	name, typtype, output, delim string
	elem                         uint32
	names                        []string
	types                        []uint32
}

// answers is a Querier that gives the same rows, whatever it is asked.
type answers []typeRow

func (a answers) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return &fixedRows{rows: a, at: -1}, nil
}

type fixedRows struct {
	pgx.Rows
	rows answers
	at   int
}

func (r *fixedRows) Next() bool { r.at++; return r.at < len(r.rows) }
func (r *fixedRows) Err() error { return nil }
func (r *fixedRows) Close()     {}

func (r *fixedRows) RawValues() [][]byte { return make([][]byte, 14) }

func (r *fixedRows) Scan(dst ...any) error {
	row := r.rows[r.at]
	*dst[0].(*uint32), *dst[1].(*int32), *dst[2].(*string) = row.oid, -1, row.name
	*dst[3].(*string), *dst[5].(*string), *dst[6].(*uint32), *dst[7].(*string) = row.typtype, row.output, row.elem, ","
	if row.delim != "" {
		*dst[7].(*string) = row.delim
	}
	*dst[10].(*[]string), *dst[11].(*[]uint32), *dst[12].(*[]int32) = row.names, row.types, make([]int32, len(row.types))
	for i := range row.types {
		(*dst[12].(*[]int32))[i] = -1
	}
	return nil
}
