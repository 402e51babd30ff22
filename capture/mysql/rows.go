package mysql

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/runnel-dev/runnel/capture/mysql/myjson"
	"github.com/runnel-dev/runnel/runtime/event"
)

// rows are changes of one table.
func (d *decoder) rows(x *replication.RowsEvent, e *replication.BinlogEvent) error {
	r := d.tables[x.TableID]
	if r == nil {
		return fmt.Errorf("rows of table %d, which was not described", x.TableID)
	}
	b, ok := x.Rows[0][0].([]byte)
	if !ok {
		return errors.New("rows were decoded already")
	}
	var op event.Op
	switch e.Header.EventType {
	case replication.WRITE_ROWS_EVENTv1, replication.WRITE_ROWS_EVENTv2, replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1:
		op = event.Create
	case replication.UPDATE_ROWS_EVENTv1, replication.UPDATE_ROWS_EVENTv2, replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1:
		op = event.Update
	case replication.DELETE_ROWS_EVENTv1, replication.DELETE_ROWS_EVENTv2, replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1:
		op = event.Delete
	case replication.PARTIAL_UPDATE_ROWS_EVENT:
		if !r.captured {
			d.tx.rows++
			return nil
		}
		return d.unreadable(fmt.Sprintf("the log has parts of JSON values of %s instead of the values", r.table),
			"SET GLOBAL binlog_row_value_options = '' and let all sessions connect again")
	default:
		return fmt.Errorf("rows in an event of type %s", e.Header.EventType)
	}
	switch e.Header.EventType {
	case replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1:
		var err error
		if b, err = mysql.DecompressMariadbData(b); err != nil {
			return err
		}
	default:
	}
	full := present(x.ColumnBitmap1, len(r.wires)) == len(r.wires) && (op != event.Update || present(x.ColumnBitmap2, len(r.wires)) == len(r.wires))
	if r.captured && (!full || int(x.ColumnCount) != len(r.wires)) {
		return d.unreadable(fmt.Sprintf("the log has only some columns of %s: a session writes with binlog_row_image other than FULL", r.table),
			"SET GLOBAL binlog_row_image = 'FULL' and let all sessions connect again")
	}
	for len(b) > 0 {
		var err error
		d.tx.rows++
		if !r.captured {
			b, err = r.pass(b, x.ColumnBitmap1)
			if err == nil && op == event.Update {
				b, err = r.pass(b, x.ColumnBitmap2)
			}
		} else {
			b, err = d.row(r.structure, op, b)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", r.table, err)
		}
	}
	return nil
}

func present(bitmap []byte, columns int) int {
	n := 0
	for i := range columns {
		n += int(bitmap[i/8] >> (i % 8) & 1)
	}
	return n
}

// pass skips one image.
func (r *relation) pass(b, bitmap []byte) ([]byte, error) {
	columns := present(bitmap, len(r.wires))
	nulls := (columns + 7) / 8
	if len(b) < nulls {
		return nil, errRow
	}
	null, b := b[:nulls], b[nulls:]
	n := 0
	for i, wire := range r.wires {
		if bitmap[i/8]>>(i%8)&1 == 0 {
			continue
		}
		if null[n/8]>>(n%8)&1 == 0 {
			size, err := myjson.Size(b, wire, r.metas[i])
			if err != nil {
				return nil, err
			}
			b = b[size:]
		}
		n++
	}
	return b, nil
}

var errRow = errors.New("a row of the log is damaged")

// row decodes one row's change.
func (d *decoder) row(s *structure, op event.Op, b []byte) (rest []byte, err error) {
	first, b, err := s.image(make([]byte, 0, s.usual), b)
	if err != nil {
		return nil, err
	}
	s.usual = min(max(s.usual, len(first)+len(first)/8), 4096)
	keyed := len(s.schema.KeyColumns()) > 0
	if op == event.Create {
		return b, d.add(s, op, 0, nil, first)
	}
	if op == event.Delete {
		if keyed {
			first = s.keyOf(first)
		}
		return b, d.add(s, op, 0, first, nil)
	}
	second, b, err := s.image(make([]byte, 0, len(first)+64), b)
	if err != nil {
		return nil, err
	}
	if !keyed {
		return b, d.add(s, op, 0, first, second)
	}
	old, key := s.keyOf(first), s.keyOf(second)
	if bytes.Equal(old, key) {
		return b, d.add(s, op, 0, nil, second)
	}
	if err := d.add(s, event.Delete, 0, old, nil); err != nil {
		return nil, err
	}
	return b, d.add(s, event.Create, 1, nil, second)
}

// image decodes one image of a row into a JSON object.
func (s *structure) image(dst, b []byte) (_, rest []byte, err error) {
	nulls := (len(s.columns) + 7) / 8
	if len(b) < nulls {
		return nil, nil, errRow
	}
	null, b := b[:nulls], b[nulls:]
	dst = append(dst, '{')
	for i := range s.columns {
		c := &s.columns[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, c.member...)
		if null[i/8]>>(i%8)&1 == 1 {
			dst = append(dst, "null"...)
			continue
		}
		var n int
		if dst, n, err = c.json.AppendLog(dst, b, c.wire, c.meta); err != nil {
			return nil, nil, fmt.Errorf("column %s: %w", c.name, err)
		}
		b = b[n:]
	}
	return append(dst, '}'), b, nil
}

// keyOf is the row with its key columns alone, in table order.
func (s *structure) keyOf(row []byte) []byte {
	r := event.RowOf(row)
	dst := []byte{'{'}
	for i := range s.columns {
		c := &s.columns[i]
		if c.key == 0 {
			continue
		}
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		v, _ := r.Column(c.name)
		dst = append(append(dst, c.member...), v...)
	}
	return append(dst, '}')
}
