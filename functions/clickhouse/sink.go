// Package clickhouse writes events as rows of ReplacingMergeTree(_version, _deleted): the newest version of a key wins, a
// delete is a row that carries the key and _deleted = 1. What is repeated or late changes nothing that a reader with FINAL, or
// of the view beside the table, can see.
//
// The rows' bytes pass through as JSONEachRow, fastest over HTTP. An insert is acknowledged when the server has it; ClickHouse does not
// fsync inserts by default (fsync_after_insert).
package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Config of a sink. Secrets are resolved.
type Config struct {
	Function string
	URL      string // http(s)://user:password@host:8123/database, or clickhouse://
	Table    string // {schema} and {table} are replaced; default {table}
	Log      *slog.Logger
}

// Sink is the handler. It prefers few large inserts: the partitions of a worker come in one batch.
type Sink struct {
	function, template string
	database           string
	http               bool
	conn               driver.Conn
	log                *slog.Logger

	mu    sync.Mutex
	known map[*event.Schema]*table
}

var (
	_ functions.Handler   = (*Sink)(nil)
	_ functions.Previewer = (*Sink)(nil)
	_ functions.Checker   = (*Sink)(nil)
	_ functions.Sweeper   = (*Sink)(nil)
	_ functions.Combiner  = (*Sink)(nil)
	_ functions.Closer    = (*Sink)(nil)
)

// settings of every statement. A NULL is never replaced by a default, a date never guessed at, a float read to its last bit,
// and an insert is done when it is answered (async_insert is on by default since 26.2, and then without deduplication).
var settings = clickhouse.Settings{
	"async_insert": 0, "date_time_input_format": "best_effort", "precise_float_parsing": 1, "input_format_null_as_default": 0,
	"input_format_skip_unknown_fields": 0, "input_format_json_read_numbers_as_strings": 1, "input_format_json_read_objects_as_strings": 1,
	"input_format_json_read_arrays_as_strings": 1, "input_format_json_read_bools_as_strings": 1, "input_format_parallel_parsing": 0,
}

// New checks the configuration; nothing is opened.
func New(c Config) (*Sink, error) {
	o, err := clickhouse.ParseDSN(c.URL)
	if err != nil {
		return nil, errors.New("clickhouse: url: want http://user:password@host:8123/database (or https://, or clickhouse:// for the native protocol)") // the cause may hold the password
	}
	if o.Auth.Database == "" {
		o.Auth.Database = "default"
	}
	o.DialTimeout, o.ReadTimeout = 10*time.Second, 5*time.Minute
	o.MaxOpenConns, o.MaxIdleConns, o.ConnMaxLifetime = 8, 4, 10*time.Minute
	conn, err := clickhouse.Open(o)
	if err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	if c.Table == "" {
		c.Table = "{table}"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Sink{function: c.Function, template: c.Table, database: o.Auth.Database, http: o.Protocol == clickhouse.HTTP, conn: conn, log: c.Log, known: map[*event.Schema]*table{}}, nil
}

// Combine asks for the partitions of a worker in one batch.
func (s *Sink) Combine() {}

// Close closes connections.
func (s *Sink) Close() { _ = s.conn.Close() }

// Handle writes a batch with one insert for each table structure in it.
func (s *Sink) Handle(ctx context.Context, b functions.Batch) error {
	inserts, failed, err := collect(&b, func(schema *event.Schema) (*table, error) { return s.ensure(ctx, schema) })
	if err != nil {
		return err
	}
	for _, in := range inserts {
		f, err := s.send(ctx, in, 0, len(in.rows))
		if err != nil {
			return err
		}
		failed = append(failed, f...)
	}
	if len(failed) > 0 {
		return &functions.BatchError{Failed: failed}
	}
	return nil
}

// collect makes the inserts of a batch, and tells which events cannot be in them.
func collect(b *functions.Batch, tableOf func(*event.Schema) (*table, error)) (order []*insert, failed []functions.Failure, err error) {
	bounds := token(b)
	by := map[*event.Schema]*insert{}
	for i := range b.Spans {
		for j := range b.Spans[i].Events {
			e := &b.Spans[i].Events[j]
			in := by[e.Schema]
			if in == nil {
				t, err := tableOf(e.Schema)
				if err != nil {
					return nil, nil, err
				}
				in = &insert{table: t, token: fmt.Sprintf("%s.%s.%d", bounds, e.Schema.Fingerprint(), len(order))}
				by[e.Schema], order = in, append(order, in)
			}
			if err := in.add(e, b.Spans[i].Partition, i, j); err != nil {
				failed = append(failed, functions.Failure{Span: i, Event: j, Err: functions.Permanent(err)})
			}
		}
	}
	return order, failed, nil
}
