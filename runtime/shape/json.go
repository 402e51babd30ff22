package shape

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/runnel-dev/runnel/runtime/event"
)

// appendJSON appends a value of CEL's as row_to_json would print it.
func appendJSON(dst []byte, v ref.Val) ([]byte, error) {
	switch v := v.(type) {
	case types.Null:
		return append(dst, "null"...), nil
	case types.Bool:
		return strconv.AppendBool(dst, bool(v)), nil
	case types.Int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case types.Uint:
		return strconv.AppendUint(dst, uint64(v), 10), nil
	case types.Double:
		return appendDouble(dst, float64(v)), nil
	case types.String:
		return event.AppendJSONString(dst, string(v)), nil
	case types.Bytes:
		dst = append(dst, `"\\x`...)
		dst = hex.AppendEncode(dst, v)
		return append(dst, '"'), nil
	case types.Timestamp:
		dst = append(dst, '"')
		dst = v.UTC().AppendFormat(dst, "2006-01-02T15:04:05.999999-07:00")
		return append(dst, '"'), nil
	case types.Duration:
		return event.AppendJSONString(dst, v.String()), nil
	case traits.Mapper:
		return appendMap(dst, v)
	case traits.Lister:
		dst = append(dst, '[')
		for it, first := v.Iterator(), true; it.HasNext() == types.True; first = false {
			if !first {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = appendJSON(dst, it.Next()); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	case *types.Err:
		return dst, v
	default:
		return dst, fmt.Errorf("a value of type %s cannot be stored; write string(…)", v.Type().TypeName())
	}
}

// appendDouble prints the shortest number that is this one; what JSON does not know is a string, as PostgreSQL prints it.
func appendDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	default:
		return strconv.AppendFloat(dst, f, 'g', -1, 64)
	}
}

// appendMap prints members in the order of their names, so that equal maps are equal bytes.
func appendMap(dst []byte, m traits.Mapper) ([]byte, error) {
	members := map[string]ref.Val{}
	for it := m.Iterator(); it.HasNext() == types.True; {
		k := it.Next()
		name, ok := k.ConvertToType(types.StringType).(types.String)
		if !ok {
			return dst, fmt.Errorf("a key of type %s cannot be stored", k.Type().TypeName())
		}
		members[string(name)] = m.Get(k)
	}
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(event.AppendJSONString(dst, name), ':')
		var err error
		if dst, err = appendJSON(dst, members[name]); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
