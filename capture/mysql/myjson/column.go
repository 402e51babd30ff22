// Package myjson prints values of MySQL and MariaDB as JSON. A value has the same bytes whether it comes from the binlog
// (Column.AppendLog) or from a SELECT (Column.AppendText), and says the same as the server's own text:
//
//   - numbers have all their digits, DECIMAL is not quoted, UNSIGNED stays positive, YEAR is a number
//   - DATE is 2006-01-02, DATETIME 2006-01-02T15:04:05.000000 without a zone, TIMESTAMP the same in UTC with +00:00, both with the
//     digits that the column declares; what no calendar has a day for (a year, month or day of 0) is null
//   - TIME is text, from -838:59:59 to 838:59:59
//   - BIT, BINARY, VARBINARY and BLOB are \x and hex digits, GEOMETRY is its WKB in that form, without the SRID
//   - ENUM and SET are their names, a SET with commas
//   - JSON is embedded as the server prints it, MariaDB's as it is stored
//   - strings are Unicode, whatever the column's character set
//
// A session whose rows AppendText reads needs Settings, and FLOAT columns selected as Select says.
package myjson

import (
	"fmt"
	"strings"
)

// Kind of a type.
type Kind uint8

// Kinds of types.
const (
	Int Kind = iota // of any width
	Decimal
	Float
	Double
	Bit
	Date
	Datetime
	Timestamp
	Time
	Year
	Char
	Varchar
	Text
	Binary
	Varbinary
	Blob
	Enum
	Set
	JSON
	JSONText // MariaDB's JSON: LONGTEXT that is checked
	Geometry
	UUID  // MariaDB
	Inet4 // MariaDB
	Inet6 // MariaDB
)

// Column is what must be known of a column to print its values.
type Column struct {
	Kind     Kind
	Width    int  // of Int: bytes; of Text and Blob: bytes of the length, 1 to 4
	Unsigned bool // of numbers
	Length   int  // of Char, Varchar, Binary, Varbinary: as declared; of Bit: bits; of Decimal: digits
	Scale    int  // of Decimal; of times the digits of a second's fraction
	Charset  string
	Names    []string // of Enum and Set
}

// Settings are statements for a session whose rows AppendText reads.
func Settings() []string {
	return []string{"SET SESSION time_zone = '+00:00', sql_mode = '', character_set_results = NULL"}
}

// Select is the expression that selects the column, named by a quoted identifier.
func (c *Column) Select(name string) string {
	switch c.Kind {
	case Float: // the text of a FLOAT has six digits only
		return name + " + 0e0"
	case UUID, Inet4, Inet6: // which have a character set of their own
		return "CAST(" + name + " AS CHAR)"
	default:
		return name
	}
}

var intNames = map[int]string{1: "tinyint", 2: "smallint", 3: "mediumint", 4: "int", 8: "bigint"}

// Type is the declared type in one form, however the structure was learnt: without display widths, character sets and aliases.
func (c *Column) Type() string {
	switch c.Kind {
	case Int:
		return c.signed(intNames[c.Width])
	case Decimal:
		return c.signed(fmt.Sprintf("decimal(%d,%d)", c.Length, c.Scale))
	case Float:
		return c.signed("float")
	case Double:
		return c.signed("double")
	case Bit:
		return fmt.Sprintf("bit(%d)", c.Length)
	case Date:
		return "date"
	case Datetime:
		return c.fraction("datetime")
	case Timestamp:
		return c.fraction("timestamp")
	case Time:
		return c.fraction("time")
	case Year:
		return "year"
	case Char:
		return fmt.Sprintf("char(%d)", c.Length)
	case Varchar:
		return fmt.Sprintf("varchar(%d)", c.Length)
	case Binary:
		return fmt.Sprintf("binary(%d)", c.Length)
	case Varbinary:
		return fmt.Sprintf("varbinary(%d)", c.Length)
	case Text:
		return [...]string{"", "tiny", "", "medium", "long"}[c.Width] + "text"
	case Blob:
		return [...]string{"", "tiny", "", "medium", "long"}[c.Width] + "blob"
	case Enum:
		return "enum(" + quoteNames(c.Names) + ")"
	case Set:
		return "set(" + quoteNames(c.Names) + ")"
	case JSON, JSONText:
		return "json"
	case Geometry:
		return "geometry"
	case UUID:
		return "uuid"
	case Inet4:
		return "inet4"
	case Inet6:
		return "inet6"
	}
	return "unknown"
}

// Postgres is the PostgreSQL type that holds every value as it is printed, which is what targets go by: event.Column.Base. "enum" stands for
// text of a few values.
func (c *Column) Postgres() string {
	switch c.Kind {
	case Int:
		name := map[int]string{1: "smallint", 2: "smallint", 3: "integer", 4: "integer", 8: "bigint"}[c.Width]
		if c.Unsigned {
			name = map[int]string{1: "smallint", 2: "integer", 3: "integer", 4: "bigint", 8: "numeric(20,0)"}[c.Width]
		}
		return name
	case Year:
		return "smallint"
	case Decimal:
		return fmt.Sprintf("numeric(%d,%d)", c.Length, c.Scale)
	case Float:
		return "real"
	case Double:
		return "double precision"
	case Date:
		return "date"
	case Datetime:
		return c.fraction("timestamp") + " without time zone"
	case Timestamp:
		return c.fraction("timestamp") + " with time zone"
	case Time: // beyond 24 hours, and negative
		return "interval"
	case Char, Varchar:
		return fmt.Sprintf("character varying(%d)", max(c.Length, 1))
	case Bit, Binary, Varbinary, Blob, Geometry:
		return "bytea"
	case JSON, JSONText:
		return "json"
	case UUID:
		return "uuid"
	case Enum, Set:
		return "enum"
	default:
		return "text"
	}
}

func (c *Column) signed(name string) string {
	if c.Unsigned {
		return name + " unsigned"
	}
	return name
}

func (c *Column) fraction(name string) string {
	if c.Scale > 0 {
		return fmt.Sprintf("%s(%d)", name, c.Scale)
	}
	return name
}

func quoteNames(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = "'" + strings.ReplaceAll(n, "'", "''") + "'"
	}
	return strings.Join(quoted, ",")
}

// ZeroIsNull says whether a value that is not NULL may be printed as null.
func (c *Column) ZeroIsNull() bool {
	return c.Kind == Date || c.Kind == Datetime || c.Kind == Timestamp
}
