package myjson

import "fmt"

// FromLog is the column that a table map describes, with what binlog_row_metadata=FULL adds: the sign, the character set
// (with the most bytes of a character) and the names of ENUM and SET.
func FromLog(wire byte, meta uint16, unsigned bool, charset string, widest int, names []string) (Column, error) {
	if wire == typeString {
		wire, meta = realType(meta)
	}
	c := Column{Unsigned: unsigned}
	switch wire {
	case typeTiny, typeShort, typeInt24, typeLong, typeLonglong:
		c.Kind, c.Width = Int, intSize(wire)
	case typeDecimal:
		c.Kind, c.Length, c.Scale = Decimal, int(meta>>8), int(meta&0xff)
	case typeFloat:
		c.Kind = Float
	case typeDouble:
		c.Kind = Double
	case typeBit:
		c.Kind, c.Length = Bit, int(meta>>8)*8+int(meta&0xff)
	case typeDate, typeNewDate:
		c.Kind = Date
	case typeDatetime, typeDatetime2:
		c.Kind, c.Scale = Datetime, int(meta)
	case typeTimestamp, typeTimestamp2:
		c.Kind, c.Scale = Timestamp, int(meta)
	case typeTime, typeTime2:
		c.Kind, c.Scale = Time, int(meta)
	case typeYear:
		c.Kind = Year
	case typeVarchar, typeVarString, typeString:
		c.Kind, c.Charset, c.Length = Varchar, charset, int(meta)
		if wire == typeString {
			c.Kind = Char
		}
		if charset == "binary" {
			c.Kind += Varbinary - Varchar
			c.Charset = ""
		} else {
			c.Length /= max(widest, 1)
		}
	case typeBlob:
		c.Kind, c.Width, c.Charset = Text, int(meta), charset
		if charset == "binary" {
			c.Kind, c.Charset = Blob, ""
		}
	case typeEnum, typeSet:
		c.Kind, c.Names, c.Charset = Enum, names, charset
		if wire == typeSet {
			c.Kind = Set
		}
	case typeJSON:
		c.Kind = JSON
	case typeGeometry:
		c.Kind = Geometry
	default:
		return c, fmt.Errorf("type %d of the log is not supported", wire)
	}
	if c.Kind != Int && c.Kind != Decimal && c.Kind != Float && c.Kind != Double {
		c.Unsigned = false
	}
	return c, nil
}

// Fits says whether a table map without FULL metadata may describe this column.
func (c *Column) Fits(wire byte, meta uint16) bool {
	charset := "binary"
	if c.Kind == Char || c.Kind == Varchar || c.Kind == Text || c.Kind == JSONText {
		charset = "utf8mb4"
	}
	o, err := FromLog(wire, meta, c.Unsigned, charset, 1, c.Names)
	if err != nil {
		return false
	}
	switch c.Kind {
	case UUID, Inet4, Inet6:
		return o.Kind == Binary
	case JSONText:
		return o.Kind == Text && o.Width == 4
	case Char, Varchar:
		return o.Kind == c.Kind && o.Length >= c.Length
	default:
		return o.Kind == c.Kind && o.Width == c.Width && o.Length == c.Length && o.Scale == c.Scale
	}
}

// Size is how many bytes of a row image a value takes.
func Size(b []byte, wire byte, meta uint16) (n int, err error) {
	if wire == typeString {
		wire, meta = realType(meta)
	}
	fraction := int(meta+1) / 2
	length := 0
	switch wire {
	case typeTiny, typeYear:
		n = 1
	case typeShort:
		n = 2
	case typeInt24, typeDate, typeNewDate, typeTime:
		n = 3
	case typeLong, typeFloat, typeTimestamp:
		n = 4
	case typeLonglong, typeDouble, typeDatetime:
		n = 8
	case typeTime2:
		n = 3 + fraction
	case typeTimestamp2:
		n = 4 + fraction
	case typeDatetime2:
		n = 5 + fraction
	case typeDecimal:
		n = decimalSize(int(meta>>8), int(meta&0xff))
	case typeBit:
		n = (int(meta>>8)*8 + int(meta&0xff) + 7) / 8
	case typeEnum, typeSet:
		n = int(meta & 0xff)
	case typeVarchar, typeVarString, typeString:
		length = 1
		if meta > 255 {
			length = 2
		}
	default: // BLOB, JSON, GEOMETRY and what is made like them
		length = int(meta)
	}
	if length > 0 {
		if length > 4 || len(b) < length {
			return 0, errShort
		}
		n = length + int(littleEndian(b[:length]))
	}
	if n <= 0 || len(b) < n {
		return 0, errShort
	}
	return n, nil
}

// intSize is how many bytes an integer of the log has.
func intSize(wire byte) int {
	switch wire {
	case typeTiny:
		return 1
	case typeShort:
		return 2
	case typeInt24:
		return 3
	case typeLong:
		return 4
	default:
		return 8
	}
}
