package event

import "bytes"

// members walks an object's members; used for rows and for the envelope around them.
type members struct {
	b          []byte
	at         int // of the next member; -1 at the end or after a fault
	end        int // after the closing brace, once it was met; 0 after a fault
	depth      int // nesting of the members' values
	nameFrom   int
	nameUntil  int
	valueFrom  int
	valueUntil int
}

// membersOf walks the object that begins at i; where none does, there are no members and no end.
func membersOf(b []byte, i, depth int) members {
	m := members{b: b, at: -1, depth: depth + 1}
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

// next steps to the next member: its name and its value are known then.
func (m *members) next() bool {
	return m.nextName() && m.pass(skipValue(m.b, m.valueFrom, m.depth))
}

// nextName steps to the next member's name and the beginning of its value; pass or inner must follow.
func (m *members) nextName() bool {
	if m.at < 0 {
		return false
	}
	i := m.at
	m.at = -1
	j := skipString(m.b, i)
	if j < 0 {
		return false
	}
	m.nameFrom, m.nameUntil = i+1, j-1
	m.valueFrom = skipColon(m.b, j)
	return m.valueFrom >= 0
}

// pass says where the value ended.
func (m *members) pass(until int) bool {
	if until <= 0 {
		return false
	}
	m.valueUntil = until
	more, next := nextMember(m.b, until, '}')
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

// inner walks the value as an object, so that it need not be passed over first; pass its end afterwards.
func (m *members) inner() members { return membersOf(m.b, m.valueFrom, m.depth) }

// name is the member's name as it stands, escapes and all.
func (m *members) name() []byte { return m.b[m.nameFrom:m.nameUntil:m.nameUntil] }

func (m *members) escaped() bool { return bytes.IndexByte(m.name(), '\\') >= 0 }

// named says whether the member has that name. An escape is never shorter than what it stands for.
func (m *members) named(name string) bool {
	raw := m.name()
	if len(raw) < len(name) || len(raw) == len(name) && string(raw) != name {
		return false
	}
	if !m.escaped() {
		return len(raw) == len(name)
	}
	var buffer [64]byte
	return string(unescape(buffer[:0], raw)) == name
}

func (m *members) value() Value { return Value(m.b[m.valueFrom:m.valueUntil:m.valueUntil]) }
