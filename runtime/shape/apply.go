package shape

import (
	"fmt"
	"slices"
	"sync"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Result of Apply.
type Result uint8

// Results.
const (
	Kept    Result = iota // the event, reshaped, is for the target
	Deleted               // its row does not pass the filter: it has become a delete of its key
	Skipped               // its kind does not count, or it does not pass and has no key by which it could be in the target
)

var rows = sync.Pool{New: func() any { return new(row) }}

// Apply shapes an event of the table in place. What its rows need is appended to dst, which is returned and must live as long as the
// event. An error means that an expression has failed on this row: the event can never be written.
func (s *Shape) Apply(dst []byte, e *event.Event) ([]byte, Result, error) {
	switch {
	case !s.ops[e.Op]:
		return dst, Skipped, nil
	case e.Op == event.Truncate || e.Op == event.Mark:
		e.Schema = s.out
		return dst, Kept, nil
	}
	r := rows.Get().(*row)
	defer rows.Put(r)
	result := Kept
	if !e.After.IsNull() {
		r.read(s.in, e.After)
		pass, err := s.pass(r, e)
		if err != nil {
			return dst, Kept, err
		}
		switch {
		case !pass && len(s.in.KeyColumns()) == 0:
			return dst, Skipped, nil
		case !pass:
			result = Deleted
		}
	}
	if s.same && result == Kept {
		return dst, Kept, nil
	}
	var err error
	var before, after []byte
	if result == Deleted {
		// The key is all that a delete needs, and all of the row that the target may see.
		dst, before = s.appendKey(dst, r)
		e.Op, e.Before, e.After, e.Unavailable = event.Delete, event.RowOf(before), event.Row{}, nil
	} else {
		if !e.After.IsNull() {
			if dst, after, err = s.append(dst, r, e, true); err != nil {
				return dst, Kept, err
			}
		}
		if !e.Before.IsNull() {
			r.read(s.in, e.Before)
			if dst, before, err = s.append(dst, r, e, false); err != nil {
				return dst, Kept, err
			}
		}
		e.Before, e.After = event.RowOf(before), event.RowOf(after)
		e.Unavailable = s.unavailable(e)
	}
	e.Schema, e.Fingerprint = s.out, s.out.Fingerprint()
	from := len(dst)
	dst = event.AppendLine(dst, e.Change())
	e.Line = dst[from : len(dst)-1 : len(dst)-1]
	return dst, result, nil
}

// pass says whether a row passes the filter. One whose columns are not all known, because it was gone when they were read again, does
// not, if the filter needs them: its delete follows.
func (s *Shape) pass(r *row, e *event.Event) (bool, error) {
	if s.filter == nil {
		return true, nil
	}
	if s.filter.needs(s.in, e.Unavailable) {
		return false, nil
	}
	v, err := s.filter.run(r)
	if err != nil {
		return false, fmt.Errorf("filter %q: %w", s.filter.source, err)
	}
	b, ok := v.(types.Bool) // null is not true
	return ok && bool(b), nil
}

// needs says whether an expression may look at one of these columns.
func (x *expression) needs(in *event.Schema, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		i := in.Index(n)
		return i >= 0 && x.reads[i]
	})
}

func (x *expression) run(r *row) (ref.Val, error) {
	v, _, err := x.program.Eval(r)
	if err != nil {
		return nil, fmt.Errorf("%w; NULL can only be compared with null: write after.column != null && …", err)
	}
	return v, nil
}

// append appends a row as the target gets it; computed columns are those of a whole row.
func (s *Shape) append(dst []byte, r *row, e *event.Event, whole bool) (buffer, out []byte, err error) {
	from := len(dst)
	dst = append(dst, '{')
	for i := range s.columns {
		c := &s.columns[i]
		switch {
		case c.compute != nil:
			if !whole || c.compute.needs(s.in, e.Unavailable) {
				continue
			}
			v, err := c.compute.run(r)
			if err != nil {
				return dst, nil, fmt.Errorf("set %s %q: %w", s.out.Columns[i].Name, c.compute.source, err)
			}
			dst = append(dst, c.label...)
			if dst, err = appendJSON(dst, v); err != nil {
				return dst, nil, fmt.Errorf("set %s %q: %w", s.out.Columns[i].Name, c.compute.source, err)
			}
		case r.values[c.from] == nil:
			continue
		default:
			dst = append(dst, c.label...)
			dst = c.mask.append(dst, r.values[c.from])
		}
		dst = append(dst, ',')
	}
	dst = closeObject(dst)
	return dst, dst[from:len(dst):len(dst)], nil
}

func (s *Shape) appendKey(dst []byte, r *row) (buffer, out []byte) {
	from := len(dst)
	dst = append(dst, '{')
	for i := range s.columns {
		c := &s.columns[i]
		if c.from >= 0 && (s.in.Columns[c.from].Key > 0) && r.values[c.from] != nil {
			dst = append(dst, c.label...)
			dst = append(dst, r.values[c.from]...)
			dst = append(dst, ',')
		}
	}
	dst = closeObject(dst)
	return dst, dst[from:len(dst):len(dst)]
}

// closeObject ends an object whose members each end with a comma.
func closeObject(dst []byte) []byte {
	if dst[len(dst)-1] == ',' {
		dst[len(dst)-1] = '}'
		return dst
	}
	return append(dst, '}')
}

// unavailable are the target's columns that are not known.
func (s *Shape) unavailable(e *event.Event) []string {
	if len(e.Unavailable) == 0 {
		return nil
	}
	var names []string
	for i := range s.columns {
		c := &s.columns[i]
		if c.compute != nil && c.compute.needs(s.in, e.Unavailable) || c.from >= 0 && slices.Contains(e.Unavailable, s.in.Columns[c.from].Name) {
			names = append(names, s.out.Columns[i].Name)
		}
	}
	return names
}
