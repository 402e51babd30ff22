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
	for m := r.members(); m.next(); {
		if raw := m.name(); string(raw) == name && !m.escaped() || m.escaped() && string(unescape(nil, raw)) == name {
			return m.value(), true
		}
	}
	return nil, false
}

// All yields all columns in table order. It does not allocate, unless a name is escaped; names live as long as the row's
// bytes.
func (r Row) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for m := r.members(); m.next(); {
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

// members walks an object's members; used for rows and for the envelope around them.
type members struct {
	b          []byte
	at         int // before the next member; -1 at the end or after a fault
	depth      int // nesting of the object itself
	end        int // after the closing brace, once it was met
	nameFrom   int
	nameTo     int
	valueFrom  int
	valueUntil int
}

func (r Row) members() members { return membersOf(r.raw, 0, 0) }

func membersOf(b []byte, i, depth int) members {
	m := members{b: b, at: -1, depth: depth}
	if i >= len(b) || b[i] != '{' {
		return m
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		m.end = i + 1
		return m
	}
	m.at = i
	return m
}

// next steps to the next member. After the last one, end says where the object ended; it is 0 after a fault.
func (m *members) next() bool {
	if m.at < 0 {
		return false
	}
	i := m.at
	m.at = -1
	j := skipString(m.b, i)
	if j < 0 {
		return false
	}
	m.nameFrom, m.nameTo = i+1, j-1
	if i = skipColon(m.b, j); i < 0 {
		return false
	}
	if j = skipValue(m.b, i, m.depth+1); j < 0 {
		return false
	}
	m.valueFrom, m.valueUntil = i, j
	more, next := nextMember(m.b, j, '}')
	switch {
	case more:
		m.at = next
	case next < 0:
		return false
	default:
		m.end = next
	}
	return true
}

func (m *members) name() []byte { return m.b[m.nameFrom:m.nameTo:m.nameTo] }

func (m *members) escaped() bool {
	for _, c := range m.b[m.nameFrom:m.nameTo] {
		if c == '\\' {
			return true
		}
	}
	return false
}

func (m *members) value() Value { return Value(m.b[m.valueFrom:m.valueUntil:m.valueUntil]) }
