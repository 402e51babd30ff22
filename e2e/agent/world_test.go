package agent_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// world is a source and a stream, and the agents between them.
type world struct {
	t        *testing.T
	url      string
	db       *pgx.Conn
	conn     *stream.Conn
	stream   *stream.Stream
	registry *registry.Registry
	done     chan error // of the agent that runs
	cancel   context.CancelFunc
}

func newWorld(t *testing.T, setup string, conf ...string) *world {
	t.Helper()
	return newWorldOn(t, servers.Postgres(t, 17, conf...), setup)
}

func newWorldOn(t *testing.T, source *servers.Server, setup string) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{t: t, url: source.PostgresURL()}
	w.db = w.connect(w.url)
	w.exec(setup)
	server, err := stream.Start(stream.Embedded{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if w.conn, err = server.Connect(ctx, "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.conn.Close)
	if w.stream, err = stream.Create(ctx, w.conn, "shop", stream.Settings{}); err == nil {
		w.registry, err = registry.Open(ctx, w.conn)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) connect(url string) *pgx.Conn {
	w.t.Helper()
	c, err := pgx.Connect(w.t.Context(), url)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func (w *world) exec(sql string) {
	w.t.Helper()
	if _, err := w.db.Exec(w.t.Context(), sql); err != nil {
		w.t.Fatalf("%.200s: %v", sql, err)
	}
}

// number asks the source for one.
func (w *world) number(sql string) (n int64) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), sql).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// options of one agent.
type options struct {
	source postgres.Config
	agent  capture.Config
}

// run is one agent until ctx ends.
func (w *world) run(ctx context.Context, change ...func(*options)) error {
	o := options{
		postgres.Config{Name: "shop", URL: w.url, Tables: []string{"public.*"}, Heartbeat: 200 * time.Millisecond},
		capture.Config{Source: "shop", Horizon: w.conn.Horizon(), Settle: time.Second, ChunkRows: 300, Interval: 50 * time.Millisecond, Idle: 200 * time.Millisecond},
	}
	for _, f := range change {
		f(&o)
	}
	src, err := postgres.New(o.source)
	if err != nil {
		return err
	}
	a, err := capture.New(o.agent, src, w.stream, w.registry.Captures, w.registry.Snapshots, w.registry.Schemas)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// start runs one agent until stop.
func (w *world) start(change ...func(*options)) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	var ended sync.WaitGroup
	ended.Go(func() { done <- w.run(ctx, change...) })
	w.t.Cleanup(func() { cancel(); ended.Wait() })
	w.done, w.cancel = done, cancel
}

func (w *world) stop() {
	w.t.Helper()
	w.cancel()
	if err := <-w.done; err != nil {
		w.t.Fatalf("Run: %v", err)
	}
}

// until waits while the agent runs.
func (w *world) until(what string, f func() bool) {
	w.t.Helper()
	for end := time.Now().Add(4 * time.Minute); !f(); {
		if time.Now().After(end) {
			w.t.Fatalf("not within 4 minutes: %s", what)
		}
		select {
		case err := <-w.done:
			w.t.Fatalf("the agent ended while waiting for %s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// record waits until the agent's record is as wanted.
func (w *world) record(what string, f func(rec registry.Capture) bool) {
	w.t.Helper()
	w.until(what, func() bool {
		rec, ok, err := w.registry.CaptureOf(w.t.Context(), "shop")
		return err == nil && ok && f(rec)
	})
}

// loaded waits until all rows are.
func (w *world) loaded() {
	w.t.Helper()
	w.record("the load is done", func(rec registry.Capture) bool { return rec.Load.Done })
}

// settled waits until all that the log holds now is in the stream.
func (w *world) settled() {
	w.t.Helper()
	end := uint64(w.number(`SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn`))
	w.record("the log is in the stream", func(rec registry.Capture) bool {
		p, err := event.ParsePosition(rec.Position)
		return err == nil && p.Commit >= end
	})
}

// differences says how the stream, read back, differs from the source's tables.
func (w *world) differences(tables ...string) (text string) {
	w.t.Helper()
	ctx := w.t.Context()
	all, err := check.Read(ctx, w.stream, "shop")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := check.Order(all); err != nil {
		w.t.Error(err)
	}
	for _, m := range all {
		if err := w.stream.Resolve(ctx, m); err != nil {
			w.t.Fatal(err)
		}
	}
	schemas := map[string]*event.Schema{}
	entries, err := w.registry.Schemas.All(ctx, "shop.>")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		s, err := event.ParseSchema(e.Value)
		if err != nil {
			w.t.Fatal(err)
		}
		schemas[s.Table.String()+s.Fingerprint()] = s
	}
	state, err := check.Fold(all, func(table event.Table, fingerprint string) (*event.Schema, error) {
		if s := schemas[table.String()+fingerprint]; s != nil {
			return s, nil
		}
		return nil, fmt.Errorf("no schema %s of %s", fingerprint, table)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, table := range tables {
		rows, err := w.db.Query(ctx, "SELECT row_to_json(t)::text FROM "+table+" t")
		if err != nil {
			w.t.Fatal(err)
		}
		want, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			w.t.Fatal(err)
		}
		var got []string
		for _, text := range state[event.Table{Schema: "public", Name: table}] {
			got = append(got, text)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			text += fmt.Sprintf("%s, -source +stream:\n%.4000s", table, diff)
		}
	}
	return text
}
