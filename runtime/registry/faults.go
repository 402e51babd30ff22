package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong in a file.
type Fault struct {
	File         string
	Line, Column int // from 1
	Text         string
}

func (f Fault) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.File, f.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text)
}

// Faults are all faults of a set of files, one a line, in the order of the files.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// Configuration says that the operator's configuration is at fault.
func (f Faults) Configuration() bool { return true }

// sortWithin orders the faults of each file by their place and keeps the order of the files.
func (f Faults) sortWithin(files []string) {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(slices.Index(files, a.File), slices.Index(files, b.File)),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// RefusedError is a change that cannot be made as it was asked for; the text says what to do instead.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return e.Text }

// Configuration says that the operator's configuration is at fault.
func (e *RefusedError) Configuration() bool { return true }

func refused(format string, a ...any) error { return &RefusedError{fmt.Sprintf(format, a...)} }

// nearest is the candidate that someone who wrote name most likely meant, or "".
func nearest(name string, candidates []string) string {
	best, distance := "", 1+max(1, len(name)/3)
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(name), strings.ToLower(c)); d < distance {
			best, distance = c, d
		}
	}
	return best
}

// suggest is the end of a message about an unknown name.
func suggest(name string, candidates []string) string {
	if n := nearest(name, candidates); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return "; it is one of " + strings.Join(candidates, ", ")
}

// editDistance is the optimal string alignment distance: a swap of neighbours counts one.
func editDistance(a, b string) int {
	before, last, row := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, make([]int, len(b)+1)
	}
	return last[len(b)]
}
