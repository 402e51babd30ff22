package event

import (
	"iter"
	"unsafe"
)

// Row is one JSON object as it stands in the payload; the zero Row is null. Nothing is decoded before it is asked for. A
// malformed object has no columns from the fault on.
type Row struct{ raw []byte }

// RowOf wraps one JSON object; nil or `null` is the null row. It does not validate.
func RowOf(raw []byte) Row {
	if string(raw) == "null" {
		return Row{}
	}
	return Row{raw}
}

// Raw is the object's text; nil for the null row.
func (r Row) Raw() []byte { return r.raw }

// IsNull says whether there is no row.
func (r Row) IsNull() bool { return len(r.raw) == 0 }

// Valid says whether the row is null or one well-formed JSON object. What stands inside strings is not looked at.
func (r Row) Valid() bool {
	return r.IsNull() || r.raw[0] == '{' && skipObject(r.raw, 0, 0) == len(r.raw)
}

// Column finds a column's raw value: the first one of that name. It does not allocate, unless a name is escaped.
func (r Row) Column(name string) (Value, bool) {
	for m := membersOf(r.raw, 0, 0); m.next(); {
		if m.named(name) {
			return m.value(), true
		}
	}
	return nil, false
}

// All yields all columns in table order. It does not allocate, unless a name is escaped; names live as long as the row's
// bytes.
func (r Row) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for m := membersOf(r.raw, 0, 0); m.next(); {
			raw := m.name()
			if m.escaped() {
				raw = unescape(nil, raw)
			}
			if !yield(unsafe.String(unsafe.SliceData(raw), len(raw)), m.value()) {
				return
			}
		}
	}
}
