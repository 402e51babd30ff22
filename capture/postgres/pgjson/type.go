// Package pgjson turns a value's text, as PostgreSQL's output functions print it, into the JSON that the same server's
// row_to_json prints for that value.
//
// The log (pgoutput) delivers text; snapshots let the server encode rows by row_to_json. Both must give the same bytes, so
// this package follows PostgreSQL's json.c rule by rule, and its tests ask the server: every type of pg_catalog, on three
// major versions, through SELECT and through a replication slot.
//
//   - Both sessions use Settings; a date or timestamp that was printed under another DateStyle is an error.
//   - Line breaks of a json value, which can only be blank space between its tokens, become blanks: a row is one line.
//   - A type with a cast of its own to json (hstore, PostGIS) is a string with its text, where row_to_json would call the
//     cast: see Type.Cast.
//   - A text that does not have the shape of its type is an error, never a guess: see ErrShape.
package pgjson

import (
	"errors"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
)

// ErrShape says that a text has more or fewer attributes than the composite type that it should be a value of: the type
// was altered, and the log reaches back, or the catalog was read, before that. Call Catalog.Forget, resolve the types anew
// and try once more; if it fails again, the definition that the value was written under is gone, and only
// Type.AppendText can keep it. (A type that was altered but has the same number of attributes is not noticed: the names
// are the ones that the catalog had when it was read.)
var ErrShape = errors.New("composite value does not have the attributes that its type has")

// Type encodes the values of one PostgreSQL type. It does not change and may be used by several goroutines at once.
type Type struct {
	// Name is what format_type prints with the column's type modifier: numeric(12,2), text[], public.mood.
	Name string

	// Base is what a user-defined type is made of, as event.Column.Base says: a domain's base type in full, enum,
	// composite, range, multirange, arrays of these with [], else text. Empty for built-in types and arrays of them.
	Base string

	// Cast says that row_to_json prints the type, or something inside it, by a cast to json of its own: the one case where
	// Append, which gives the text, differs. Who lets the server encode a row selects such a column as text and uses
	// Append for it.
	Cast bool

	// Missing says that pg_type has no such type: it was dropped after the value was written, or the transaction that
	// made it still waits for its synchronous standby. Append gives the text. Such a type is not cached.
	Missing bool

	kind  kind
	elem  *Type  // of arrays and vectors
	delim byte   // between elements of an array
	attrs []attr // of composites, without dropped ones
}

// attr is an attribute of a composite type.
type attr struct {
	key  []byte // `"name":`
	kind *Type
}

// kind is how the text of a type becomes JSON.
type kind uint8

const (
	asString kind = iota // all types that JSON knows nothing of
	asBool
	asNumber      // unquoted, unless JSON has no such number (NaN, Infinity)
	asDate        // ISO 8601
	asTimestamp   // ISO 8601 with T
	asTimestamptz // ISO 8601 with T and offset
	asJSON
	asJSONB // like asJSON, but the server has removed line breaks
	asArray
	asVector // int2vector, oidvector: arrays that are printed with blanks only
	asComposite
)

// Append appends the JSON of one value that is not NULL. After an error dst is returned as it came. It does not allocate,
// unless dst is too small.
func (t *Type) Append(dst, text []byte) ([]byte, error) {
	switch t.kind {
	case asString:
		return event.AppendJSONString(dst, text), nil
	case asBool:
		return t.appendBool(dst, text)
	case asNumber:
		if isNumber(text) {
			return append(dst, text...), nil
		}
		return event.AppendJSONString(dst, text), nil
	case asDate:
		return t.appendDate(dst, text)
	case asTimestamp, asTimestamptz:
		return t.appendTimestamp(dst, text)
	case asJSON:
		return appendLine(dst, text), nil
	case asJSONB:
		return append(dst, text...), nil
	case asArray:
		return t.appendArray(dst, text)
	case asVector:
		return t.appendVector(dst, text)
	case asComposite:
		return t.appendComposite(dst, text)
	}
	panic(fmt.Sprintf("pgjson: kind %d of type %s", t.kind, t.Name))
}

// AppendText appends the text as a JSON string, whatever the type is.
func (t *Type) AppendText(dst, text []byte) []byte { return event.AppendJSONString(dst, text) }

func (t *Type) appendBool(dst, text []byte) ([]byte, error) {
	switch string(text) {
	case "t":
		return append(dst, "true"...), nil
	case "f":
		return append(dst, "false"...), nil
	}
	return dst, t.malformed(0, "want t or f")
}

// malformed names place and type, but not the value: errors are logged.
func (t *Type) malformed(offset int, want string) error {
	return fmt.Errorf("value of type %s is not what PostgreSQL prints: byte %d: %s", t.Name, offset, want)
}

// isNumber says whether a numeric type's output is a JSON number. Of what numeric, integer and float types print, only
// NaN, Infinity and -Infinity are not.
func isNumber(text []byte) bool {
	if len(text) > 1 && text[0] == '-' {
		text = text[1:]
	}
	return len(text) > 0 && isDigit(text[0])
}

// appendLine appends JSON with its line breaks as blanks. Inside of JSON strings they are always escaped.
func appendLine(dst, json []byte) []byte {
	start := len(dst)
	dst = append(dst, json...)
	for i, c := range dst[start:] {
		if c == '\n' || c == '\r' {
			dst[start+i] = ' '
		}
	}
	return dst
}
