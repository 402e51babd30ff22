package capture

import (
	"path"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Pattern names tables of a source: schema.table, in MySQL database.table; * and ? match within a part.
type Pattern struct{ Text, Schema, Table string }

// ParsePattern reads one; false where it is not two parts with a dot between them.
func ParsePattern(s string) (Pattern, bool) {
	schema, table, ok := strings.Cut(s, ".")
	return Pattern{s, schema, table}, ok && schema != "" && table != ""
}

// Matches says whether a table is one of them.
func (p Pattern) Matches(t event.Table) bool {
	return wild(p.Schema, t.Schema) && wild(p.Table, t.Name)
}

// wild matches like path.Match, but nothing except * and ? is special.
func wild(pattern, name string) bool {
	quoted := strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`).Replace(pattern)
	// path.Match's * stops at a slash, which may stand in a table's name.
	ok, err := path.Match(strings.ReplaceAll(quoted, "/", "\x00"), strings.ReplaceAll(name, "/", "\x00"))
	return ok && err == nil
}
