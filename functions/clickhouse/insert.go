package clickhouse

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// insert is the body of one INSERT, with the places of its rows.
type insert struct {
	table *table
	token string
	body  []byte
	rows  []row
}

type row struct {
	span, event int
	end         int // of the row in body
}

// token names a batch by its bounds, so that ClickHouse recognises a repeated insert. Versions hold the writer's epoch: a
// sequence that is used again after a loss is another batch. Each insert of a batch adds to it: two structures of one table
// would else pass for repetitions of each other.
func token(b *functions.Batch) string {
	t := fmt.Appendf(nil, "%s.%d", b.Function, b.Generation)
	for i := range b.Spans {
		sp := &b.Spans[i]
		t = fmt.Appendf(t, ".%d:%d-%d", sp.Partition, sp.After.Version, sp.To.Version)
	}
	return string(t)
}

// add appends an event: the row as it stands, with our columns behind it.
func (in *insert) add(e *event.Event, partition, span, at int) error {
	if len(e.Unavailable) > 0 {
		return nil // the row is gone and its delete follows
	}
	src := e.After
	deleted := byte('0')
	if e.Op == event.Delete {
		src, deleted = e.Before, '1'
	}
	if err := in.table.fits(src); err != nil {
		return err
	}
	raw := bytes.TrimSuffix(bytes.TrimSpace(src.Raw()), []byte("}"))
	if len(raw) == 0 {
		return fmt.Errorf("clickhouse: an event of %s without a row", e.Table)
	}
	if e.Op == event.Delete { // under REPLICA IDENTITY FULL it holds the whole row; the key is enough
		in.body = append(in.body, '{')
		for i, name := range in.table.key {
			v, ok := src.Column(name)
			if !ok {
				return fmt.Errorf("clickhouse: a delete of %s without its key column %s", e.Table, name)
			}
			if i > 0 {
				in.body = append(in.body, ',')
			}
			in.body = append(event.AppendJSONString(in.body, name), ':')
			in.body = append(in.body, v...)
		}
	} else {
		in.body = append(in.body, raw...)
	}
	if in.body[len(in.body)-1] != '{' {
		in.body = append(in.body, ',')
	}
	if in.table.keyless {
		in.body = append(in.body, `"_row":"`...)
		if e.Position.IsZero() {
			in.body = strconv.AppendInt(append(in.body, 'v'), int64(e.Version), 10)
		} else {
			in.body = e.Position.AppendID(in.body)
		}
		in.body = append(in.body, `",`...)
	}
	in.body = append(in.body, `"_partition":`...)
	in.body = strconv.AppendInt(in.body, int64(partition), 10)
	in.body = append(in.body, `,"_version":`...)
	in.body = strconv.AppendInt(in.body, int64(e.Version), 10)
	in.body = append(in.body, `,"_deleted":`...)
	in.body = append(in.body, deleted, '}', '\n')
	in.rows = append(in.rows, row{span, at, len(in.body)})
	return nil
}

// send inserts rows from to to. When the server says that a value is wrong, halves are tried until the row is found; its
// neighbours are stored.
func (s *Sink) send(ctx context.Context, in *insert, from, to int) ([]functions.Failure, error) {
	if from == to {
		return nil, nil
	}
	err := s.write(ctx, in.request(from, to))
	err, value := s.classify(err, in.table)
	switch {
	case err == nil:
		return nil, nil
	case !value:
		return nil, err
	case to-from == 1:
		return []functions.Failure{{Span: in.rows[from].span, Event: in.rows[from].event, Err: functions.Permanent(err)}}, nil
	}
	mid := (from + to) / 2
	a, err := s.send(ctx, in, from, mid)
	if err != nil {
		return nil, err
	}
	b, err := s.send(ctx, in, mid, to)
	return append(a, b...), err
}

// request is one INSERT.
type request struct {
	sql  string
	set  clickhouse.Settings
	rows []byte // follow the statement as JSONEachRow; nil: they are in it
}

// request is the INSERT of rows from to to. They go as they are where the server reads them exactly; else, see table.convert, as a
// literal in the statement.
func (in *insert) request(from, to int) request {
	start := 0
	if from > 0 {
		start = in.rows[from-1].end
	}
	r := request{sql: in.table.statement, set: maps.Clone(settings), rows: in.body[start:in.rows[to-1].end]}
	r.set["insert_deduplication_token"] = fmt.Sprintf("%s/%d-%d", in.token, from, to)
	if !in.table.convert {
		return r
	}
	sql := make([]byte, 0, len(r.rows)+len(r.rows)/8+1024)
	sql = append(sql, r.sql...)
	for _, c := range r.rows {
		if c == '\'' || c == '\\' {
			sql = append(sql, '\\')
		}
		sql = append(sql, c)
	}
	r.sql, r.rows = string(append(sql, "')"...)), nil
	r.set["max_query_size"] = len(r.sql) + 1
	return r
}

func (s *Sink) write(ctx context.Context, r request) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(r.set))
	if r.rows == nil {
		return s.conn.Exec(ctx, r.sql)
	}
	return s.conn.InsertFormat(ctx, "JSONEachRow", r.sql, bytes.NewReader(r.rows))
}
