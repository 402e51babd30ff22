package postgres

import (
	"fmt"
	"slices"

	"github.com/runnel-dev/runnel/runtime/event"
)

// selected is the column in a SELECT whose rows become JSON by row_to_json. That would call a type's own cast to json, which
// the log cannot: such a column is selected as text. (IS NOT NULL would be false for a composite with a NULL in it.)
func (c *relColumn) selected() string {
	name := quote(c.name)
	if !c.typ.Cast {
		return "s." + name
	}
	return fmt.Sprintf("CASE WHEN s.%s IS DISTINCT FROM NULL THEN pg_catalog.format('%%s', s.%[1]s) END AS %[1]s", name)
}

// line makes the log's bytes of what row_to_json printed: one line, and the values that were selected as text encoded here.
// It may change row.
func (rel *relation) line(row []byte) ([]byte, error) {
	for i, c := range row {
		if c == '\n' || c == '\r' { // within a string they are escaped: this is blank space in a json value
			row[i] = ' '
		}
	}
	if !slices.ContainsFunc(rel.columns, func(c relColumn) bool { return c.typ.Cast }) {
		return row, nil
	}
	out := append(make([]byte, 0, len(row)), '{')
	for name, v := range event.RowOf(row).All() {
		i := slices.IndexFunc(rel.columns, func(c relColumn) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("column %s is not one of %s", name, rel.schema.Table)
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, rel.columns[i].label...)
		if !rel.columns[i].typ.Cast || v.IsNull() {
			out = append(out, v...)
			continue
		}
		var err error
		if out, err = rel.columns[i].typ.Append(out, v.AppendText(nil)); err != nil {
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
	}
	return append(out, '}'), nil
}
