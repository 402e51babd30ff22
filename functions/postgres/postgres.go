// Package postgres writes events into PostgreSQL tables, exactly once: each span of a batch is one transaction that also
// moves the partition's checkpoint, a row of runnel.checkpoints in the target's own database.
//
// What is promised, and tested:
//   - A span is applied wholly or not at all, together with its checkpoint. Written again, or late by a worker that lost its
//     partition, it changes nothing: the checkpoint covers it.
//   - No column is added to a user's table for our own sake. All that is ours lives in the schema runnel.
//   - Within a span the last event of a key wins; an update that lacks columns (event.Event.Unavailable) is applied after
//     what came before it.
//   - A target that was restored to the past, or failed over to a standby that had not caught up, is found out by the next
//     write: sink.ErrBehind, and the stream is read again from the checkpoint.
//
// Values pass through as the JSON text that they are; json_populate_recordset reads them. Two things are lost by that: a
// JSON null in a json or jsonb column becomes SQL's NULL, and arrays begin at 1.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// Config of a sink.
type Config struct {
	Function string       // whose checkpoints these are
	URL      string       // postgres://user:password@host:5432/database
	Table    string       // schema.table or table (then in public); {schema} and {table} are the source's; default {schema}.{table}
	InOrder  bool         // the function gets whole transactions in their order: the target may have constraints between rows
	MaxConns int32        // connections at most; default 4
	Log      *slog.Logger // default: nothing is logged
}

// Limits of a session: no statement of ours may wait or run for ever, a frozen worker's locks go away, and a target that
// vanished from the network is noticed also where no deadline is set.
const (
	lockTimeout      = 4 * time.Second
	statementTimeout = 60 * time.Second // lifted where a table is altered, truncated or swept
	connectTimeout   = 5 * time.Second
)

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

// Sink writes to one database. Its methods may be called from several goroutines, one per partition.
type Sink struct {
	function string
	role     string // whom a GRANT must name
	names    template
	inOrder  bool
	log      *slog.Logger
	pool     *pgxpool.Pool
	writers  sync.Pool // of *writer

	mu         sync.RWMutex
	plans      map[structured]*plan
	sources    map[ident]source // who writes a target
	partitions map[claimed]*partition
	ready      bool // schema runnel is there
}

// source is a table of a source, with the source's name.
type source struct {
	name  string
	table event.Table
}

func (s source) String() string { return s.name + "." + s.table.String() }

// structured is one version of a source's table.
type structured struct{ source, fingerprint string }

type claimed struct {
	generation int64
	partition  int
}

// partition is what the sink remembers of a partition that it claimed.
type partition struct {
	at        event.Version         // what this process knows to be durable
	backfills map[string]bool       // targets whose keys are kept for the end of a backfill
	covered   map[int]event.Version // what partitions of an older generation had reached, where this one takes whole transactions
	unchecked bool                  // the next transaction does not look at foreign keys
	ahead     event.Version         // the target had come here before this generation went back on purpose, or the stream lost its end
}

// New checks the configuration. It connects only when there is something to do; Close releases what it holds.
func New(cfg Config) (*Sink, error) {
	names, err := parseTemplate(cfg.Table)
	if err != nil {
		return nil, err
	}
	if cfg.Function == "" {
		return nil, errors.New("postgres target: no function's name")
	}
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		// pgx's own text quotes the URL, and of a malformed one it cannot know which part is the password.
		return nil, errors.New("postgres target: url cannot be read: want postgres://user:password@host:5432/database, with special characters of the password as %XX")
	}
	pc.MaxConns = cfg.MaxConns
	if pc.MaxConns <= 0 {
		pc.MaxConns = 4
	}
	pc.MaxConnIdleTime = 5 * time.Minute
	c := pc.ConnConfig
	c.StatementCacheCapacity = 1024
	c.ConnectTimeout = connectTimeout
	c.DialFunc = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	c.RuntimeParams["application_name"] = "runnel " + cfg.Function
	pc.AfterConnect = prepareSession
	pool, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		return nil, fmt.Errorf("postgres target: %w", err)
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Sink{
		function: cfg.Function, role: c.User, names: names, inOrder: cfg.InOrder, log: log, pool: pool,
		writers: sync.Pool{New: func() any { return newWriter() }},
		plans:   map[structured]*plan{}, sources: map[ident]source{}, partitions: map[claimed]*partition{},
	}, nil
}

// Close closes the connections.
func (s *Sink) Close() { s.pool.Close() }

// prepareSession makes the session's meaning independent of the server's and the role's settings. A commit must be on disk
// when it is answered; a server that has synchronous_commit=off says so too early.
func prepareSession(ctx context.Context, c *pgx.Conn) error {
	ms := func(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }
	b := &pgx.Batch{}
	for _, kv := range [][2]string{
		{"search_path", ""}, {"TimeZone", "UTC"}, {"DateStyle", "ISO, MDY"}, {"IntervalStyle", "postgres"},
		{"bytea_output", "hex"}, {"extra_float_digits", "1"}, {"row_security", "off"}, {"default_transaction_isolation", "read committed"},
		{"lock_timeout", ms(lockTimeout)}, {"statement_timeout", ms(statementTimeout)}, {"idle_in_transaction_session_timeout", ms(statementTimeout)},
	} {
		b.Queue("SELECT pg_catalog.set_config($1, $2, false)", kv[0], kv[1])
	}
	b.Queue("SELECT pg_catalog.set_config('synchronous_commit', 'on', false) WHERE pg_catalog.current_setting('synchronous_commit') = 'off'")
	return c.SendBatch(ctx, b).Close()
}

var (
	_ sink.Handler      = (*Sink)(nil)
	_ sink.Previewer    = (*Sink)(nil)
	_ sink.Checker      = (*Sink)(nil)
	_ sink.Checkpointer = (*Sink)(nil)
	_ sink.Sequencer    = (*Sink)(nil)
	_ sink.Closer       = (*Sink)(nil)
)
