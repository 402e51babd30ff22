package mysql_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

// kind is a type with values: each a literal, and what is expected, "" for what the server's own text says.
type kind struct {
	name   string
	values [][2]string
	only   string // flavor
	text   string // the server's own text of column v
}

func v(pairs ...string) [][2]string {
	var out [][2]string
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, [2]string{pairs[i], pairs[i+1]})
	}
	return out
}

const asString = "JSON_QUOTE(CAST(v AS CHAR CHARACTER SET utf8mb4))"

var kinds = []kind{
	{"tinyint", v("-128", "", "127", "", "0", "", "NULL", "null"), "", "v"},
	{"tinyint unsigned", v("255", ""), "", "v"},
	{"tinyint(1)", v("1", "1"), "", "v"},
	{"smallint", v("-32768", "", "32767", ""), "", "v"},
	{"smallint unsigned", v("65535", ""), "", "v"},
	{"mediumint", v("-8388608", "", "8388607", ""), "", "v"},
	{"mediumint unsigned", v("16777215", ""), "", "v"},
	{"int", v("-2147483648", "", "2147483647", ""), "", "v"},
	{"int unsigned", v("4294967295", ""), "", "v"},
	{"int(8) unsigned zerofill", v("42", "42", "0", "0"), "", "v"},
	{"bigint", v("-9223372036854775808", "", "9223372036854775807", ""), "", "v"},
	{"bigint unsigned", v("18446744073709551615", ""), "", "v"},
	{"decimal(65,30)", v("99999999999999999999999999999999999.999999999999999999999999999999", "", "-0.000000000000000000000000000001", "", "0", ""), "", "v"},
	{"decimal(10,2)", v("12.5", "12.50", "-1", "-1.00", "0.05", "0.05", "-0.05", "-0.05"), "", "v"},
	{"decimal(9,9)", v("0.123456789", "", "-0.000000001", ""), "", "v"},
	{"decimal(18,0)", v("999999999999999999", "", "-7", ""), "", "v"},
	{"decimal(7,3) unsigned zerofill", v("1.5", "1.500"), "", "v"},
	{"float", v("0.1", "0.1", "3.4028235e38", "3.4028235e38", "1e-45", "1e-45", "16777217", "16777216", "-1.5", "-1.5", "0", "0", "1e15", "1e15"), "", ""},
	{"double", v("0.1", "", "1.7976931348623157e308", "", "5e-324", "", "1e15", "", "1e14", "", "123456789012345678", "", "1e-15", "", "1e-16", "", "-0.25", "", "1e22", "", "0", ""), "", "v"},
	{"double unsigned", v("2.5", "2.5"), "", "v"},
	{"bit(1)", v("b'1'", `"\\x01"`, "b'0'", `"\\x00"`), "", ""},
	{"bit(12)", v("b'101010101010'", `"\\x0aaa"`), "", ""},
	{"bit(64)", v("18446744073709551615", `"\\xffffffffffffffff"`), "", ""},
	{"date", v("'2024-02-29'", "", "'9999-12-31'", "", "'1000-01-01'", "", "'0000-00-00'", "null", "'2024-00-10'", "null"), "", `IF(MONTH(v) = 0, 'null', CONCAT('"', v, '"'))`},
	{"datetime", v("'2024-02-29 23:59:59'", `"2024-02-29T23:59:59"`, "'0000-00-00 00:00:00'", "null", "'9999-12-31 23:59:59'", `"9999-12-31T23:59:59"`), "", ""},
	{"datetime(1)", v("'2024-02-29 23:59:59.1'", `"2024-02-29T23:59:59.1"`), "", ""},
	{"datetime(3)", v("'2024-02-29 23:59:59.120'", `"2024-02-29T23:59:59.120"`), "", ""},
	{"datetime(6)", v("'2024-02-29 23:59:59.000001'", `"2024-02-29T23:59:59.000001"`, "'1000-01-01 00:00:00'", `"1000-01-01T00:00:00.000000"`), "", ""},
	{"timestamp NULL", v("'2024-07-01 12:00:00'", `"2024-07-01T10:30:00+00:00"`, "'0000-00-00 00:00:00'", "null", "NULL", "null"), "", ""},
	{"timestamp(6) NULL", v("'2038-01-19 04:44:07.999999'", `"2038-01-19T03:14:07.999999+00:00"`, "'1970-01-01 01:30:01'", `"1970-01-01T00:00:01.000000+00:00"`), "", ""},
	{"timestamp(2) NULL", v("'2024-07-01 12:00:00.25'", `"2024-07-01T10:30:00.25+00:00"`), "", ""},
	{"time", v("'838:59:59'", "", "'-838:59:59'", "", "'00:00:00'", "", "'-00:00:01'", "", "'12:30:00'", ""), "", `CONCAT('"', v, '"')`},
	{"time(1)", v("'-00:00:00.1'", "", "'100:00:00.9'", ""), "", `CONCAT('"', v, '"')`},
	{"time(4)", v("'-01:02:03.4567'", "", "'01:02:03.4567'", ""), "", `CONCAT('"', v, '"')`},
	{"time(6)", v("'-838:59:59.000000'", "", "'-00:00:00.000001'", "", "'838:59:58.999999'", ""), "", `CONCAT('"', v, '"')`},
	{"year", v("1901", "1901", "2155", "2155", "0", "0"), "", ""},
	{"char(10)", v("'a  '", `"a"`, "'ä€'", `"ä€"`, "''", `""`), "", asString},
	{"char(255)", v("REPEAT('😀', 255)", ""), "", asString},
	{"varchar(300)", v("'a  '", `"a  "`, "'it''s \\\\ \"x\"\\n\\t'", "", "REPEAT('é', 300)", ""), "", asString},
	{"varchar(20) CHARACTER SET latin1", v("'é€ü'", `"é€ü"`, "x'81'", "\"\u0081\""), "", ""},
	{"char(20) CHARACTER SET latin1 COLLATE latin1_bin", v("'naïve'", `"naïve"`), "", asString},
	{"varchar(20) CHARACTER SET ucs2", v("'aé中'", `"aé中"`), "", asString},
	{"varchar(20) CHARACTER SET utf16", v("'a😀'", `"a😀"`), "", asString},
	{"varchar(20) CHARACTER SET cp1251", v("'привет'", `"привет"`), "", asString},
	{"varchar(20) CHARACTER SET gbk", v("'中文'", `"中文"`), "", asString},
	{"varchar(20) CHARACTER SET sjis", v("'日本'", `"日本"`), "", asString},
	{"varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", v("'ß'", `"ß"`), "", asString},
	{"tinytext", v("'x'", "", "''", ""), "", asString},
	{"text", v("REPEAT('ab', 5000)", ""), "", asString},
	{"mediumtext CHARACTER SET latin1", v("'ÿ'", ""), "", asString},
	{"longtext", v("REPEAT('€', 30000)", ""), "", asString},
	{"binary(4)", v("'ab'", `"\\x61620000"`, "x'00ff0000'", `"\\x00ff0000"`, "''", `"\\x00000000"`), "", ""},
	{"varbinary(300)", v("x'00ff'", `"\\x00ff"`, "x'6100'", `"\\x6100"`, "''", `"\\x"`), "", ""},
	{"tinyblob", v("x'01'", `"\\x01"`), "", ""},
	{"blob", v("''", `"\\x"`, "x'c3'", `"\\xc3"`), "", ""},
	{"mediumblob", v("x'ff'", `"\\xff"`), "", ""},
	{"longblob", v("x'ff00'", `"\\xff00"`), "", ""},
	{"enum('a','b''c','ü,x')", v("'a'", `"a"`, "'b''c'", `"b'c"`, "'ü,x'", `"ü,x"`, "'no'", `""`, "NULL", "null"), "", asString},
	{"enum('é','à') CHARACTER SET latin1", v("'à'", `"à"`), "", asString},
	{"set('x','y','ü')", v("''", `""`, "'x,ü'", `"x,ü"`, "'y'", `"y"`), "", asString},
	{"geometry", v("ST_GeomFromText('POINT(1 2)')", `"\\x0101000000000000000000f03f0000000000000040"`), "", ""},
	{"point", v("ST_GeomFromText('POINT(0 0)')", `"\\x010100000000000000000000000000000000000000"`), "", ""},
	{"json", v(`'{"b": [1, 2.5, true, null, "x\\n\\u0001é"], "a": {"c": {}}, "big": 18446744073709551615, "neg": -1}'`, "", `'[]'`, "", `'"s"'`, "", `'1e30'`, "", `'1.0'`, "", `'null'`, "",
		`JSON_OBJECT('d', CAST(1.10 AS DECIMAL(10,2)), 't', TIMESTAMP'2020-01-02 03:04:05.5', 'd2', DATE'2020-01-02', 't2', TIME'-10:11:12')`, "",
		`CONCAT('["', REPEAT('x', 70000), '", 65536, 4294967296, -70000, 0.1, 100.0, 1e15, 123456]')`, ""), "mysql", "v"},
	{"json", v(`'{"b" : [1, 2.50],\n"a": 1}'`, `{"b" : [1, 2.50], "a": 1}`), "mariadb", ""},
	{"uuid", v("'123e4567-e89b-12d3-a456-426655440000'", "", "'ffffffff-ffff-4fff-bfff-ffffffffffff'", "", "'00000000-0000-0000-0000-000000000000'", ""), "mariadb", `CONCAT('"', v, '"')`},
	{"inet6", v("'2001:db8::ff00:42:8329'", "", "'::ffff:192.0.2.1'", "", "'::'", ""), "mariadb", `CONCAT('"', v, '"')`},
	{"inet4", v("'192.0.2.1'", "", "'0.0.0.0'", ""), "mariadb", `CONCAT('"', v, '"')`},
}

// TestOracle: each value has the same bytes in the log and in a chunk, and they are what was expected, or the server's own text.
func TestOracle(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("SET time_zone = '+01:30'")
		var tables []string
		for n, k := range kinds {
			if k.only != "" && k.only != w.flavor {
				continue
			}
			tables = append(tables, fmt.Sprintf("t%d", n))
			w.exec(fmt.Sprintf("CREATE TABLE t%d (id int PRIMARY KEY, v %s)", n, k.name))
		}
		l := w.open(w.source(), "")
		for n, k := range kinds {
			if k.only != "" && k.only != w.flavor {
				continue
			}
			for i, x := range k.values {
				w.exec(fmt.Sprintf("INSERT INTO t%d VALUES (%d, %s)", n, i, x[0]))
			}
		}
		w.exec("CREATE TABLE done (id int PRIMARY KEY)", "INSERT INTO done VALUES (1)")
		logged := map[string][]string{}
		types := map[string]string{}
		for _, c := range l.changes("done") {
			logged[c.Schema.Table.Name] = append(logged[c.Schema.Table.Name], c.after)
			types[c.Schema.Table.Name] = c.Schema.Fingerprint()
			if !json.Valid([]byte(c.after)) {
				t.Errorf("%s: no JSON: %s", c.Schema.Columns[1].Type, c.after)
			}
		}
		for _, name := range tables {
			var n int
			fmt.Sscanf(name, "t%d", &n)
			k := kinds[n]
			c := w.chunk(l, name)
			if c.Schema.Fingerprint() != types[name] {
				t.Errorf("%s: the log's structure is another than the chunk's, %s", k.name, c.Schema.Columns[1].Type)
			}
			if len(c.Rows) != len(k.values) || len(logged[name]) != len(k.values) {
				t.Fatalf("%s: %d rows in the chunk and %d in the log, want %d", k.name, len(c.Rows), len(logged[name]), len(k.values))
			}
			for i, x := range k.values {
				got, want := string(c.Rows[i].JSON), logged[name][i]
				if got != want {
					t.Errorf("%s %.60s:\n  chunk %.300s\n  log   %.300s", k.name, x[0], got, want)
				}
				expected := x[1]
				if expected == "" {
					expected = w.text(fmt.Sprintf("SELECT %s FROM t%d WHERE id = %d", k.text, n, i))
				}
				got = strings.TrimSuffix(strings.TrimPrefix(logged[name][i], fmt.Sprintf(`{"id":%d,"v":`, i)), "}")
				got = strings.ReplaceAll(got, "\n", " ") // as event.AppendLine does
				if got != expected && canonical(got) != canonical(expected) && !(strings.HasPrefix(k.name, "double") && number(got) == number(expected)) {
					t.Errorf("%s %.60s: got %.300s, want %.300s (%s)", k.name, x[0], got, expected, hex.EncodeToString([]byte(got[:min(len(got), 20)])))
				}
			}
		}
	})
}

// number is what a double is, in whatever form: MariaDB prints all of its digits.
func number(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

// canonical takes the differences away that two writers of JSON strings may have.
func canonical(s string) string {
	var text string
	if strings.HasPrefix(s, `"`) && json.Unmarshal([]byte(s), &text) == nil {
		return "text " + text
	}
	return s
}
