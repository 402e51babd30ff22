package elasticsearch

import (
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Fields of a mapping. They are as wide as Elasticsearch has them, so that a widened column needs no change: all integers
// are long, all fractions double. The document itself keeps every digit. A value that does not fit its field (NaN, infinity,
// a date BC) is kept in _source and not indexed.
const (
	fieldLong    = `{"type":"long"}`
	fieldDouble  = `{"type":"double"}`
	fieldBool    = `{"type":"boolean"}`
	fieldDate    = `{"type":"date"}`
	fieldKeyword = `{"type":"keyword","ignore_above":8191}`
	fieldText    = `{"type":"text","fields":{"keyword":{"type":"keyword","ignore_above":256}}}`
	fieldBytes   = `{"type":"keyword","index":false,"doc_values":false}`
	fieldObject  = `{"type":"object","enabled":false}` // json and composites are stored, not taken apart
)

// fieldOf is the field of a column; an array's is that of its elements, as Elasticsearch has it.
func fieldOf(c event.Column) string {
	t := strings.ToLower(c.BaseType())
	for strings.HasSuffix(t, "[]") {
		t = strings.TrimSuffix(t, "[]")
	}
	name, _, _ := strings.Cut(t, "(")
	if i := strings.IndexByte(t, ')'); i >= 0 {
		name += t[i+1:] // timestamp(6) with time zone
	}
	switch strings.TrimSpace(strings.TrimSuffix(name, " unsigned")) {
	case "smallint", "integer", "bigint", "int", "tinyint", "mediumint", "year":
		return fieldLong
	case "real", "double precision", "numeric", "decimal", "float", "double":
		return fieldDouble
	case "boolean", "bool":
		return fieldBool
	case "date", "timestamp", "timestamp without time zone", "timestamp with time zone", "datetime":
		return fieldDate
	case "text", "character varying", "character", "varchar", "char", "xml", "longtext", "mediumtext", "tinytext", "tsvector":
		return fieldText
	case "bytea", "binary", "varbinary", "blob", "tinyblob", "mediumblob", "longblob":
		return fieldBytes
	case "json", "jsonb", "composite":
		return fieldObject
	default:
		return fieldKeyword
	}
}
