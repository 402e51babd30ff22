package myjson

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Types of the binlog's table maps.
const (
	typeTiny       = 1
	typeShort      = 2
	typeLong       = 3
	typeFloat      = 4
	typeDouble     = 5
	typeTimestamp  = 7
	typeLonglong   = 8
	typeInt24      = 9
	typeDate       = 10
	typeTime       = 11
	typeDatetime   = 12
	typeYear       = 13
	typeNewDate    = 14
	typeVarchar    = 15
	typeBit        = 16
	typeTimestamp2 = 17
	typeDatetime2  = 18
	typeTime2      = 19
	typeJSON       = 245
	typeDecimal    = 246
	typeEnum       = 247
	typeSet        = 248
	typeBlob       = 252
	typeVarString  = 253
	typeString     = 254
	typeGeometry   = 255
)

// AppendLog prints the value at the beginning of b, as a row image of the binlog has it, and says how many bytes it took. wire and meta are the
// column's type in the table map.
func (c *Column) AppendLog(dst, b []byte, wire byte, meta uint16) (_ []byte, n int, err error) {
	if wire == typeString { // the real type stands in the upper byte
		wire, meta = realType(meta)
	}
	switch wire {
	case typeTiny, typeShort, typeInt24, typeLong, typeLonglong:
		n = intSize(wire)
		if len(b) < n {
			return dst, 0, errShort
		}
		return appendInt(dst, b[:n], c.Unsigned), n, nil
	case typeFloat:
		if len(b) < 4 {
			return dst, 0, errShort
		}
		return appendFloat(dst, float64(math.Float32frombits(uint32(littleEndian(b[:4])))), 32), 4, nil
	case typeDouble:
		if len(b) < 8 {
			return dst, 0, errShort
		}
		return appendFloat(dst, math.Float64frombits(littleEndian(b[:8])), 64), 8, nil
	case typeDecimal:
		return appendDecimal(dst, b, int(meta>>8), int(meta&0xff))
	case typeYear:
		if len(b) < 1 {
			return dst, 0, errShort
		}
		year := int64(b[0])
		if year > 0 {
			year += 1900
		}
		return strconv.AppendInt(dst, year, 10), 1, nil
	case typeDate, typeNewDate, typeTime, typeTime2, typeTimestamp, typeTimestamp2, typeDatetime, typeDatetime2:
		return c.appendTime(dst, b, wire)
	case typeBit:
		if n = (int(meta>>8)*8 + int(meta&0xff) + 7) / 8; len(b) < n {
			return dst, 0, errShort
		}
		return appendHex(dst, b[:n]), n, nil
	case typeEnum, typeSet:
		if n = int(meta & 0xff); len(b) < n || n == 0 || n > 8 {
			return dst, 0, errShort
		}
		dst, err = c.appendNames(dst, littleEndian(b[:n]), wire == typeSet)
		return dst, n, err
	}
	var length int // of the length
	switch wire {
	case typeVarchar, typeVarString, typeString:
		length = 1
		if meta > 255 {
			length = 2
		}
	case typeBlob, typeJSON, typeGeometry:
		length = int(meta)
	default:
		return dst, 0, fmt.Errorf("type %d of the log is not known", wire)
	}
	if length < 1 || length > 4 || len(b) < length {
		return dst, 0, errShort
	}
	size := int(littleEndian(b[:length]))
	if n = length + size; len(b) < n {
		return dst, 0, errShort
	}
	dst, err = c.appendContent(dst, b[length:n], wire == typeJSON)
	return dst, n, err
}

var errShort = fmt.Errorf("the row ends within a value")

// realType unpacks what MYSQL_TYPE_STRING stands for: CHAR, ENUM or SET. Two bits of a CHAR's length lie, inverted, in the type.
func realType(meta uint16) (wire byte, length uint16) {
	upper, lower := byte(meta>>8), meta&0xff
	if meta < 256 {
		return typeString, meta
	}
	if upper&0x30 != 0x30 {
		return upper | 0x30, lower | uint16(upper&0x30^0x30)<<4
	}
	return upper, lower
}

// appendContent prints strings and bytes.
func (c *Column) appendContent(dst, b []byte, native bool) ([]byte, error) {
	switch c.Kind {
	case Binary: // the log leaves the zeros at its end out
		dst = appendHex(dst, b)[:]
		dst = dst[:len(dst)-1]
		for n := len(b); n < c.Length; n++ {
			dst = append(dst, '0', '0')
		}
		return append(dst, '"'), nil
	case Varbinary, Blob:
		return appendHex(dst, b), nil
	case Geometry:
		return appendHex(dst, b[min(4, len(b)):]), nil
	case JSON:
		if !native {
			return append(dst, b...), nil
		}
		return appendDocument(dst, b)
	case JSONText:
		return appendJSONText(dst, b), nil
	case UUID:
		return appendUUID(dst, b)
	case Inet4, Inet6:
		var full [16]byte
		copy(full[:], b)
		size := 16
		if c.Kind == Inet4 {
			size = 4
		}
		a, _ := netip.AddrFromSlice(full[:size])
		return event.AppendJSONString(dst, a.String()), nil
	default:
		return c.appendString(dst, b)
	}
}

// appendJSONText embeds text that is JSON; what the server's check has let through and is none becomes a string.
func appendJSONText(dst, b []byte) []byte {
	if json.Valid(b) {
		return append(dst, b...)
	}
	return event.AppendJSONString(dst, string(b))
}

func (c *Column) appendNames(dst []byte, n uint64, set bool) ([]byte, error) {
	if !set {
		switch {
		case n == 0: // what a lax sql_mode makes of a value that is none
			return append(dst, `""`...), nil
		case n > uint64(len(c.Names)):
			return dst, fmt.Errorf("%s has no value %d", c.Type(), n)
		}
		return event.AppendJSONString(dst, c.Names[n-1]), nil
	}
	var names []string
	for i := 0; n > 0; i, n = i+1, n>>1 {
		if n&1 == 0 {
			continue
		}
		if i >= len(c.Names) {
			return dst, fmt.Errorf("%s has no value %d", c.Type(), i+1)
		}
		names = append(names, c.Names[i])
	}
	return event.AppendJSONString(dst, strings.Join(names, ",")), nil
}

// AppendText prints the text of a SELECT, made with Settings and Select. nil is NULL.
func (c *Column) AppendText(dst, text []byte) ([]byte, error) {
	if text == nil {
		return append(dst, "null"...), nil
	}
	switch c.Kind {
	case Int, Decimal:
		return appendNumber(dst, text), nil
	case Year:
		n, err := strconv.Atoi(string(text))
		if err != nil {
			return dst, fmt.Errorf("year %q", text)
		}
		return strconv.AppendInt(dst, int64(n), 10), nil
	case Float, Double:
		f, err := strconv.ParseFloat(string(text), 64)
		if err != nil {
			return dst, fmt.Errorf("%s: %w", c.Type(), err)
		}
		if c.Kind == Float {
			return appendFloat(dst, f, 32), nil
		}
		return appendFloat(dst, f, 64), nil
	case Bit:
		return appendHex(dst, text), nil
	case Date, Datetime, Timestamp, Time:
		return c.appendTimeText(dst, text)
	case UUID, Inet4, Inet6:
		return event.AppendJSONString(dst, string(text)), nil
	case Char, Varchar, Text, Enum, Set:
		return c.appendString(dst, text)
	default:
		return c.appendContent(dst, text, false)
	}
}
