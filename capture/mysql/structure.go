package mysql

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql/myjson"
	"github.com/runnel-dev/runnel/runtime/event"
)

// column of a table.
type column struct {
	name     string
	member   []byte // `"name":`
	json     myjson.Column
	nullable bool
	key      int
	wire     byte // in the log
	meta     uint16
}

// structure is one version of a table.
type structure struct {
	table   event.Table
	columns []column
	rows    int64 // estimated
	usual   int   // bytes of a row as JSON
	schema  *event.Schema
}

// finish makes the schema.
func (t *structure) finish(s *Source) {
	columns := make([]event.Column, len(t.columns))
	for i := range t.columns {
		c := &t.columns[i]
		c.member = append(event.AppendJSONString(nil, c.name), ':')
		columns[i] = event.Column{Name: c.name, Type: c.json.Type(), Base: c.json.Postgres(), Nullable: c.nullable || c.json.ZeroIsNull() && c.key == 0, Key: c.key}
	}
	t.schema = event.NewSchema(s.cfg.Name, s.cfg.Flavor, t.table.Schema, t.table, columns)
}

// find looks a column up by its name.
func (t *structure) find(name string) *column {
	if t == nil {
		return nil
	}
	for i := range t.columns {
		if t.columns[i].name == name {
			return &t.columns[i]
		}
	}
	return nil
}

// collation as the server numbers it.
type collation struct {
	charset string
	widest  int // bytes of a character
}

// collations asks for the server's; MariaDB 10.10 moved the numbers of some.
func collations(ctx context.Context, x *session) (map[uint64]collation, error) {
	r, err := x.query(ctx, `SELECT a.ID, a.CHARACTER_SET_NAME, s.MAXLEN FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY a
		JOIN information_schema.CHARACTER_SETS s ON s.CHARACTER_SET_NAME = a.CHARACTER_SET_NAME`)
	if err != nil {
		r, err = x.query(ctx, `SELECT c.ID, c.CHARACTER_SET_NAME, s.MAXLEN FROM information_schema.COLLATIONS c
			JOIN information_schema.CHARACTER_SETS s ON s.CHARACTER_SET_NAME = c.CHARACTER_SET_NAME`)
	}
	if err != nil {
		return nil, fmt.Errorf("list the collations: %w", err)
	}
	m := map[uint64]collation{}
	for _, row := range r {
		id, err := strconv.ParseUint(string(row[0]), 10, 64)
		if err != nil {
			continue // has no number, so the log cannot name it
		}
		m[id] = collation{string(row[1]), number(row[2])}
	}
	return m, nil
}

func number(b []byte) int {
	n, _ := strconv.Atoi(string(b)) // NULL is 0
	return n
}

const system = `('mysql', 'information_schema', 'performance_schema', 'sys')`

// look reads what tables are now: all captured ones, or one.
func (s *Source) look(ctx context.Context, x *session, only *event.Table) ([]*structure, error) {
	where := "TABLE_SCHEMA NOT IN " + system
	if only != nil {
		where = "TABLE_SCHEMA = " + quote(only.Schema) + " AND TABLE_NAME = " + quote(only.Name)
	}
	tables := map[event.Table]*structure{}
	var all []*structure
	r, err := x.query(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_ROWS FROM information_schema.TABLES
		WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND `+where+` ORDER BY 1, 2`)
	if err != nil {
		return nil, s.explain("list the tables", err)
	}
	for _, row := range r {
		t := &structure{table: event.Table{Schema: string(row[0]), Name: string(row[1])}, rows: int64(number(row[2]))}
		if s.captured(t.table) {
			tables[t.table] = t
			all = append(all, t)
		}
	}
	checked, err := s.checkedJSON(ctx, x, strings.ReplaceAll(where, "TABLE_SCHEMA", "CONSTRAINT_SCHEMA"))
	if err != nil {
		return nil, err
	}
	if err := s.lookColumns(ctx, x, where, tables, checked); err != nil {
		return nil, err
	}
	keys, err := x.query(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, SEQ_IN_INDEX FROM information_schema.STATISTICS
		WHERE INDEX_NAME = 'PRIMARY' AND `+where)
	if err != nil {
		return nil, s.explain("list the primary keys", err)
	}
	for _, row := range keys {
		if c := tables[event.Table{Schema: string(row[0]), Name: string(row[1])}].find(string(row[2])); c != nil {
			c.key = number(row[3])
		}
	}
	for _, t := range all {
		t.finish(s)
	}
	return slices.DeleteFunc(all, func(t *structure) bool { return len(t.columns) == 0 }), nil
}

func (s *Source) lookColumns(ctx context.Context, x *session, where string, tables map[event.Table]*structure, checked map[string]bool) error {
	r, err := x.query(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION,
		NUMERIC_SCALE, DATETIME_PRECISION, CHARACTER_SET_NAME FROM information_schema.COLUMNS WHERE `+where+` ORDER BY 1, 2, ORDINAL_POSITION`)
	if err != nil {
		return s.explain("list the columns", err)
	}
	for _, row := range r {
		t := tables[event.Table{Schema: string(row[0]), Name: string(row[1])}]
		if t == nil {
			continue
		}
		name := string(row[2])
		j, ok := declared(string(row[3]), string(row[4]), number(row[6]), number(row[7]), number(row[8]), number(row[9]), string(row[10]))
		if !ok {
			return setup(fmt.Sprintf("column %s of %s has the type %s, which is not supported", name, t.table, row[4]),
				"change its type, or leave the table out of the source's tables")
		}
		if j.Kind == myjson.Text && j.Width == 4 && checked[t.table.String()+"."+name] {
			j.Kind = myjson.JSONText
		}
		t.columns = append(t.columns, column{name: name, json: j, nullable: string(row[5]) == "YES"})
	}
	return nil
}

// checkedJSON are the columns that MariaDB's type JSON stands for: LONGTEXT that must be valid JSON.
func (s *Source) checkedJSON(ctx context.Context, x *session, where string) (map[string]bool, error) {
	if s.cfg.Flavor != MariaDB {
		return nil, nil
	}
	r, err := x.query(ctx, `SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS WHERE `+where)
	if err != nil {
		return nil, s.explain("list the checks", err)
	}
	m := map[string]bool{}
	for _, row := range r {
		clause := string(row[2])
		if strings.HasPrefix(clause, "json_valid(`") && strings.HasSuffix(clause, "`)") {
			m[string(row[0])+"."+string(row[1])+"."+strings.ReplaceAll(clause[len("json_valid(`"):len(clause)-2], "``", "`")] = true
		}
	}
	return m, nil
}

// declared is the column that information_schema describes.
func declared(data, full string, length, precision, scale, fraction int, charset string) (myjson.Column, bool) {
	c := myjson.Column{Unsigned: strings.Contains(full, " unsigned")}
	switch data {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		c.Kind, c.Width = myjson.Int, map[string]int{"tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "bigint": 8}[data]
	case "decimal":
		c.Kind, c.Length, c.Scale = myjson.Decimal, precision, scale
	case "float":
		c.Kind = myjson.Float
	case "double":
		c.Kind = myjson.Double
	case "bit":
		c.Kind, c.Length = myjson.Bit, precision
	case "date":
		c.Kind = myjson.Date
	case "datetime":
		c.Kind, c.Scale = myjson.Datetime, fraction
	case "timestamp":
		c.Kind, c.Scale = myjson.Timestamp, fraction
	case "time":
		c.Kind, c.Scale = myjson.Time, fraction
	case "year":
		c.Kind = myjson.Year
	case "char":
		c.Kind, c.Length, c.Charset = myjson.Char, length, charset
	case "varchar":
		c.Kind, c.Length, c.Charset = myjson.Varchar, length, charset
	case "binary":
		c.Kind, c.Length = myjson.Binary, length
	case "varbinary":
		c.Kind, c.Length = myjson.Varbinary, length
	case "tinytext", "text", "mediumtext", "longtext":
		c.Kind, c.Charset, c.Width = myjson.Text, charset, map[string]int{"tinytext": 1, "text": 2, "mediumtext": 3, "longtext": 4}[data]
	case "tinyblob", "blob", "mediumblob", "longblob":
		c.Kind, c.Width = myjson.Blob, map[string]int{"tinyblob": 1, "blob": 2, "mediumblob": 3, "longblob": 4}[data]
	case "enum":
		c.Kind, c.Charset, c.Names = myjson.Enum, charset, namesOf(full)
	case "set":
		c.Kind, c.Charset, c.Names = myjson.Set, charset, namesOf(full)
	case "json":
		c.Kind = myjson.JSON
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection", "geometrycollection":
		c.Kind = myjson.Geometry
	case "uuid":
		c.Kind = myjson.UUID
	case "inet4":
		c.Kind = myjson.Inet4
	case "inet6":
		c.Kind = myjson.Inet6
	default:
		return c, false
	}
	if c.Kind > myjson.Double {
		c.Unsigned = false
	}
	return c, myjson.KnownCharset(c.Charset)
}

// namesOf reads the names of enum('a','b”c').
func namesOf(full string) []string {
	var names []string
	_, rest, _ := strings.Cut(full, "(")
	for strings.HasPrefix(rest, "'") {
		var name strings.Builder
		rest = rest[1:]
		for rest != "" {
			if strings.HasPrefix(rest, "''") {
				name.WriteByte('\'')
				rest = rest[2:]
				continue
			}
			if rest[0] == '\'' {
				break
			}
			name.WriteByte(rest[0])
			rest = rest[1:]
		}
		names = append(names, name.String())
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, "'"), ",")
	}
	return names
}

// mapped is the structure that a table map of the log describes: by itself with FULL metadata, else together with what
// the table is now, which must fit.
func (s *Source) mapped(m *replication.TableMapEvent, now *structure, all map[uint64]collation) (*structure, error) {
	t := &structure{table: event.Table{Schema: string(m.Schema), Name: string(m.Table)}}
	n := int(m.ColumnCount)
	names := m.ColumnNameString()
	if len(names) != n {
		return s.fitting(m, now, t)
	}
	unsigned, charsets := m.UnsignedMap(), m.CollationMap()
	enums, sets, nameCharsets := m.EnumStrValueMap(), m.SetStrValueMap(), m.EnumSetCollationMap()
	for i, name := range names {
		k := all[charsets[i]]
		values := enums[i]
		if values == nil {
			values = sets[i]
		}
		if values != nil {
			k = all[nameCharsets[i]]
			values = slices.Clone(values)
			for j, v := range values {
				decoded, err := myjson.Decode(k.charset, []byte(v))
				if err != nil {
					return nil, fmt.Errorf("column %s of %s: %w", name, t.table, err)
				}
				values[j] = decoded
			}
		}
		j, err := myjson.FromLog(m.ColumnType[i], m.ColumnMeta[i], unsigned[i], k.charset, k.widest, values)
		if err != nil || !myjson.KnownCharset(j.Charset) {
			return nil, setup(fmt.Sprintf("column %s of %s has a type or character set that is not supported", name, t.table),
				"change it, or leave the table out of the source's tables")
		}
		if c := now.find(name); c != nil && (c.json.Kind == myjson.JSONText || c.json.Kind >= myjson.UUID) && c.json.Fits(m.ColumnType[i], m.ColumnMeta[i]) {
			j = c.json
		}
		_, nullable := m.Nullable(i)
		t.columns = append(t.columns, column{name: name, json: j, nullable: nullable, wire: m.ColumnType[i], meta: m.ColumnMeta[i]})
	}
	for ordinal, i := range m.PrimaryKey {
		if int(i) < n {
			t.columns[i].key = ordinal + 1
		}
	}
	t.finish(s)
	return t, nil
}

// fitting takes what the table is now, if a table map without names fits it.
func (s *Source) fitting(m *replication.TableMapEvent, now, t *structure) (*structure, error) {
	differ := func(what string) error {
		return &capture.GapError{
			Reason: fmt.Sprintf("table %s has another structure in the log than now (%s), and the log has no names of columns", t.table, what),
			Fix: "SET GLOBAL binlog_row_metadata = 'FULL', so that it has them from now on, then run: runnel capture " + s.cfg.Name +
				" --resnapshot, which goes on from now and loads everything again; or leave the table out of the source's tables",
		}
	}
	if now == nil {
		return nil, differ("it is not there")
	}
	if len(now.columns) != int(m.ColumnCount) {
		return nil, differ(fmt.Sprintf("%d columns in the log, %d now", m.ColumnCount, len(now.columns)))
	}
	t.columns = slices.Clone(now.columns)
	for i := range t.columns {
		c := &t.columns[i]
		if !c.json.Fits(m.ColumnType[i], m.ColumnMeta[i]) {
			return nil, differ(fmt.Sprintf("column %s, now %s", c.name, c.json.Type()))
		}
		c.wire, c.meta = m.ColumnType[i], m.ColumnMeta[i]
	}
	t.finish(s)
	return t, nil
}
