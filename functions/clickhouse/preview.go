package clickhouse

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Preview is the inserts of a batch into tables as Runnel makes them: one that somebody has altered may take another statement.
func (s *Sink) Preview(_ context.Context, b functions.Batch) ([]byte, error) {
	inserts, failed, err := collect(&b, func(schema *event.Schema) (*table, error) {
		t, want, _ := s.derive(schema)
		made := map[string]string{}
		for _, c := range want {
			made[c.name] = c.typ
		}
		t.complete(want, made, s.http)
		return t, nil
	})
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, in := range inserts {
		if len(in.rows) > 0 {
			in.request(0, len(in.rows)).print(&text)
		}
	}
	if len(failed) > 0 {
		return text.Bytes(), &functions.BatchError{Failed: failed}
	}
	return text.Bytes(), nil
}

// print shows a request as clickhouse-client would take it.
func (r request) print(text *bytes.Buffer) {
	for i, name := range slices.Sorted(maps.Keys(r.set)) {
		separator := ", "
		if i == 0 {
			separator = "SET "
		}
		if value, ok := r.set[name].(string); ok {
			fmt.Fprintf(text, "%s%s = %s", separator, name, literal(value))
		} else {
			fmt.Fprintf(text, "%s%s = %v", separator, name, r.set[name])
		}
	}
	text.WriteString(";\n" + r.sql)
	if r.rows == nil {
		text.WriteString(";\n")
		return
	}
	text.WriteString(" FORMAT JSONEachRow\n")
	text.Write(r.rows)
}
