package postgres

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
)

// pattern is schema.table; * and ? match within a part.
type pattern struct{ text, schema, table string }

func parsePattern(s string) (pattern, error) {
	schema, table, ok := strings.Cut(s, ".")
	if !ok || schema == "" || table == "" {
		return pattern{}, fmt.Errorf("table %q: want schema.table, for example public.orders or public.*", s)
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

// near are the names that the pattern could have meant.
func (p pattern) near(all []*table) string {
	type candidate struct {
		name string
		d    int
	}
	var c []candidate
	for _, t := range all {
		if d := distance(p.text, t.name.String()); d <= 3 || t.name.Name == p.table {
			c = append(c, candidate{t.name.String(), d})
		}
	}
	slices.SortFunc(c, func(a, b candidate) int { return a.d - b.d })
	if len(c) == 0 {
		return "check the name and its schema"
	}
	var names []string
	for _, x := range c[:min(3, len(c))] {
		names = append(names, x.name)
	}
	return "did you mean " + strings.Join(names, " or ") + "?"
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
