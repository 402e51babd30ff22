package clickhouse

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// typeOf is the ClickHouse type that holds every value of a column, or String, which holds its JSON text. Arrays are JSON in a
// String: an Array cannot be NULL, and PostgreSQL's may have any number of dimensions. Exceptions, refused row by row and never
// bent: dates and times outside 1900 to 2299, infinite ones, and NaN in a numeric with precision. A column that the operator
// makes a String takes those too.
func typeOf(c event.Column) string {
	t := strings.ToLower(c.BaseType())
	name, args, _ := strings.Cut(t, "(")
	args, rest, _ := strings.Cut(args, ")")
	name = strings.TrimSpace(name + rest)
	switch name {
	case "boolean":
		return "Bool"
	case "smallint":
		return "Int16"
	case "integer":
		return "Int32"
	case "bigint":
		return "Int64"
	case "real":
		return "Float32"
	case "double precision":
		return "Float64"
	case "numeric":
		p, s, _ := strings.Cut(args, ",")
		precision, err1 := strconv.Atoi(p)
		scale, err2 := strconv.Atoi(s)
		if err1 == nil && err2 == nil && precision <= 76 && scale >= 0 && scale <= precision {
			return fmt.Sprintf("Decimal(%d, %d)", precision, scale)
		}
		return "String"
	case "date":
		return "Date32"
	case "timestamp", "timestamp without time zone", "timestamp with time zone":
		return "DateTime64(6, 'UTC')"
	case "uuid":
		return "UUID"
	default:
		return "String"
	}
}

// bare is a type without what does not change its values.
func bare(t string) string {
	for _, wrap := range []string{"LowCardinality(", "Nullable("} {
		if strings.HasPrefix(t, wrap) {
			t = strings.TrimSuffix(strings.TrimPrefix(t, wrap), ")")
		}
	}
	return t
}

// families of types in which a later one holds every value of an earlier one.
var families = [][]string{{"Int8", "Int16", "Int32", "Int64", "Int128", "Int256"}, {"Float32", "Float64"}}

// holds says whether a column of type `have` holds all values of type `want`.
func holds(have, want string) bool {
	have, want = bare(have), bare(want)
	if have == want || have == "String" {
		return true
	}
	for _, f := range families {
		h, w := index(f, have), index(f, want)
		if h >= 0 && w >= 0 {
			return h >= w
		}
	}
	hp, hs, ok1 := decimal(have)
	wp, ws, ok2 := decimal(want)
	if ok1 && ok2 {
		return hs >= ws && hp-hs >= wp-ws
	}
	if strings.HasPrefix(want, "DateTime64(6") && strings.HasPrefix(have, "DateTime64(") {
		return have[len("DateTime64(")] >= '6' && strings.Contains(have, "'UTC'")
	}
	return false
}

func index(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}

func decimal(t string) (precision, scale int, ok bool) {
	n, err := fmt.Sscanf(t, "Decimal(%d, %d)", &precision, &scale)
	return precision, scale, n == 2 && err == nil
}
