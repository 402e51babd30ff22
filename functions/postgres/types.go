package postgres

import (
	"strconv"
	"strings"
)

// typ is a type's name taken apart: numeric(12,2)[] is numeric, {12, 2}, one pair of brackets.
type typ struct {
	name string
	mods []int
	dims int
}

func parseType(s string) typ {
	var t typ
	for strings.HasSuffix(s, "[]") {
		s, t.dims = s[:len(s)-2], t.dims+1
	}
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if strings.HasPrefix(s, `"`) || strings.Contains(s, `."`) || open < 0 || end < open {
		t.name = s
		return t
	}
	t.name = strings.TrimSpace(s[:open]) + s[end+1:]
	for _, m := range strings.Split(s[open+1:end], ",") {
		n, err := strconv.Atoi(strings.TrimSpace(m))
		if err != nil { // of an extension's type: compared as text
			return typ{name: s, dims: t.dims}
		}
		t.mods = append(t.mods, n)
	}
	return t
}

var integers = map[string]int{"smallint": 1, "integer": 2, "bigint": 3}

// digits that an integer type can have.
var digits = map[string]int{"smallint": 5, "integer": 10, "bigint": 19}

// vectors print as arrays in JSON, but json_populate_recordset makes values of them that PostgreSQL itself refuses to print
// ("array is not a valid int2vector"). Arrays hold the same.
var vectors = map[string]string{"int2vector": "smallint[]", "oidvector": "oid[]"}

// fits says whether every value of the type src can be kept unchanged in the type dst, written as JSON and read again.
func fits(src, dst string) bool {
	if v := vectors[src]; v != "" {
		src = v
	}
	if src == dst {
		return vectors[dst] == ""
	}
	s, d := parseType(src), parseType(dst)
	if d.dims == 0 && (dst == "json" || dst == "jsonb" || dst == "text" || dst == "character varying") {
		return true
	}
	if s.dims != d.dims {
		return false
	}
	if s.name == d.name {
		return wider(s, d)
	}
	switch {
	case integers[s.name] > 0 && integers[d.name] > 0:
		return integers[s.name] < integers[d.name]
	case integers[s.name] > 0 && d.name == "numeric":
		return len(d.mods) == 0 || len(d.mods) == 2 && d.mods[0]-d.mods[1] >= digits[s.name]
	case s.name == "real":
		return d.name == "double precision"
	case s.name == "character varying" || s.name == "character" || s.name == "bpchar":
		return d.name == "text" || d.name == "character varying" && (len(d.mods) == 0 || len(s.mods) == 1 && d.mods[0] >= s.mods[0])
	case s.name == "text":
		return d.name == "character varying" && len(d.mods) == 0
	}
	return false
}

// wider compares the modifiers of one type.
func wider(s, d typ) bool {
	switch {
	case len(d.mods) == 0:
		return true // without a limit; format_type prints char(1) as character(1)
	case len(s.mods) == 0:
		return false
	case d.name == "numeric":
		return len(d.mods) == 2 && len(s.mods) == 2 && d.mods[1] >= s.mods[1] && d.mods[0]-d.mods[1] >= s.mods[0]-s.mods[1]
	case d.name == "character varying" || d.name == "bit varying" || d.name == "character" || strings.HasPrefix(d.name, "time"):
		return d.mods[0] >= s.mods[0]
	}
	return false
}

// castable says whether ALTER COLUMN TYPE does it without a USING clause: json and jsonb have no cast from other types.
func castable(from, to string) bool {
	return to != "json" && to != "jsonb" && parseType(from).dims == parseType(to).dims
}

// standIn is the type for a value of a type that the target does not know.
func standIn(base string) string {
	element, dims := base, ""
	for strings.HasSuffix(element, "[]") {
		element, dims = element[:len(element)-2], dims+"[]"
	}
	switch element {
	case "composite":
		return "jsonb" // arrays of them too: they come as JSON objects
	case "enum", "range", "multirange", "text":
		return "text" + dims
	}
	return base
}
