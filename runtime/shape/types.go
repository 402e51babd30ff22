package shape

import (
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/runnel-dev/runnel/runtime/event"
)

// kind is how a column's values are read in an expression.
type kind uint8

const (
	text      kind = iota // a string: whatever is none of the others, dates included, as row_to_json prints it
	integer               // int
	unsigned              // uint: bigint unsigned of MySQL
	double                // double, also numeric: the nearest one
	boolean               // bool
	timestamp             // timestamp: what has a time zone
	document              // dyn: json, arrays and composites, decoded
)

// kindOf is the kind of a column of PostgreSQL or MySQL.
func kindOf(c event.Column) kind {
	t := strings.ToLower(c.BaseType())
	if strings.HasSuffix(t, "[]") {
		return document
	}
	name, args, _ := strings.Cut(t, "(")
	if _, rest, ok := strings.Cut(args, ")"); ok {
		name += rest
	}
	name, isUnsigned := strings.CutSuffix(strings.TrimSpace(name), " unsigned")
	switch name {
	case "bigint":
		if isUnsigned {
			return unsigned
		}
		return integer
	case "smallint", "integer", "int", "tinyint", "mediumint", "year", "oid":
		return integer
	case "real", "double precision", "numeric", "decimal", "float", "double":
		return double
	case "boolean":
		return boolean
	case "timestamp with time zone":
		return timestamp
	case "json", "jsonb", "composite":
		return document
	default:
		return text
	}
}

// celType is a column's type for the checker. NULL is allowed for by the types that CEL calls wrappers.
func celType(c event.Column) *cel.Type {
	var t *cel.Type
	switch kindOf(c) {
	case integer:
		t = cel.IntType
	case unsigned:
		t = cel.UintType
	case double:
		t = cel.DoubleType
	case boolean:
		t = cel.BoolType
	case timestamp:
		return cel.TimestampType // takes null by itself
	case document:
		return cel.DynType
	case text:
		t = cel.StringType
	}
	if c.Nullable {
		return types.NewNullableType(t)
	}
	return t
}

// result types of computed columns, as the connector would declare them.
func (c *compiler) resultType(t *cel.Type) (string, bool) {
	postgres := c.in.Connector == "postgresql"
	choose := func(pg, my string) (string, bool) {
		if postgres {
			return pg, true
		}
		return my, true
	}
	switch t.Kind() {
	case types.StringKind:
		return choose("text", "longtext")
	case types.IntKind:
		return "bigint", true
	case types.UintKind:
		return choose("numeric(20,0)", "bigint unsigned")
	case types.DoubleKind:
		return choose("double precision", "double")
	case types.BoolKind:
		return "boolean", true
	case types.TimestampKind:
		return choose("timestamp with time zone", "timestamp(6)")
	case types.ListKind, types.MapKind, types.DynKind:
		return choose("jsonb", "json")
	default:
		return "", false
	}
}
