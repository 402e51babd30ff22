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
	types := map[string]string{}
	r, err := c.Execute(fmt.Sprintf("SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = '%s' AND table_name = '%s' ORDER BY ordinal_position", database, table))
	if err != nil {
		return nil, fmt.Errorf("compare: columns of %s: %w", table, err)
	}
	var names []string
	for i := range r.RowNumber() {
		name, err := r.GetString(i, 0)
		if err != nil {
			return nil, err
		}
		if types[name], err = r.GetString(i, 1); err != nil {
			return nil, err
		}
		t.Columns = append(t.Columns, name)
		t.Types[name] = canonicalType(types[name])
		expression := "`" + name + "`"
		if types[name] == "float" { // whose own text has six digits only
			expression += " + 0e0"
		}
		names = append(names, expression)
	}
	if r, err = c.Execute("SELECT " + strings.Join(names, ", ") + " FROM `" + table + "`"); err != nil {
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
	case strings.HasSuffix(typ, "binary"), strings.HasSuffix(typ, "blob"), typ == "bit":
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
