package pgjson_test

import "strings"

// controls is every character that needs care in JSON: 1 to 31, the quote, the backslash, 127.
var controls = func() string {
	var b strings.Builder
	for c := 1; c < 32; c++ {
		b.WriteByte(byte(c))
	}
	return b.String() + `"\/` + "\x7f"
}()

var texts = []string{"", " ", "NULL", "null", "a", controls, `"`, `\`, `\\`, `\"`, `{`, `}`, `{}`, `,`, `;`, `(`, `)`, `(a,"b")`, `'`, "a b", "\t", "\n", "\r\n",
	"\v", "\f", "ü€", "🙂\U0010FFFF", "\u2028\u0085\u00a0", `\u0041`, "{\"a\\\"b\",NULL,\"\"}", "(\"a \"\"q\"\"\",)", strings.Repeat(`x"\`, 3000)}

var jsons = []string{"null", "true", `"s"`, "1", "-0", "1e400", "{}", "[]", ` { "a" : 1 , "a":2 }  `, "{\n\t\"b\":\r\n[1,\n2]\n}", `{"b":{"c":[1,{"d":null}]},"a":"x"}`,
	`"🙂 \"\\ \u00fc \n \t"`, `"\ud83d\ude42"`, `[1.10, 12345678901234567890123456789.000000000001]`, `{"":" ","(,)":"{}"}`}

// literals are the values of each type of pg_catalog, as the type's input function reads them.
var literals = map[string][]string{
	"bool":          {"t", "f"},
	"bytea":         {``, `\x`, `\x00`, `\xdeadbeef`, `\x275c227b7d2c`},
	"char":          {"", "a", `"`, `\`, " ", `\001`, `\377`, "\n", "{", "(", ","},
	"name":          {"", "a b", `q"u\o`, strings.Repeat("n", 63)},
	"int2":          {"0", "-32768", "32767"},
	"int4":          {"0", "-2147483648", "2147483647"},
	"int8":          {"0", "-9223372036854775808", "9223372036854775807"},
	"int2vector":    {"", "1", "1 2 -3"},
	"oidvector":     {"", "0", "23 4294967295"},
	"oid":           {"0", "4294967295"},
	"xid":           {"0", "4294967295"},
	"xid8":          {"0", "18446744073709551615"},
	"cid":           {"0", "4294967295"},
	"tid":           {"(0,0)", "(4294967295,65535)"},
	"text":          texts,
	"varchar":       texts,
	"bpchar":        {"", "a", "a  ", controls},
	"refcursor":     {"", `c "1"`},
	"json":          jsons,
	"jsonb":         append(jsons[:5:5], jsons[6:]...), // 1e400 is 401 digits, below
	"jsonpath":      {"$", `$."a b"[*] ? (@.x > 1 && @.y like_regex "^\\d")`, `strict $.**{2 to last}.size()`},
	"xml":           {"", "<a/>", "<a b=\"c\">\n\t&lt;ü</a>", `<?xml version="1.0" encoding="UTF-8"?><a/>`, "text"},
	"uuid":          {"00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"},
	"pg_lsn":        {"0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"},
	"float4":        {"0", "-0", "1", "0.1", "1e20", "1.5e-10", "3.4028235e38", "1e-45", "1.17549435e-38", "16777216", "NaN", "Infinity", "-Infinity"},
	"float8":        {"0", "-0", "1", "0.1", "1e15", "123456789012345680", "1.5e-10", "1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "NaN", "Infinity", "-Infinity"},
	"numeric":       {"0", "-0", "0.00", "1.10", "-0.000000001", "1e30", "1e-30", "NaN", "Infinity", "-Infinity", "1234567890123456789012345678901234567890", "-0.1234567890123456789012345678901234567890", "1" + strings.Repeat("0", 1000)},
	"money":         {"0", "-1.5", "$1,234,567.89", "-92233720368547758.08", "92233720368547758.07"},
	"date":          {"2024-02-29", "0001-01-01", "0044-03-15 BC", "4713-01-01 BC", "5874897-12-31", "10000-01-01", "infinity", "-infinity", "epoch"},
	"time":          {"00:00:00", "24:00:00", "23:59:59.999999", "12:30:00.1"},
	"timetz":        {"00:00:00+00", "24:00:00-15:59", "12:00:00.000001+05:30", "01:02:03-00:00:01"},
	"timestamp":     {"2024-02-29 12:34:56", "2024-02-29 12:34:56.7", "2024-02-29 12:34:56.000001", "0044-03-15 12:00:00 BC", "0001-12-31 23:59:59.999999 BC", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999", "infinity", "-infinity"},
	"timestamptz":   {"2024-02-29 12:34:56+02", "2024-02-29 12:34:56.7-11:30", "1880-01-01 00:00:00 Europe/Berlin", "0044-03-15 12:00:00+00 BC", "0001-12-31 23:59:59.999999+00 BC", "4713-01-01 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "infinity", "-infinity"},
	"interval":      {"0", "1 year", "-1 year -2 months +3 days", "1 day -00:00:00.000001", "100:59:01.5", "178000000 years", "-178000000 years", "1 mon 2 days 03:04:05.678"},
	"bit":           {"0", "1"},
	"varbit":        {"", "0", "10110"},
	"inet":          {"1.2.3.4", "10.0.0.0/8", "1.2.3.4/24", "::1", "2001:db8::ff00:42:8329/64", "::ffff:1.2.3.4"},
	"cidr":          {"1.2.3.4", "10.0.0.0/8", "::/0", "2001:db8::/32"},
	"macaddr":       {"08:00:2b:01:02:03"},
	"macaddr8":      {"08:00:2b:01:02:03:04:05"},
	"point":         {"(0,-0)", "(1.5,-2e300)", "(NaN,Infinity)"},
	"lseg":          {"[(0,0),(1,2.5)]"},
	"path":          {"[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"},
	"box":           {"(1,1),(0,0)", "(-1,5e-324),(3,4)"},
	"polygon":       {"((0,0),(1,1),(2,0))"},
	"line":          {"{1,-2,3.5}"},
	"circle":        {"<(1,2),3.5>"},
	"aclitem":       {"postgres=arwdDxt/postgres", "=r/postgres"},
	"regproc":       {"-", "now", "pg_catalog.pg_typeof", "4294967295"},
	"regprocedure":  {"-", "pg_catalog.length(text)", "pg_catalog.substr(text,integer,integer)"},
	"regoper":       {"0", "pg_catalog.||/"},
	"regoperator":   {"0", "pg_catalog.+(integer,integer)", "pg_catalog.-(NONE,integer)"},
	"regclass":      {"-", "pg_catalog.pg_class", "app.\"We, \"\"ird\"", "4294967295"},
	"regtype":       {"-", "integer", "numeric[]", "app.mood", "app.\"We, \"\"ird\""},
	"regcollation":  {"-", "\"C\"", "pg_catalog.\"POSIX\""},
	"regrole":       {"-", "postgres"},
	"regnamespace":  {"-", "app", "pg_catalog"},
	"regconfig":     {"-", "pg_catalog.english"},
	"regdictionary": {"-", "pg_catalog.simple"},
	"tsvector":      {"", "a:1A b:2,3", `'it''s' 'a b' 'back\\slash' 'q"'`},
	"tsquery":       {"", "a & !b | c <2> d:*A", `'it''s' & 'a b'`},
	"txid_snapshot": {"10:20:10,14,15", "1:1:"},
	"pg_snapshot":   {"10:20:10,14,15", "1:1:"},

	"int4range": {"empty", "(,)", "[1,10)", "[-5,]"},
	"int8range": {"empty", "(,)", "[1,9223372036854775806]"},
	"numrange":  {"empty", "(,)", "[1.10,2.00]", "(-Infinity,Infinity)", "[1,NaN]"},
	"daterange": {"empty", "(,)", "[2024-01-01,infinity)", "[0044-03-15 BC,2024-01-01]"},
	"tsrange":   {"empty", "(,)", "[2024-01-01 00:00,2024-01-02 12:34:56.789)", "[-infinity,infinity]"},
	"tstzrange": {"empty", "(,)", "[2024-01-01 00:00+02,2024-01-02 12:34:56.789-05)", "[0044-03-15 00:00+00 BC,infinity]"},

	"int4multirange": {"{}", "{[1,3),[5,9)}", "{(,)}"},
	"int8multirange": {"{}", "{[1,3),[5,9)}"},
	"nummultirange":  {"{}", "{[1.10,2.00],(3,)}"},
	"datemultirange": {"{}", "{[2024-01-01,2024-02-01),[2025-01-01,infinity)}"},
	"tsmultirange":   {"{}", "{[2024-01-01 00:00,2024-01-02 00:00]}"},
	"tstzmultirange": {"{}", "{[2024-01-01 00:00+02,2024-01-02 00:00+02],(2025-01-01 00:00+00,)}"},
}

// newer are values that older versions do not have.
var newer = map[string]struct {
	major  int
	values []string
}{
	"interval": {17, []string{"infinity", "-infinity"}},
}

// queries are the values of types that have no input: the server makes them.
var queries = map[string]string{
	"pg_node_tree":    "SELECT adbin FROM pg_catalog.pg_attrdef ORDER BY oid LIMIT 3",
	"pg_ndistinct":    "SELECT stxdndistinct FROM pg_catalog.pg_statistic_ext_data",
	"pg_dependencies": "SELECT stxddependencies FROM pg_catalog.pg_statistic_ext_data",
	"pg_mcv_list":     "SELECT stxdmcv FROM pg_catalog.pg_statistic_ext_data",
}

// valueless are types that exist only inside of indexes: a column can have them, and hold nothing but NULL.
var valueless = map[string]bool{"gtsvector": true, "pg_brin_bloom_summary": true, "pg_brin_minmax_multi_summary": true}

// declared are types with modifiers and types that users make: name, Base, values. setup makes them.
var declared = []struct {
	typ, base string
	values    []string
}{
	{"numeric(12,2)", "", []string{"0", "-1.005", "9999999999.99", "NaN"}},
	{"numeric(40,10)", "", []string{"123456789012345678901234567890.0123456789"}},
	{"numeric(3,-2)", "", []string{"12345"}},
	{"character(5)", "", []string{"", "a", `"\`, "ü"}},
	{"character varying(9)", "", []string{"", "a b", "NULL"}},
	{"bit(3)", "", []string{"101"}},
	{"bit varying(5)", "", []string{"", "10"}},
	{"time(2) without time zone", "", []string{"12:00:00.129"}},
	{"timestamp(3) without time zone", "", []string{"2024-01-01 00:00:00.1239", "infinity"}},
	{"timestamp(0) with time zone", "", []string{"2024-01-01 00:00:00.6+00"}},
	{"interval day to second(3)", "", []string{"1 day 01:02:03.45678"}},
	{"app.mood", "enum", []string{"sad", `it's "q"`, "a,b", "ü", "NULL"}},
	{"app.cents", "numeric(12,2)", []string{"0", "-1.005", "NaN"}},
	{"app.cents2", "numeric(12,2)", []string{"0.1"}},
	{"app.note", "text", texts},
	{"app.day", "date", []string{"2024-01-01", "infinity", "0044-03-15 BC"}},
	{"app.moment", "timestamp(3) with time zone", []string{"2024-01-01 00:00:00.123456+05", "0044-03-15 00:00+00 BC"}},
	{"app.doc", "json", jsons},
	{"app.ints", "integer[]", []string{"{}", "{1,NULL}", "[5:6]={1,2}", "{{1,2},{3,4}}"}},
	{"app.moods", "enum[]", []string{"{}", `{sad,NULL,"NULL","it's \"q\""}`}},
	{"app.feeling", "enum", []string{"sad", "a,b"}},
	{"app.pair", "composite", []string{"(,)", "(1,)", `(,"")`, `(1," ")`, `(-5,"a ""q"" \\ (b),c")`, `(7,NULL)`, `(7,"{}")`}},
	{"app.pair2", "composite", []string{"(,)", `(1,"a ""q""")`}},
	{"app.nothing", "composite", []string{"()"}},
	{"app.one", "composite", []string{"()", "(1.50)", "(NaN)"}},
	{"app.nested", "composite", []string{"(,)", `("(1,""x y"")","{""(2,\\""a,b\\"")"",NULL}")`, `("(,)","{}")`}},
	{"app.everything", "composite", []string{"(,,,,,,,,)", `(t,1.10,2024-01-01,"2024-01-01 00:00:00","2024-01-01 00:00:00.5+00","{""a"": [1, ""x\\\\""]}","{{1,2},{3,4}}",sad,"(1,1),(0,0)")`}},
	{"app.dropped", "composite", []string{"(,)", "(1,2)"}},
	{`app."We, ""ird"`, "composite", []string{`(,)`, `(1,"x")`}},
	{"app.rowtype", "composite", []string{"(1,)", `(2,"(3,z)")`}},
	{"app.textrange", "range", []string{"empty", `["a b","c,d"]`, `["","\""]`}},
	{"app.textmultirange", "multirange", []string{"{}", `{["a b","c,d"],["x\"y",)}`}},
	{"app.span", "int4range", []string{"empty", "[1,5)"}},
	{"information_schema.sql_identifier", "name", []string{"a b"}},
	{"information_schema.cardinal_number", "integer", []string{"5"}},
}

// extensions are types of extensions, where the server has them, and types made of these. as is not empty where row_to_json
// would use a cast to json: a type that reads the same text and has no cast.
var extensions = []struct {
	name, setup string
	typ, base   string
	as          string
	values      []string
}{
	{"citext", ``, "public.citext", "text", "", []string{"", "A b", `"q"`}},
	{"ltree", ``, "public.ltree", "text", "", []string{"", "a.b.c"}},
	{"cube", ``, "public.cube", "text", "", []string{"(1, 2),(3, 4)"}},
	{"isn", ``, "public.isbn", "text", "", []string{"978-0-11-000533-1"}},
	{"hstore", ``, "public.hstore", "text", "text", []string{"", `a=>1, "b c"=>NULL, "q\"q"=>"x\\y"`}},
	{"hstore", `CREATE DOMAIN app.labels AS public.hstore`, "app.labels", "text", "text", []string{"", "a=>1"}},
	{"hstore", `CREATE TYPE app.labelled AS (h public.hstore, hs app.labels[], n int); CREATE TYPE app.labelled_text AS (h text, hs text[], n int)`,
		"app.labelled", "composite", "app.labelled_text", []string{"(,,)", `(a=>1,"{a=>1,""b=>\\""x y\\""""}",2)`}},
}

const setup = `
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'it''s "q"', 'a,b', 'ü', 'NULL');
CREATE DOMAIN app.cents AS numeric(12,2);
CREATE DOMAIN app.cents2 AS app.cents;
CREATE DOMAIN app.note AS text;
CREATE DOMAIN app.day AS date;
CREATE DOMAIN app.moment AS timestamptz(3);
CREATE DOMAIN app.doc AS json;
CREATE DOMAIN app.ints AS int[];
CREATE DOMAIN app.moods AS app.mood[];
CREATE DOMAIN app.feeling AS app.mood;
CREATE DOMAIN app.span AS int4range;
CREATE TYPE app.pair AS (n int, s text);
CREATE DOMAIN app.pair2 AS app.pair;
CREATE TYPE app.nothing AS ();
CREATE TYPE app.one AS (v numeric);
CREATE TYPE app.nested AS (p app.pair, ps app.pair2[]);
CREATE TYPE app.everything AS (b bool, n numeric(9,2), d date, t timestamp, z timestamptz, j jsonb, a int[], m app.feeling, x box);
CREATE TYPE app.dropped AS (a int, gone text, "last " int);
ALTER TYPE app.dropped DROP ATTRIBUTE gone;
CREATE TYPE app."We, ""ird" AS ("q""\ü" int, "tab	" text);
CREATE TABLE app.rowtype (id int, p app.pair2);
CREATE TYPE app.textrange AS RANGE (subtype = text, collation = "C", multirange_type_name = app.textmultirange);

CREATE TABLE app.stats (a int DEFAULT 1, b int DEFAULT (2 + 3), c text DEFAULT now()::text);
INSERT INTO app.stats SELECT i, i / 10, i / 10 FROM generate_series(1, 200) i;
CREATE STATISTICS app.stat ON a, b, c FROM app.stats;
ANALYZE app.stats;
`
