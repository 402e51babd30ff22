package postgres

import (
	"slices"
	"strings"

	"github.com/runnel-dev/runnel/capture"
)

// near are the names that the pattern could have meant.
func near(p capture.Pattern, all []*table) string {
	type candidate struct {
		name string
		d    int
	}
	var c []candidate
	for _, t := range all {
		if d := distance(p.Text, t.name.String()); d <= 3 || t.name.Name == p.Table {
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
