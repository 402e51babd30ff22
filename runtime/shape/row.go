package shape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/runnel-dev/runnel/runtime/event"
)

// row is what `after` is while an expression runs: the raw columns, decoded when they are asked for. It is the activation too.
type row struct {
	schema *event.Schema
	values []event.Value // by the schema's index; nil: not there
}

// read takes the columns of a row. Rows come in table order, so that hardly any name is looked up.
func (r *row) read(schema *event.Schema, from event.Row) {
	r.schema = schema
	r.values = slices.Grow(r.values[:0], len(schema.Columns))[:len(schema.Columns)]
	clear(r.values)
	next := 0
	for name, v := range from.All() {
		if next >= len(schema.Columns) || schema.Columns[next].Name != name {
			if next = schema.Index(name); next < 0 {
				next = len(schema.Columns)
				continue
			}
		}
		r.values[next] = v
		next++
	}
}

// ResolveName and Parent make it an activation.
func (r *row) ResolveName(name string) (any, bool) {
	if name == "after" {
		return r, true
	}
	return nil, false
}

// Parent of an activation: none.
func (r *row) Parent() cel.Activation { return nil }

// ConvertToNative, ConvertToType, Equal, Type and Value make it a value of CEL's.
func (r *row) ConvertToNative(reflect.Type) (any, error) {
	return nil, errors.New("the row as a whole cannot be used, only its columns: after.name")
}

// ConvertToType is refused.
func (r *row) ConvertToType(ref.Type) ref.Val {
	return types.NewErr("the row as a whole cannot be used, only its columns: after.name")
}

// Equal compares by identity.
func (r *row) Equal(other ref.Val) ref.Val { return types.Bool(other == ref.Val(r)) }

// Type is the row's.
func (r *row) Type() ref.Type { return types.NewObjectType(rowType) }

// Value is the row itself.
func (r *row) Value() any { return r }

// value decodes a column for an expression.
func (r *row) value(i int, k kind) (any, error) {
	v := r.values[i]
	if v.IsNull() {
		return types.NullValue, nil
	}
	switch k {
	case integer:
		n, err := v.Int64()
		return types.Int(n), err
	case unsigned:
		n, err := strconv.ParseUint(v.Text(), 10, 64)
		return types.Uint(n), err
	case double:
		f, err := v.Float64()
		return types.Double(f), err
	case boolean:
		if s := string(v); s == "1" || s == "0" { // MySQL's
			return types.Bool(s == "1"), nil
		}
		b, err := v.Bool()
		return types.Bool(b), err
	case timestamp:
		t, err := time.Parse(time.RFC3339Nano, v.Text())
		if err != nil {
			return nil, fmt.Errorf("column %s: %.40s is no timestamp that CEL knows (years 1 to 9999)", r.schema.Columns[i].Name, v)
		}
		return types.Timestamp{Time: t}, nil
	case document:
		d := json.NewDecoder(bytes.NewReader(v))
		d.UseNumber()
		var x any
		if err := d.Decode(&x); err != nil {
			return nil, fmt.Errorf("column %s: %w", r.schema.Columns[i].Name, err)
		}
		return types.DefaultTypeAdapter.NativeToValue(numbers(x)), nil
	default:
		return types.String(v.Text()), nil
	}
}

// numbers turns the numbers of decoded JSON into int where they are whole, else into the nearest double.
func numbers(x any) any {
	switch x := x.(type) {
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		f, _ := x.Float64() // out of range: an infinity
		return f
	case []any:
		for i := range x {
			x[i] = numbers(x[i])
		}
	case map[string]any:
		for k, v := range x {
			x[k] = numbers(v)
		}
	}
	return x
}
