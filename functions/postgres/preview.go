package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// Preview is a transaction for each span, into tables as Runnel makes them: one that somebody else made, or that other tables refer
// to, may take other statements.
func (s *Sink) Preview(_ context.Context, b sink.Batch) ([]byte, error) {
	var text bytes.Buffer
	var failed []sink.Failure
	plans := map[*event.Schema]*plan{}
	planOf := func(schema *event.Schema) (*plan, error) {
		if plans[schema] == nil {
			target, err := s.names.target(schema.Table)
			if err != nil {
				return nil, sink.Halt(err)
			}
			plans[schema] = newPlan(schema, target, asMade(schema))
		}
		return plans[schema], nil
	}
	for i := range b.Spans {
		sp := &b.Spans[i]
		w := newWriter()
		var bad []badEvent
		var err error
		if s.inOrder {
			bad, err = w.inOrder(sp.Events, &partition{}, planOf, func(*event.Event) bool { return false })
		} else {
			bad, err = w.collect(&partition{}, sp, sp.After.Version, planOf)
		}
		if err != nil {
			return nil, err
		}
		for _, b := range bad {
			failed = append(failed, sink.Failure{Span: i, Event: int(b.event), Err: sink.Permanent(b.err)})
		}
		if len(w.order) > 0 {
			s.print(&text, w, &b, sp)
		}
	}
	if len(failed) > 0 {
		return text.Bytes(), &sink.BatchError{Failed: failed}
	}
	return text.Bytes(), nil
}

// print shows a span as psql would take it.
func (s *Sink) print(text *bytes.Buffer, w *writer, b *sink.Batch, sp *sink.Span) {
	if s.inOrder {
		w.emitRuns(w.order)
		fmt.Fprintf(text, "%s;\n", begin)
	} else {
		w.emit(w.order)
		fmt.Fprintf(text, "BEGIN;\n%s\n;\n", bound(guard, s.function, b.Generation, sp.Partition, sp.After.Version, sp.To.Version, sp.To.Sequence))
	}
	for i := range w.statements {
		st := &w.statements[i]
		fmt.Fprintf(text, "%s;\n", bound(st.sql, string(w.buf[st.from:st.to]), s.function, st.target.String()))
	}
	if s.inOrder {
		fmt.Fprintf(text, "%s;\n%s;\n", checkAll, bound(move, s.function, b.Generation, sp.Partition, sp.To.Version, sp.To.Sequence))
	}
	text.WriteString("COMMIT;\n")
}

// identical are types whose equal values are the same bytes, see columnQuery.
var identical = []string{"smallint", "integer", "bigint", "uuid", "boolean", "date", "timestamp without time zone", "timestamp with time zone", "bytea", "oid", "text", "character varying"}

// asMade is the table that would be made for a schema.
func asMade(schema *event.Schema) *table {
	t := &table{kind: "r", owned: true, writable: true, equal: map[string]string{}}
	for _, c := range schema.Columns {
		typ := c.Type
		if schema.Connector != "postgresql" {
			typ = standIn(c.BaseType())
		}
		t.columns = append(t.columns, &column{name: c.Name, typ: typ, notNull: c.Key > 0, exact: slices.Contains(identical, withoutModifiers(typ))})
	}
	key := index{usable: true, plain: true}
	for _, i := range schema.KeyColumns() {
		name := schema.Columns[i].Name
		key.columns, key.equal = append(key.columns, name), append(key.equal, "OPERATOR(pg_catalog.=)")
		t.equal[name] = "OPERATOR(pg_catalog.=)"
	}
	if len(key.columns) > 0 {
		t.unique = []index{key}
	}
	return t
}

func withoutModifiers(typ string) string {
	from, to := strings.IndexByte(typ, '('), strings.IndexByte(typ, ')')
	if from < 0 || to < from {
		return typ
	}
	return typ[:from] + typ[to+1:]
}

// bound is SQL with its parameters as literals. What stands in quotes, and in a comment, is left as it is.
func bound(sql string, args ...any) string {
	var b strings.Builder
	for i := 0; i < len(sql); {
		switch c := sql[i]; {
		case c == '\'' || c == '"':
			end := i + 1 + strings.IndexByte(sql[i+1:], c) + 1
			b.WriteString(sql[i:end])
			i = end
		case strings.HasPrefix(sql[i:], "--"):
			end := i + strings.IndexByte(sql[i:]+"\n", '\n')
			b.WriteString(sql[i:end])
			i = end
		case c == '$' && i+1 < len(sql) && '1' <= sql[i+1] && int(sql[i+1]-'1') < len(args):
			if text, ok := args[sql[i+1]-'1'].(string); ok {
				b.WriteString(literal(text))
			} else {
				fmt.Fprint(&b, args[sql[i+1]-'1'])
			}
			i += 2
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}
