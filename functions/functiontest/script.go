package functiontest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// script is the source: its tables, and the transaction that is open.
type script struct {
	source string
	tables map[event.Table]*scripted
	begun  []event.Change
	known  map[string]bool // structures that are published, by fingerprint
	log    uint64          // place in its log
	at     event.Position  // of the last change that was published
	last   map[int]uint64  // by lane: sequence of the last message that is for the function
}

// scripted is a table of the source.
type scripted struct {
	schema *event.Schema
	rows   map[string]row
}

type row = map[string]json.RawMessage

// Table declares a table; Columns makes it. One that is not declared has the columns of the rows that are written, of the types that JSON has,
// and the key id.
func (f *Flow) Table(s *event.Schema) {
	f.t.Helper()
	if f.tables[s.Table] != nil {
		f.t.Fatalf("table %s is there already", s.Table)
	}
	f.tables[s.Table] = &scripted{schema: event.NewSchema(f.source, s.Connector, s.Database, s.Table, s.Columns), rows: map[string]row{}}
}

// Insert inserts rows within the transaction that is open: structs or maps that encoding/json knows, or JSON objects as strings.
// The table is schema.table, or a table of public.
func (f *Flow) Insert(table string, rows ...any) {
	f.t.Helper()
	for _, r := range rows {
		t, row, key := f.row(table, r)
		if t.rows[key] != nil {
			f.t.Fatalf("table %s has a row of this key already: %s", t.schema.Table, t.print(row))
		}
		t.rows[key] = row
		f.add(event.Change{Op: event.Create, Schema: t.schema, After: t.print(row)})
	}
}

// Update writes columns of rows that are there: the key, and what changes. (The source tells an update of the key as a delete and
// an insert: write these.)
func (f *Flow) Update(table string, rows ...any) {
	f.t.Helper()
	for _, r := range rows {
		t, row, key := f.row(table, r)
		was := t.rows[key]
		if was == nil {
			f.t.Fatalf("table %s has no row of this key: %s", t.schema.Table, t.print(row))
		}
		merged := maps.Clone(was)
		maps.Copy(merged, row)
		t.rows[key] = merged
		f.add(event.Change{Op: event.Update, Schema: t.schema, After: t.print(merged)})
	}
}

// Delete deletes rows, given as for Insert, or by the values of a key of one column.
func (f *Flow) Delete(table string, keys ...any) {
	f.t.Helper()
	for _, k := range keys {
		b := f.encode(k)
		if t := f.tables[name(table)]; t != nil && b[0] != '{' && len(t.schema.KeyColumns()) == 1 {
			b, _ = json.Marshal(row{t.schema.Columns[t.schema.KeyColumns()[0]].Name: b})
		}
		t, r, key := f.row(table, b)
		if t.rows[key] == nil {
			f.t.Fatalf("table %s has no row of this key: %s", t.schema.Table, t.print(r))
		}
		delete(t.rows, key)
		f.add(event.Change{Op: event.Delete, Schema: t.schema, Before: t.printKey(r)})
	}
}

// Truncate empties a table, in a transaction of its own.
func (f *Flow) Truncate(table string) {
	f.t.Helper()
	f.Commit()
	t := f.tables[name(table)]
	if t == nil {
		f.t.Fatalf("there is no table %s", table)
	}
	clear(t.rows)
	f.add(event.Change{Op: event.Truncate, Schema: t.schema})
	f.Commit()
}

// Rows are the rows that a table of the source holds now, as JSON, by their keys.
func (f *Flow) Rows(table string) []string {
	var rows []string
	if t := f.tables[name(table)]; t != nil {
		for _, key := range slices.Sorted(maps.Keys(t.rows)) {
			rows = append(rows, string(t.print(t.rows[key])))
		}
	}
	return rows
}

// Commit ends the transaction that is open, and publishes it as the source's agent does.
func (f *Flow) Commit() {
	f.t.Helper()
	if len(f.begun) == 0 {
		return
	}
	f.log += 1000
	for i := range f.begun {
		c := &f.begun[i]
		c.Position = event.Position{Timeline: 1, Commit: f.log, Change: f.log - 900 + uint64(i)}
		c.CommitMS, c.TxID, c.Order, c.Last = time.Now().UnixMilli(), f.log, int64(i+1), i == len(f.begun)-1
		f.publish(c)
	}
	f.begun = f.begun[:0]
	f.check(f.chain.Flush())
	f.check(f.chain.Wait(f.ctx, f.chain.Sent()))
}

func (f *Flow) add(c event.Change) { f.begun = append(f.begun, c) }

// publish sends a change: one message, or one for each partition.
func (f *Flow) publish(c *event.Change) {
	f.t.Helper()
	if !f.known[c.Schema.Fingerprint()] {
		_, err := f.registry.Schemas.Put(f.ctx, c.Schema.KVKey(), c.Schema.Marshal())
		f.check(err)
		f.known[c.Schema.Fingerprint()] = true
	}
	partitions := f.stream.Partitions()
	parts := []int{0}
	if c.Op == event.Truncate {
		parts = parts[:0]
		for p := range partitions {
			parts = append(parts, p)
		}
	} else if key := c.After; len(c.Schema.KeyColumns()) > 0 {
		if key == nil {
			key = c.Before
		}
		canonical, err := c.Schema.AppendKey(nil, event.RowOf(key))
		f.check(err)
		parts[0] = event.Partition(canonical, partitions)
	}
	from := f.at
	for k, p := range parts {
		if c.Op == event.Truncate {
			c.Position.Part = uint32(p)
		}
		to := c.Position
		to.Part = 0
		f.send(c, p, event.Group{From: from, To: to, K: k + 1, N: len(parts)})
		f.at = to
	}
}

func (f *Flow) send(c *event.Change, partition int, g event.Group) {
	f.t.Helper()
	sequence, err := f.chain.Publish(f.ctx, &stream.Outgoing{
		Subject: event.Subject(f.source, c.Schema.Table, partition), ID: event.MessageID(f.source, c.Position), Group: g, Data: event.AppendLine(nil, c),
	})
	f.check(err)
	if f.spec.Matches(c.Schema.Table) {
		f.mu.Lock()
		f.last[f.lane(partition)] = sequence
		f.mu.Unlock()
	}
}

// name of a table.
func name(table string) event.Table {
	schema, name, ok := strings.Cut(table, ".")
	if !ok {
		return event.Table{Schema: "public", Name: table}
	}
	return event.Table{Schema: schema, Name: name}
}

func (f *Flow) encode(v any) []byte {
	f.t.Helper()
	switch v := v.(type) {
	case []byte:
		return v
	case json.RawMessage:
		return v
	case string:
		if strings.HasPrefix(v, "{") {
			return []byte(v)
		}
	}
	b, err := json.Marshal(v)
	f.check(err)
	return b
}

// row reads a row, and gives the table the columns that it did not have.
func (f *Flow) row(table string, v any) (*scripted, row, string) {
	f.t.Helper()
	b := f.encode(v)
	var r row
	if err := json.Unmarshal(b, &r); err != nil {
		f.t.Fatalf("table %s: %s is no row: %v", table, b, err)
	}
	t := f.tables[name(table)]
	if t == nil {
		f.Table(event.NewSchema(f.source, "postgresql", f.source, name(table), nil))
		t = f.tables[name(table)]
	}
	f.widen(t, r, b)
	if len(t.schema.KeyColumns()) == 0 {
		f.t.Fatalf("table %s: which column is its key? It has none named id: declare it with Flow.Table(functiontest.Columns(…))", t.schema.Table)
	}
	key, err := t.schema.AppendKey(nil, event.RowOf(t.printKey(r)))
	if err != nil {
		f.t.Fatalf("%v, in %s", err, b)
	}
	return t, r, string(key)
}

// widen adds columns that a row has and its table does not, in the row's order.
func (f *Flow) widen(t *scripted, r row, text []byte) {
	columns := slices.Clone(t.schema.Columns)
	for name := range event.RowOf(text).All() {
		if t.schema.Index(name) >= 0 {
			continue
		}
		c := event.Column{Name: name, Type: typeOf(r[name]), Nullable: name != "id"}
		if name == "id" && len(t.schema.KeyColumns()) == 0 {
			c.Key = 1
		}
		columns = append(columns, c)
	}
	if len(columns) > len(t.schema.Columns) {
		t.schema = event.NewSchema(f.source, t.schema.Connector, t.schema.Database, t.schema.Table, columns)
	}
}

// typeOf is the type of a column in which such a value stands.
func typeOf(v json.RawMessage) string {
	switch v = bytes.TrimSpace(v); {
	case v[0] == '{' || v[0] == '[':
		return "jsonb"
	case v[0] == 't' || v[0] == 'f':
		return "boolean"
	case v[0] == '"' || v[0] == 'n':
		return "text"
	case bytes.ContainsAny(v, ".eE"):
		return "numeric"
	}
	return "bigint"
}

// print prints a row with all columns in table order.
func (t *scripted) print(r row) []byte { return print(t.schema.Columns, r) }

// printKey prints the columns of the key that a row has.
func (t *scripted) printKey(r row) []byte {
	var columns []event.Column
	for _, c := range t.schema.Columns {
		if c.Key > 0 && r[c.Name] != nil {
			columns = append(columns, c)
		}
	}
	return print(columns, r)
}

func print(columns []event.Column, r row) []byte {
	b := []byte{'{'}
	for i, c := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(event.AppendJSONString(b, c.Name), ':')
		b = fmt.Append(b, cmp.Or(string(r[c.Name]), "null"))
	}
	return append(b, '}')
}
