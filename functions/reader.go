package functions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/runnel-dev/runnel/runtime/event"
)

// MismatchError is a value that a field cannot take.
type MismatchError struct {
	Table  event.Table
	Column string // "" where the whole row is read at once
	Type   string // of the column, as the source declares it
	Field  string // Order.Total
	Want   string // its type in Go
	Value  string // as JSON, its beginning
	Err    error
}

func (e *MismatchError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("table %s: the row %s is no %s: %v", e.Table, e.Value, e.Want, e.Err)
	}
	return fmt.Sprintf("table %s: column %s (%s) holds %s, which is no %s for %s: %v", e.Table, e.Column, e.Type, e.Value, e.Want, e.Field, e.Err)
}

func (e *MismatchError) Unwrap() error { return e.Err }

// reader reads rows into T. It is used by several goroutines.
type reader[T any] struct {
	fields []field  // nil where T reads itself
	plans  sync.Map // by the fingerprint of a table
}

// field of a struct.
type field struct {
	name     string // of the column
	tagged   bool   // by its tag: letters count
	optional bool
	index    []int
	path     string // Order.Total
	of       reflect.Type
}

// readers by type: to look at a type's fields takes longer than to read a row.
var readers sync.Map

func readerOf[T any]() *reader[T] {
	t := reflect.TypeFor[T]()
	if r, ok := readers.Load(t); ok {
		return r.(*reader[T])
	}
	r, _ := readers.LoadOrStore(t, newReader[T](t))
	return r.(*reader[T])
}

func newReader[T any](t reflect.Type) *reader[T] {
	r := &reader[T]{}
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(unmarshaler) {
		return r
	}
	r.fields = []field{}
	r.collect(t, t, nil)
	return r
}

// collect adds the fields of a struct, and of those that it embeds.
func (r *reader[T]) collect(root, t reflect.Type, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(slices.Clone(index), i)
		tag, tagged := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			r.collect(root, f.Type, at)
			continue
		case !f.IsExported() || tag == "-":
			continue
		case name == "":
			name, tagged = f.Name, false
		}
		options = "," + options + ","
		optional := strings.Contains(options, ",omitempty,") || strings.Contains(options, ",omitzero,")
		r.fields = append(r.fields, field{name, tagged, optional, at, root.Name() + "." + f.Name, f.Type})
	}
}

// plan says which field takes each column of a table, by the column's name.
func (r *reader[T]) plan(s *event.Schema) map[string]*field {
	if p, ok := r.plans.Load(s.Fingerprint()); ok {
		return p.(map[string]*field)
	}
	plan := make(map[string]*field, len(r.fields))
	for i := range r.fields {
		f := &r.fields[i]
		if column := f.column(s); column != "" && (plan[column] == nil || len(f.index) < len(plan[column].index)) {
			plan[column] = f // the outer one of two, as in Go
		}
	}
	r.plans.Store(s.Fingerprint(), plan)
	return plan
}

// column is the one that the field takes, or "".
func (f *field) column(s *event.Schema) string {
	if s.Index(f.name) >= 0 {
		return f.name
	}
	for _, c := range s.Columns {
		if !f.tagged && strings.EqualFold(c.Name, f.name) {
			return c.Name
		}
	}
	return ""
}

// fits names the fields that no column fills.
func (r *reader[T]) fits(s *event.Schema) error {
	var lost []string
	for i := range r.fields {
		if f := &r.fields[i]; !f.optional && f.column(s) == "" {
			lost = append(lost, fmt.Sprintf("%s (column %q)", f.path, f.name))
		}
	}
	if lost == nil {
		return nil
	}
	columns := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		columns[i] = c.Name
	}
	return fmt.Errorf("table %s has no column for %s; its columns are %s: correct the tag, or let it say omitempty", s.Table, strings.Join(lost, ", "), strings.Join(columns, ", "))
}

func (r *reader[T]) change(i Item) (Change[T], error) {
	c := Change[T]{Item: i}
	var err error
	if c.Before, err = r.row(i.Event, i.Before); err == nil {
		c.After, err = r.row(i.Event, i.After)
	}
	if err != nil {
		return c, Permanent(err)
	}
	return c, nil
}

// row is nil for the null row.
func (r *reader[T]) row(e *event.Event, row event.Row) (*T, error) {
	if row.IsNull() {
		return nil, nil
	}
	into := new(T)
	if r.fields == nil {
		if err := unmarshal(row.Raw(), into); err != nil {
			return nil, &MismatchError{Table: e.Table, Want: reflect.TypeFor[T]().String(), Value: shortened(row.Raw()), Err: err}
		}
		return into, nil
	}
	plan, v := r.plan(e.Schema), reflect.ValueOf(into).Elem()
	for name, value := range row.All() {
		f := plan[name]
		if f == nil || value.IsNull() {
			continue
		}
		if err := read(v.FieldByIndex(f.index), value); err != nil {
			return nil, &MismatchError{
				Table: e.Table, Column: strings.Clone(name), Type: e.Schema.Columns[e.Schema.Index(name)].Type,
				Field: f.path, Want: f.of.String(), Value: shortened(value), Err: err,
			}
		}
	}
	return into, nil
}

// unmarshal is json.Unmarshal that keeps the digits of numbers in an any.
func unmarshal(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(into)
}

func shortened(b []byte) string {
	const most = 40
	if len(b) <= most {
		return string(b)
	}
	return strings.ToValidUTF8(string(b[:most]), "") + "…"
}
