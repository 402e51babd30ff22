package equal

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

// MySQL reads a table of MySQL or MariaDB, as user root without a password.
func MySQL(ctx context.Context, address, database, table string, key []string) (*Table, error) {
	c, err := client.ConnectWithContext(ctx, address, "root", "", database, 0)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	defer c.Close()
	if _, err := c.Execute("SET NAMES utf8mb4, time_zone = '+00:00'"); err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	t := &Table{Name: table, Key: key, Types: map[string]string{}, Rows: Rows{}}
	var types map[string]string
	if t.Columns, types, err = MySQLColumns(c, database, table); err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	var names []string
	for _, name := range t.Columns {
		t.Types[name] = canonicalType(types[name])
		expression := "`" + name + "`"
		if types[name] == "float" { // whose own text has six digits only
			expression += " + 0e0"
		}
		names = append(names, expression)
	}
	r, err := c.Execute("SELECT " + strings.Join(names, ", ") + " FROM `" + table + "`")
	if err != nil {
		return nil, fmt.Errorf("compare: read %s: %w", table, err)
	}
	for _, data := range r.RowDatas {
		doc := map[string]json.RawMessage{}
		for _, name := range t.Columns {
			v, null, n, err := mysql.LengthEncodedString(data)
			if err != nil {
				return nil, fmt.Errorf("compare: read %s: %w", table, err)
			}
			data = data[n:]
			if null {
				v = nil
			}
			doc[name] = value(types[name], v, null)
		}
		line, err := json.Marshal(doc)
		if err != nil {
			return nil, fmt.Errorf("compare: read %s: %w", table, err)
		}
		if err := t.add(t.Rows, line); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// MySQLColumns are a table's columns in their order, and the type of each.
func MySQLColumns(c *client.Conn, database, table string) (names []string, types map[string]string, err error) {
	r, err := c.Execute(fmt.Sprintf("SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = '%s' AND table_name = '%s' ORDER BY ordinal_position", database, table))
	if err != nil {
		return nil, nil, fmt.Errorf("columns of %s: %w", table, err)
	}
	types = map[string]string{}
	for i := range r.RowNumber() {
		name, err := r.GetString(i, 0)
		if err != nil {
			return nil, nil, fmt.Errorf("columns of %s: %w", table, err)
		}
		if types[name], err = r.GetString(i, 1); err != nil {
			return nil, nil, fmt.Errorf("columns of %s: %w", table, err)
		}
		names = append(names, name)
	}
	return names, types, nil
}

// MySQLRow makes a row of what the shop's journal holds: an object of texts as the server prints them, of hex digits for bytes.
func MySQLRow(types map[string]string, texts []byte) (json.RawMessage, error) {
	var row map[string]*string
	if err := json.Unmarshal(texts, &row); err != nil {
		return nil, fmt.Errorf("row %.60s: %w", texts, err)
	}
	doc := make(map[string]json.RawMessage, len(row))
	for name, text := range row {
		switch typ := types[name]; {
		case text == nil:
			doc[name] = json.RawMessage("null")
		case bytesType(typ):
			doc[name] = quoted(`\x` + strings.ToLower(*text))
		default:
			doc[name] = value(typ, []byte(*text), false)
		}
	}
	return json.Marshal(doc)
}

func bytesType(typ string) bool {
	return typ == "bit" || strings.HasSuffix(typ, "binary") || strings.HasSuffix(typ, "blob")
}

// canonicalType is the type by whose rules values are compared.
func canonicalType(typ string) string {
	switch typ {
	case "datetime", "timestamp":
		return "timestamp"
	case "float", "double":
		return "double precision"
	case "decimal":
		return "numeric"
	}
	return typ
}

// value is JSON of the server's text.
func value(typ string, v []byte, null bool) json.RawMessage {
	switch {
	case null, strings.HasPrefix(string(v), "0000-00-00"):
		return json.RawMessage("null")
	case typ == "float":
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil {
			return quoted(string(v))
		}
		return json.RawMessage(strconv.FormatFloat(f, 'g', -1, 32))
	case strings.HasSuffix(typ, "int"), typ == "decimal", typ == "double", typ == "year", typ == "json":
		return json.RawMessage(v)
	case bytesType(typ):
		return quoted(`\x` + hex.EncodeToString(v))
	case typ == "datetime" || typ == "timestamp":
		return quoted(strings.Replace(string(v), " ", "T", 1))
	}
	return quoted(string(v))
}

func quoted(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}
