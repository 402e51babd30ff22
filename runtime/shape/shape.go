// Package shape decides which events of a table reach a target and how their rows look there: a filter and computed columns in CEL
// (https://github.com/google/cel-spec), columns left out or renamed, and masks.
//
// It promises:
//   - A specification that cannot work with a table's structure is refused when it is compiled (New), not when the first row comes:
//     unknown columns, type errors, a filter that is not true or false, a key that would be lost.
//   - What a row becomes depends on the row alone: CEL has no clock and no random number here, so a repetition gives the same bytes.
//   - A row that does not pass the filter becomes a delete of its key, so that a filtered target equals the filtered table, also
//     where the row passed before, or an earlier filter let it pass. Deletes always pass.
//   - Masks are applied to all that a handler gets, the event's line included.
package shape

import (
	"errors"
	"fmt"
	"slices"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Spec says what is to be done. The zero Spec changes nothing.
type Spec struct {
	Filter  string            // CEL over the row as `after`, true for what the target shall hold
	Ops     []event.Op        // kinds of events that count, of c, u, d and r; none means all
	Include []string          // columns that the target gets; none means all; the key comes always
	Exclude []string          // columns that it does not get
	Rename  map[string]string // the source's name → the target's
	Set     []Computed        // columns computed from the row as it was before masks and renaming
	Mask    map[string]Mask   // by the source's name

	// Several: the function reads several tables. Columns to be left out, renamed or masked may then be missing in some; filter
	// and computed columns must fit each.
	Several bool
}

// Computed is a column that CEL computes. It replaces a column of the target that has this name, or comes after all others.
type Computed struct {
	Column     string
	Expression string
}

// Zero says whether there is nothing to be done.
func (s *Spec) Zero() bool {
	return s.Filter == "" && len(s.Ops) == 0 && len(s.Include) == 0 && len(s.Exclude) == 0 && len(s.Rename) == 0 && len(s.Set) == 0 && len(s.Mask) == 0
}

// Shape is a specification compiled for one version of a table's structure. It may be used by several goroutines.
type Shape struct {
	in, out *event.Schema
	ops     [256]bool
	filter  *expression
	columns []column
	inputs  int // columns that a row may have
	same    bool
}

// column of the target.
type column struct {
	label   []byte // "name":
	from    int    // the source's column, or -1
	mask    Mask
	compute *expression
}

// New compiles a specification for a table. All that is wrong is told at once.
func New(spec Spec, in *event.Schema) (*Shape, error) {
	c := compiler{spec: &spec, in: in}
	s := &Shape{in: in, inputs: len(in.Columns)}
	for op := range s.ops {
		s.ops[op] = len(spec.Ops) == 0
	}
	for _, op := range spec.Ops {
		s.ops[op] = true
	}
	s.ops[event.Truncate], s.ops[event.Mark] = true, true
	c.environment()
	s.filter = c.filter()
	s.out, s.columns = c.columns()
	if err := errors.Join(c.errs...); err != nil {
		return nil, fmt.Errorf("table %s: %w", in.Table, err)
	}
	s.same = len(s.columns) == len(in.Columns) && !slices.ContainsFunc(s.columns, func(c column) bool { return c.compute != nil || c.mask.Kind != None }) &&
		s.out.Fingerprint() == in.Fingerprint()
	if s.same {
		s.out = in
	}
	return s, nil
}

// Schema is the structure that the target gets.
func (s *Shape) Schema() *event.Schema { return s.out }
