package event

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Tags and the terminator of the canonical key's elements. A terminator within an element is followed by escaped.
const (
	tagNull   = 'z'
	tagTrue   = 't'
	tagFalse  = 'f'
	tagNumber = 'n'
	tagString = 's'
	tagOpen   = '['
	tagClose  = ']'
	objOpen   = '{'
	objClose  = '}'
	endOf     = 0x00
	escaped   = 0xff
)

// keyRule says what a type's equality overlooks.
type keyRule struct {
	fold bool // case
	trim bool // trailing blanks
}

// ruleOf looks at the declared type and at its base: an extension's type keeps its name in the one, a domain's in the other.
func ruleOf(c Column) keyRule {
	var r keyRule
	for _, name := range [2]string{c.Type, c.Base} {
		for strings.HasSuffix(name, "[]") {
			name = name[:len(name)-2]
		}
		name, _, _ = strings.Cut(name, "(")
		name = name[strings.LastIndexByte(name, '.')+1:]
		switch name {
		case "citext":
			r.fold = true
		case "character", "bpchar":
			r.trim = true
		}
	}
	return r
}

// AppendKey appends the canonical form of the row's key (1.0 = 1.00; citext folded): the partition hash's input, and a map
// key that is equal for equal keys. A row that lacks a key column, or holds null there, is an error. A table without a key
// has the empty one.
func (s *Schema) AppendKey(dst []byte, r Row) ([]byte, error) {
	for n, i := range s.key {
		name := s.Columns[i].Name
		v, ok := r.Column(name)
		if !ok || v.IsNull() {
			return dst, fmt.Errorf("table %s: the row has no value of key column %q", s.Table, name)
		}
		if dst, ok = s.rules[n].append(dst, v); !ok {
			return dst, fmt.Errorf("table %s: key column %q: %.64q is no JSON value", s.Table, name, []byte(v))
		}
	}
	return dst, nil
}

func (k keyRule) append(dst []byte, v Value) ([]byte, bool) {
	switch {
	case len(v) == 0:
		return dst, false
	case v[0] == '"':
		return k.appendString(append(dst, tagString), v), true
	case v[0] == '[':
		return k.appendArray(dst, v)
	case v[0] == '{':
		return k.appendObject(dst, v)
	case v[0] == 'n':
		return append(dst, tagNull), true
	case v[0] == 't':
		return append(dst, tagTrue), true
	case v[0] == 'f':
		return append(dst, tagFalse), true
	default:
		return appendNumber(append(dst, tagNumber), v)
	}
}

func (k keyRule) appendArray(dst []byte, v Value) ([]byte, bool) {
	dst = append(dst, tagOpen)
	i := skipSpace(v, 1)
	for more := i < len(v) && v[i] != ']'; more; {
		j := skipValue(v, i, 0)
		if j < 0 {
			return dst, false
		}
		var ok bool
		if dst, ok = k.append(dst, v[i:j]); !ok {
			return dst, false
		}
		more, i = nextMember(v, j, ']')
		if i < 0 {
			return dst, false
		}
	}
	return append(dst, tagClose), true
}

func (k keyRule) appendObject(dst []byte, v Value) ([]byte, bool) {
	dst = append(dst, objOpen)
	m := membersOf(v, 0, 0)
	for m.next() {
		dst = keyRule{}.appendString(append(dst, tagString), v[m.nameFrom-1:m.nameUntil+1])
		var ok bool
		if dst, ok = k.append(dst, m.value()); !ok {
			return dst, false
		}
	}
	return append(dst, objClose), m.end > 0
}

// appendString appends the content and its terminator.
func (k keyRule) appendString(dst []byte, v Value) []byte {
	from := len(dst)
	dst = v.AppendText(dst)
	if k.trim {
		dst = dst[:from+len(bytes.TrimRight(dst[from:], " "))]
	}
	if k.fold {
		dst = fold(dst, from)
	}
	if bytes.IndexByte(dst[from:], endOf) >= 0 {
		content := bytes.ReplaceAll(dst[from:], []byte{endOf}, []byte{endOf, escaped})
		dst = append(dst[:from], content...)
	}
	return append(dst, endOf)
}

// fold maps every character to lower case by Unicode's simple mapping, ASCII in place.
func fold(dst []byte, from int) []byte {
	ascii := true
	for i, c := range dst[from:] {
		if c >= utf8.RuneSelf {
			ascii = false
			break
		}
		if 'A' <= c && c <= 'Z' {
			dst[from+i] = c + ('a' - 'A')
		}
	}
	if ascii {
		return dst
	}
	return append(dst[:from], bytes.Map(unicode.ToLower, dst[from:])...)
}
