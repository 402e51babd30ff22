package mysql

import (
	"fmt"
	"path"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// pattern is database.table; * and ? match within a part.
type pattern struct{ text, schema, table string }

func parsePattern(s string) (pattern, error) {
	schema, table, ok := strings.Cut(s, ".")
	if !ok || schema == "" || table == "" {
		return pattern{}, fmt.Errorf("table %q: want database.table, for example shop.orders or shop.*", s)
	}
	return pattern{s, schema, table}, nil
}

func (p pattern) matches(t event.Table) bool {
	return wild(p.schema, t.Schema) && wild(p.table, t.Name)
}

// wild matches like path.Match, but nothing except * and ? is special.
func wild(pattern, name string) bool {
	quoted := strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`).Replace(pattern)
	// path.Match's * stops at a slash, which may stand in a table's name.
	ok, err := path.Match(strings.ReplaceAll(quoted, "/", "\x00"), strings.ReplaceAll(name, "/", "\x00"))
	return ok && err == nil
}
