package mysql

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql/myjson"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Waiting implements capture.Snapshotter. Check has waited until the server counts all that was read, so of MySQL every
// snapshot shows it. MariaDB counts a commit while it waits for a replica, as does a log without GTIDs: all of the binlog counts as published.
func (l *Log) Waiting(ctx context.Context) ([]uint64, error) {
	if l.server.kind == uuidSets {
		return nil, nil
	}
	at, err := l.source.end(ctx, l.control)
	if err != nil || at.at == 0 {
		return nil, err
	}
	return []uint64{at.number() - 1}, nil
}

// Visible implements capture.Snapshotter.
func (l *Log) Visible(ctx context.Context) (func(xid uint64) bool, error) {
	x, err := l.source.open(ctx, utf8)
	if err != nil {
		return nil, err
	}
	defer x.close()
	visible, err := l.snapshot(ctx, x)
	if err != nil {
		return nil, err
	}
	_, err = x.query(ctx, "ROLLBACK")
	return visible, err
}

// snapshot opens one, and says what it shows. What MySQL counts as executed before that, it shows; MariaDB names the exact place.
func (l *Log) snapshot(ctx context.Context, x *session) (func(uint64) bool, error) {
	begin := func() error {
		if _, err := x.query(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
			return err
		}
		_, err := x.query(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
		return err
	}
	switch l.server.kind {
	case placeSets:
		return l.snapshotByPlace(ctx, x, begin)
	case uuidSets:
		text, err := l.source.executed(ctx, x)
		if err != nil {
			return nil, err
		}
		executed, err := parseSet(uuidSets, text)
		if err != nil {
			return nil, err
		}
		if err := begin(); err != nil {
			return nil, fmt.Errorf("open a snapshot: %w", err)
		}
		return func(id uint64) bool {
			l.mu.Lock()
			g := gtid{number: id & (1<<numberBits - 1)}
			if i := int(id >> numberBits); i < len(l.origins) {
				g.origin = l.origins[i]
			}
			l.mu.Unlock()
			return executed.has(g)
		}, nil
	case domainSets:
	}
	if err := begin(); err != nil {
		return nil, fmt.Errorf("open a snapshot: %w", err)
	}
	r, err := x.query(ctx, "SHOW STATUS LIKE 'binlog_snapshot_%'")
	if err != nil {
		return nil, fmt.Errorf("see where the snapshot lies: %w", err)
	}
	values := map[string]string{}
	for _, row := range r {
		values[strings.ToLower(string(row[0]))] = string(row[1])
	}
	n, err := strconv.ParseUint(values["binlog_snapshot_position"], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("see where the snapshot lies: %w", err)
	}
	at, err := placeOf(values["binlog_snapshot_file"], n)
	if err != nil {
		return nil, err
	}
	return func(id uint64) bool {
		return id < at.number()
	}, nil
}

// Whole implements capture.Snapshotter: there is no snapshot that belongs to a place in the log.
func (l *Log) Whole(context.Context, event.Table, func(*capture.Chunk) error) error {
	return capture.ErrNoSnapshot
}

// Rows that are asked for at once: few until it is known how large they are.
const (
	fewRows  = 100
	manyRows = 20_000
)

// Chunk implements capture.Snapshotter.
func (l *Log) Chunk(ctx context.Context, r capture.ChunkRequest) (*capture.Chunk, error) {
	names, err := l.source.open(ctx, utf8)
	if err != nil {
		return nil, err
	}
	defer names.close()
	x, err := l.source.open(ctx, myjson.Settings()...)
	if err != nil {
		return nil, err
	}
	defer x.close()
	visible, err := l.snapshot(ctx, x)
	if err != nil {
		return nil, err
	}
	all, err := l.source.look(ctx, names, &r.Table)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("table %s is not there", r.Table)
	}
	t := all[0]
	var clock string
	if err := names.texts(ctx, "SELECT UNIX_TIMESTAMP(NOW(3))", &clock); err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseFloat(clock, 64)
	if err != nil {
		return nil, fmt.Errorf("the server's clock: %w", err)
	}
	c := &capture.Chunk{Schema: t.schema, Visible: visible, ReadMS: int64(seconds * 1000)}
	return c, l.fetch(ctx, x, t, r, c)
}

// fetch reads the chunk's rows in portions.
func (l *Log) fetch(ctx context.Context, x *session, t *structure, r capture.ChunkRequest, c *capture.Chunk) error {
	after, size := r.After, 0
	for portion := min(fewRows, r.MaxRows); ; {
		sql, err := t.query(after, r.Where, r.Keys, portion)
		if err != nil {
			return err
		}
		answer, err := x.query(ctx, sql)
		if err != nil {
			return fmt.Errorf("read table %s: %w", t.table, err)
		}
		for _, row := range answer {
			line, err := t.line(row)
			if err != nil {
				return fmt.Errorf("read table %s: %w", t.table, err)
			}
			key, err := t.schema.AppendKey(nil, event.RowOf(line))
			if err != nil {
				return err
			}
			c.Rows = append(c.Rows, capture.ChunkRow{Key: key, JSON: line})
			size += len(line)
		}
		if len(answer) < portion {
			c.Next = ""
			return nil
		}
		if after, err = t.place(c.Rows[len(c.Rows)-1].JSON); err != nil {
			return err
		}
		left := r.MaxRows - len(c.Rows)
		if left <= 0 || size >= r.MaxBytes {
			c.Next = after
			return nil
		}
		portion = max(1, min(left, manyRows, (r.MaxBytes-size)/(size/len(c.Rows)+1)))
	}
}

// line is the row as a JSON object, as image makes it of the log.
func (t *structure) line(row [][]byte) ([]byte, error) {
	dst := []byte{'{'}
	for i := range t.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, t.columns[i].member...)
		var err error
		if dst, err = t.columns[i].json.AppendText(dst, row[i]); err != nil {
			return nil, fmt.Errorf("column %s: %w", t.columns[i].name, err)
		}
	}
	return append(dst, '}'), nil
}

// place is the key of a row as an array of its values.
func (t *structure) place(line []byte) (string, error) {
	r := event.RowOf(line)
	dst := []byte{'['}
	for _, i := range t.schema.KeyColumns() {
		v, ok := r.Column(t.columns[i].name)
		if !ok || v.IsNull() {
			return "", fmt.Errorf("a row of %s has no value of key column %s (a date of zeros is none)", t.table, t.columns[i].name)
		}
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst = append(dst, v...)
	}
	return string(append(dst, ']')), nil
}

// query selects rows after a key, in key order; of those with some keys, if any are given.
func (t *structure) query(after, where string, keys []json.RawMessage, limit int) (string, error) {
	var b strings.Builder
	b.WriteString("SELECT ")
	for i := range t.columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(t.columns[i].json.Select(quoteName(t.columns[i].name)))
	}
	fmt.Fprintf(&b, " FROM %s.%s", quoteName(t.table.Schema), quoteName(t.table.Name))
	var conditions []string
	if where != "" {
		conditions = append(conditions, "("+where+")")
	}
	if len(keys) > 0 {
		c, err := t.listed(keys)
		if err != nil {
			return "", err
		}
		conditions = append(conditions, c)
	}
	if after != "" {
		c, err := t.beyond(after)
		if err != nil {
			return "", err
		}
		conditions = append(conditions, c)
	}
	if len(conditions) > 0 {
		b.WriteString(" WHERE " + strings.Join(conditions, " AND "))
	}
	b.WriteString(" ORDER BY ")
	for n, i := range t.schema.KeyColumns() {
		if n > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoteName(t.columns[i].name))
	}
	fmt.Fprintf(&b, " LIMIT %d", limit)
	return b.String(), nil
}

// ReadsKeys implements capture.KeyReader.
func (l *Log) ReadsKeys() {}

// listed is the condition of rows with one of some keys.
func (t *structure) listed(keys []json.RawMessage) (string, error) {
	rows := make([]string, len(keys))
	for n, key := range keys {
		var all []string
		row := event.RowOf(key)
		for _, i := range t.schema.KeyColumns() {
			v, ok := row.Column(t.columns[i].name)
			if !ok || v.IsNull() {
				return "", fmt.Errorf("key %s of %s: column %s has no value", key, t.table, t.columns[i].name)
			}
			name, value, err := t.columns[i].compared(v)
			if err != nil {
				return "", err
			}
			all = append(all, name+" = "+value)
		}
		rows[n] = "(" + strings.Join(all, " AND ") + ")"
	}
	return "(" + strings.Join(rows, " OR ") + ")", nil
}

// beyond is the condition for keys after one: a > 1 OR a = 1 AND (b > 2 …), which an index serves.
func (t *structure) beyond(after string) (string, error) {
	keys := t.schema.KeyColumns()
	var values []json.RawMessage
	if err := json.Unmarshal([]byte(after), &values); err != nil || len(values) != len(keys) {
		return "", fmt.Errorf("place %q in table %s: the key has %d columns", after, t.table, len(keys))
	}
	condition := ""
	for n := len(keys) - 1; n >= 0; n-- {
		c := &t.columns[keys[n]]
		name, value, err := c.compared(event.Value(values[n]))
		if err != nil {
			return "", err
		}
		if condition == "" {
			condition = name + " > " + value
		} else {
			condition = fmt.Sprintf("(%s > %s OR %[1]s = %[2]s AND (%s))", name, value, condition)
		}
	}
	return condition, nil
}

// compared is the column and a literal of the value in the order that ORDER BY has.
func (c *column) compared(v event.Value) (name, literal string, err error) {
	name = quoteName(c.name)
	text := v.Text()
	switch c.json.Kind {
	case myjson.Int, myjson.Decimal, myjson.Double, myjson.Year:
		return name, text, nil
	case myjson.Float: // the literal would be another number than the column's
		f, err := strconv.ParseFloat(text, 32)
		return name, strconv.FormatFloat(f, 'e', -1, 64), err
	case myjson.Bit: // a literal in hex is a string
		n, err := strconv.ParseUint(strings.TrimPrefix(text, `\x`), 16, 64)
		return name, strconv.FormatUint(n, 10), err
	case myjson.Binary, myjson.Varbinary, myjson.Blob:
		return name, "x'" + strings.TrimPrefix(text, `\x`) + "'", nil
	case myjson.Enum: // ordered by the number of the name
		for i, n := range c.json.Names {
			if n == text {
				return name + " + 0", strconv.Itoa(i + 1), nil
			}
		}
		return name + " + 0", "0", nil
	case myjson.Set:
		n := uint64(0)
		for member := range strings.SplitSeq(text, ",") {
			for i, s := range c.json.Names {
				if s == member {
					n |= 1 << i
				}
			}
		}
		return name + " + 0", strconv.FormatUint(n, 10), nil
	case myjson.Datetime, myjson.Timestamp:
		b := bytes.TrimSuffix([]byte(text), []byte("+00:00"))
		return name, quote(strings.Replace(string(b), "T", " ", 1)), nil
	default:
		return name, quote(text), nil
	}
}
