package functions

import (
	"fmt"
	"strconv"

	"github.com/runnel-dev/runnel/runtime/event"
)

// AppendID appends a text that identifies the event's row within its table: the values of the key columns in key order, as text,
// joined by `|`. In a value, `%` is written %25 and `|` %7C; an empty id is a single `%`. A row of a table without a key has the
// position of its change as identity, a snapshot's row the event's version.
func AppendID(dst []byte, e *event.Event) ([]byte, error) {
	start := len(dst)
	keys := e.Schema.KeyColumns()
	row := e.Key()
	for i, k := range keys {
		name := e.Schema.Columns[k].Name
		v, ok := row.Column(name)
		if !ok || v.IsNull() {
			return dst, fmt.Errorf("an event of %s without its key column %s", e.Table, name)
		}
		if i > 0 {
			dst = append(dst, '|')
		}
		from := len(dst)
		dst = escape(v.AppendText(dst), from)
	}
	switch {
	case len(keys) == 0 && e.Position.IsZero():
		dst = strconv.AppendInt(append(dst, 'v'), int64(e.Version), 10)
	case len(keys) == 0:
		dst = e.Position.AppendID(dst)
	case len(dst) == start:
		dst = append(dst, '%')
	}
	return dst, nil
}

// escape replaces % and | in dst[from:].
func escape(dst []byte, from int) []byte {
	for i := from; i < len(dst); i++ {
		if c := dst[i]; c == '%' || c == '|' {
			code := "25"
			if c == '|' {
				code = "7C"
			}
			dst[i] = '%'
			dst = append(dst, 0, 0)
			copy(dst[i+3:], dst[i+1:])
			copy(dst[i+1:], code)
			i += 2
		}
	}
	return dst
}
