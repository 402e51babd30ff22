package postgres_test

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// cases run against every version of the server, each in a database of its own.
var cases = map[string]func(*testing.T, *world){}

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	for _, major := range []int{15, 17} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			srv := servers.Postgres(t, major)
			for name, run := range cases {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					run(t, newWorld(t, srv))
				})
			}
		})
	}
}

// world is a database with a sink's function.
type world struct {
	t   testing.TB
	url string
	srv *servers.Server
	db  *pgxpool.Pool
}

var databases atomic.Int64

func newWorld(t testing.TB, srv *servers.Server) *world {
	t.Helper()
	name := fmt.Sprintf("d%d", databases.Add(1))
	c, err := pgx.Connect(t.Context(), srv.PostgresURL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, url: fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", srv.Addr, name), srv: srv}
	cfg, err := pgxpool.ParseConfig(w.url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 2
	cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
	if w.db, err = pgxpool.NewWithConfig(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.db.Close)
	return w
}

// as is the database's URL for another role.
func (w *world) as(userinfo string) string {
	return strings.Replace(w.url, "postgres@", userinfo+"@", 1)
}

func (w *world) name() string { return w.db.Config().ConnConfig.Database }

// another is a second database on the same server.
func (w *world) another() *world { return newWorld(w.t, w.srv) }

func (w *world) sink(cfg postgres.Config) *postgres.Sink {
	w.t.Helper()
	if cfg.URL == "" {
		cfg.URL = w.url
	}
	if cfg.Function == "" {
		cfg.Function = "f"
	}
	s, err := postgres.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// rows are the result's rows, values joined by |.
func (w *world) rows(sql string, args ...any) []string {
	w.t.Helper()
	r, err := w.db.Query(w.t.Context(), sql, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := pgx.CollectRows(r, func(r pgx.CollectableRow) (string, error) {
		v, err := r.Values()
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = fmt.Sprint(v[i])
		}
		return strings.Join(parts, "|"), err
	})
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func (w *world) want(sql string, want ...string) {
	w.t.Helper()
	if got := w.rows(sql); strings.Join(got, "\n") != strings.Join(want, "\n") {
		w.t.Errorf("%s:\ngot  %q\nwant %q", sql, got, want)
	}
}

// items is the schema of most tests.
func items(extra ...event.Column) *event.Schema {
	return schema("items", append([]event.Column{{Name: "id", Type: "bigint", Key: 1}, {Name: "name", Type: "text", Nullable: true}}, extra...)...)
}

func schema(table string, cols ...event.Column) *event.Schema {
	return event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: table}, cols)
}

// flow makes the events and spans of one partition, as the host would.
type flow struct {
	generation int64
	partition  int
	at         sink.Point
	events     []event.Event
}

var writer = event.Writer{Epoch: 5}

func point(seq uint64) sink.Point { return sink.Point{Sequence: seq, Version: writer.Version(seq, 1)} }

func (f *flow) add(op event.Op, s *event.Schema, row string, lacks ...string) *flow {
	n := uint64(len(f.events)) + 1 + f.at.Sequence
	e := event.Event{Op: op, Source: s.Source, Table: s.Table, Partition: f.partition, Fingerprint: s.Fingerprint(), Schema: s,
		Sequence: n, Version: writer.Version(n, 1), Unavailable: lacks}
	if op == event.Delete {
		e.Before = event.RowOf([]byte(row))
	} else {
		e.After = event.RowOf([]byte(row))
	}
	f.events = append(f.events, e)
	return f
}

// batch takes what was added.
func (f *flow) batch() sink.Batch {
	to := f.at
	if n := len(f.events); n > 0 {
		to = sink.Point{Sequence: f.events[n-1].Sequence, Version: f.events[n-1].Version}
	}
	b := sink.Batch{Function: "f", Generation: f.generation, Partitions: 2, Spans: []sink.Span{{Partition: f.partition, After: f.at, To: to, Events: f.events}}}
	f.at, f.events = to, nil
	return b
}

func (f *flow) claim() sink.Claim {
	return sink.Claim{Function: "f", Generation: f.generation, Partition: f.partition, Start: f.at}
}

func (w *world) claim(s *postgres.Sink, f *flow) {
	w.t.Helper()
	at, err := s.Claim(w.t.Context(), f.claim())
	if err != nil {
		w.t.Fatal(err)
	}
	f.at = at
}

func (w *world) handle(s *postgres.Sink, b sink.Batch) {
	w.t.Helper()
	if err := s.Handle(w.t.Context(), b); err != nil {
		w.t.Fatal(err)
	}
}
