package registry

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Test is `kind: test`: cases of a function, which `runnel test` runs without any server.
type Test struct {
	Function string            `yaml:"function"` // whose cases these are
	Files    []string          `yaml:"files"`    // where it is specified, from this file's folder; default: the files on the command line
	Env      map[string]string `yaml:"env"`      // values of references: the environment itself is not looked at, so that a test means the same everywhere
	Tables   []TestTable       `yaml:"tables"`   // structure of the tables that rows are given of; events of a fixture bring their own
	Cases    []TestCase        `yaml:"cases"`

	document *document
}

// TestTable is a table of the source.
type TestTable struct {
	Name    string        `yaml:"name"`    // schema.table
	Columns []TypedColumn `yaml:"columns"` // column: type as the source declares it, then `not null` where it is, and `key` for those of the key, in their order
}

// TypedColumn is a column with its type as text.
type TypedColumn struct{ Column, Type string }

// TestCase is one case: what comes from the stream, and what the target gets of it.
type TestCase struct {
	Name   string      `yaml:"name"`
	Given  []Given     `yaml:"given"`  // events, in their order
	Expect Expectation `yaml:"expect"` // all that the target gets
}

// Given is one event, or those of a fixture.
type Given struct {
	Table   string `yaml:"table"`   // schema.table; default: the only one of the test
	Insert  JSON   `yaml:"insert"`  // the row; columns that are left out are NULL
	Update  JSON   `yaml:"update"`  // the row as it is afterwards
	Before  JSON   `yaml:"before"`  // of an update: the row before, as under REPLICA IDENTITY FULL
	Delete  JSON   `yaml:"delete"`  // the key of the row
	Read    JSON   `yaml:"read"`    // the row, as a load or backfill reads it
	Fixture string `yaml:"fixture"` // a file of events that `runnel tail --record` saved, from this file's folder
}

// Expectation is what the target gets, in the order of the events: what is not there must not come.
type Expectation struct {
	Rows      []JSON   `yaml:"rows"`      // rows that are written, with all of their columns
	Documents []JSON   `yaml:"documents"` // the same, said of a search engine
	Deletes   []JSON   `yaml:"deletes"`   // keys that are deleted
	Dead      []string `yaml:"dead"`      // events that can never be written: a part of the reason of each
	Request   string   `yaml:"request"`   // what is sent, word by word, as `runnel dry-run` prints it; with it the others may be left out
}

// JSON is a row as JSON, members in the order in which they were written, numbers digit by digit.
type JSON []byte

// ReadTests reads tests with the files that they name. It is as strict as ReadFiles.
func ReadTests(paths ...string) (*Files, error) { return readFiles(slices.Clone(paths), true) }

func (d *document) test(root ast.Node) *Test {
	t := &Test{document: d}
	d.decode(root, reflect.ValueOf(t).Elem(), "")
	d.checkTest(t)
	return t
}

// beside are the files that a test names and that are not read yet.
func (d *document) beside(read []string) []string {
	var more []string
	for _, path := range d.files {
		if path = filepath.Join(filepath.Dir(d.file), path); !slices.ContainsFunc(read, func(r string) bool { return filepath.Clean(r) == path }) {
			more = append(more, path)
		}
	}
	return more
}

// File is where the test stands.
func (t *Test) File() string { return t.document.file }

// Line is where a case begins.
func (t *Test) Line(c int) int {
	line, _ := t.document.place(t.document.places[t.document.known(index("cases", c))])
	return line
}

// Path of a file that the test names.
func (t *Test) Path(name string) string { return filepath.Join(filepath.Dir(t.document.file), name) }

// Fault is what is found to be wrong later, at a path such as cases[0].given[1].insert.id.
func (t *Test) Fault(path, format string, a ...any) error {
	t.document.faults = nil
	t.document.at(path, format, a...)
	return t.document.faults
}

func (d *document) checkTest(t *Test) {
	d.files = t.Files
	if t.Function == "" {
		d.missing("function", "no function: expected function: name, whose cases these are")
	}
	if len(t.Cases) == 0 && d.places["cases"] == nil {
		d.missing("cases", "no cases: expected cases: [{name: …, given: […], expect: {…}}]")
	}
	for i := range t.Tables {
		at := index("tables", i)
		if schema, table, ok := strings.Cut(t.Tables[i].Name, "."); !ok || schema == "" || table == "" {
			d.at(at+".name", "%s.name %q: expected schema.table", at, t.Tables[i].Name)
		}
		if len(t.Tables[i].Columns) == 0 {
			d.at(at, "%s: expected columns: {id: bigint key, …}", at)
		}
		for _, c := range t.Tables[i].Columns {
			if typ, _, _ := c.parts(); typ == "" {
				d.at(at+".columns."+c.Column, "column %s: expected its type, such as `bigint key` or `text not null`", c.Column)
			}
		}
	}
	for i := range t.Cases {
		d.checkCase(t, index("cases", i), &t.Cases[i])
	}
}

func (d *document) checkCase(t *Test, at string, c *TestCase) {
	if c.Name == "" {
		d.at(at, "%s: no name: it is what a failure says", at)
	}
	for i := range c.Given {
		g, at := &c.Given[i], index(at+".given", i)
		kinds := 0
		for _, v := range []JSON{g.Insert, g.Update, g.Delete, g.Read} {
			if v != nil {
				kinds++
			}
		}
		if g.Fixture != "" {
			kinds++
		}
		switch {
		case kinds != 1:
			d.at(at, "%s: expected exactly one of insert, update, delete, read and fixture", at)
		case g.Before != nil && g.Update == nil:
			d.at(at+".before", "%s: before belongs to an update", at)
		case g.Fixture == "" && t.table(g.Table) == nil:
			d.at(at+".table", "%s: expected table: one of %s", at, strings.Join(t.tableNames(), ", "))
		}
	}
	if len(c.Expect.Rows) > 0 && len(c.Expect.Documents) > 0 {
		d.at(at+".expect", "%s.expect: rows and documents are the same: expected one of them", at)
	}
}

// table finds one by its name; the empty name is that of the only one.
func (t *Test) table(name string) *TestTable {
	if name == "" && len(t.Tables) == 1 {
		return &t.Tables[0]
	}
	for i := range t.Tables {
		if t.Tables[i].Name == name {
			return &t.Tables[i]
		}
	}
	return nil
}

func (t *Test) tableNames() []string {
	names := make([]string, len(t.Tables))
	for i := range t.Tables {
		names[i] = t.Tables[i].Name
	}
	return names
}

// Schema is the structure of a given row's table, as the source's agent would tell it.
func (t *Test) Schema(g *Given, source, connector string) *event.Schema {
	table := t.table(g.Table)
	schema, name, _ := strings.Cut(table.Name, ".")
	columns := make([]event.Column, len(table.Columns))
	key := 0
	for i, c := range table.Columns {
		typ, nullable, isKey := c.parts()
		columns[i] = event.Column{Name: c.Column, Type: typ, Nullable: nullable && !isKey}
		if isKey {
			key++
			columns[i].Key = key
		}
	}
	return event.NewSchema(source, connector, source, event.Table{Schema: schema, Name: name}, columns)
}

// parts takes `numeric(12,2) not null key` apart.
func (c TypedColumn) parts() (typ string, nullable, key bool) {
	typ, key = cutWord(strings.Join(strings.Fields(c.Type), " "), "key")
	typ, notNull := cutWord(typ, "not null")
	return typ, !notNull, key
}

func cutWord(s, word string) (string, bool) {
	rest, ok := strings.CutSuffix(" "+s, " "+word)
	return strings.TrimSpace(rest), ok
}

func (d *document) decodeRow(n ast.Node, v reflect.Value, path string) {
	if _, ok := n.(*ast.MappingNode); !ok {
		d.fault(n, "%s: expected a mapping of column: value, found %s", path, describe(n))
		return
	}
	v.SetBytes(d.appendJSON(nil, n, path))
}

// appendJSON turns a node into JSON, and notes where each member stands.
func (d *document) appendJSON(dst []byte, n ast.Node, path string) []byte {
	switch m := d.plain(n).(type) {
	case *ast.MappingNode:
		dst = append(dst, '{')
		for i, entry := range m.Values {
			if i > 0 {
				dst = append(dst, ',')
			}
			name := entry.Key.GetToken().Value
			d.places[path+"."+name] = entry.Value
			dst = append(event.AppendJSONString(dst, name), ':')
			dst = d.appendJSON(dst, entry.Value, path+"."+name)
		}
		return append(dst, '}')
	case *ast.SequenceNode:
		dst = append(dst, '[')
		for i, v := range m.Values {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = d.appendJSON(dst, v, index(path, i))
		}
		return append(dst, ']')
	case *ast.NullNode, nil:
		return append(dst, "null"...)
	case *ast.BoolNode:
		return strconv.AppendBool(dst, m.Value)
	case *ast.IntegerNode, *ast.FloatNode:
		if text := m.GetToken().Value; json.Valid([]byte(text)) {
			return append(dst, text...)
		}
		d.fault(n, "%s: %s is no number of JSON; write it in decimal, or in quotes", path, m.GetToken().Value)
		return append(dst, "null"...)
	default:
		text, _ := scalar(m)
		return event.AppendJSONString(dst, text)
	}
}
