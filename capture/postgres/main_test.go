package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/event"
)

// shared servers live as long as the package's tests.
var shared struct {
	sync.Mutex
	byVersion map[int]*servers.Server
	tb        *mainTB
	databases atomic.Int64
}

// mainTB lends a server the life of the whole test binary.
type mainTB struct {
	testing.TB
	cleanups []func()
}

func (*mainTB) Helper()            {}
func (*mainTB) Failed() bool       { return false }
func (m *mainTB) Cleanup(f func()) { m.cleanups = append(m.cleanups, f) }
func (m *mainTB) end() {
	for i := len(m.cleanups) - 1; i >= 0; i-- {
		m.cleanups[i]()
	}
}

func TestMain(m *testing.M) {
	shared.byVersion, shared.tb = map[int]*servers.Server{}, &mainTB{}
	status := m.Run()
	shared.tb.end()
	if status == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	os.Exit(status)
}

// server is the shared one of that major version.
func server(t *testing.T, major int) *servers.Server {
	t.Helper()
	if _, err := os.Stat(servers.PostgresBin(major) + "/postgres"); err != nil {
		servers.Postgres(t, major) // skips, or fails in CI
	}
	shared.Lock()
	defer shared.Unlock()
	s := shared.byVersion[major]
	if s == nil {
		shared.tb.TB = t
		s = servers.Postgres(shared.tb, major, "max_replication_slots=100", "max_wal_senders=100", "max_connections=400", "max_prepared_transactions=10",
			"synchronous_standby_names=nobody") // with synchronous_commit=on, and only then, a commit waits for ever
		shared.byVersion[major] = s
	}
	return s
}

// database is one of the test's own, on a shared server.
type database struct {
	*pgx.Conn
	t    testing.TB
	name string
	url  string
}

func newDatabase(t *testing.T, major int) *database {
	t.Helper()
	return databaseOn(t, server(t, major))
}

func databaseOn(t *testing.T, s *servers.Server) *database {
	t.Helper()
	name := fmt.Sprintf("t%d", shared.databases.Add(1))
	admin := connect(t, s.PostgresURL())
	admin.exec("CREATE DATABASE " + name)
	url := strings.Replace(s.PostgresURL(), "/postgres?", "/"+name+"?", 1)
	d := connect(t, url)
	d.name = name
	return d
}

func connect(t testing.TB, url string) *database {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return &database{Conn: c, t: t, url: url}
}

func (d *database) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.Exec(d.t.Context(), sql, args...); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
}

func (d *database) text(sql string, args ...any) string {
	d.t.Helper()
	var s string
	if err := d.QueryRow(d.t.Context(), sql, args...).Scan(&s); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
	return s
}

// source of the database, with a slot of its own.
func (d *database) source(change ...func(*postgres.Config)) *postgres.Source {
	d.t.Helper()
	cfg := postgres.Config{Name: d.name, URL: d.url, Tables: []string{"public.*"}, Heartbeat: 100 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(d.t.Output(), nil))}
	for _, f := range change {
		f(&cfg)
	}
	s, err := postgres.New(cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { // a slot keeps its database from being dropped, and the server's log
		d.Exec(context.Background(), `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND active_pid IS NULL`, d.name)
	})
	return s
}

// reader is a log under test.
type reader struct {
	capture.Log
	t      *testing.T
	closed bool
}

func acquire(t *testing.T, s *postgres.Source) *reader {
	t.Helper()
	l, err := s.Acquire(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{Log: l, t: t}
	t.Cleanup(r.close)
	return r
}

func (r *reader) close() {
	if r.closed {
		return
	}
	r.closed = true
	if err := r.Close(context.Background()); err != nil {
		r.t.Error(err)
	}
}

// started acquires and starts at the slot's position.
func started(t *testing.T, s *postgres.Source) *reader {
	t.Helper()
	r := acquire(t, s)
	r.start(r.Info().Confirmed)
	return r
}

// start goes on after a position; the change there, if it is one, must be met.
func (r *reader) start(p event.Position) {
	r.t.Helper()
	if err := r.Start(r.t.Context(), p, p); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reader) snapshotter() capture.Snapshotter { return r.Log.(capture.Snapshotter) }

// item is a copy of an item that outlives the next call.
type item struct {
	capture.Item
	Change event.Change
}

// until reads items until done says so; it keeps what is no Idle.
func (r *reader) until(done func(item) bool) []item {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 90*time.Second)
	defer cancel()
	var all []item
	for {
		run, err := r.Next(ctx)
		if err != nil {
			r.t.Fatalf("after %d items: %v", len(all), err)
		}
		end := false
		for _, i := range run.Items {
			x := item{Item: i}
			if i.Change != nil {
				x.Change = *i.Change
				x.Change.Before = append([]byte(nil), i.Change.Before...)
				x.Change.After = append([]byte(nil), i.Change.After...)
			}
			if i.Kind != capture.Idle {
				all = append(all, x)
			}
			end = end || done(x)
		}
		if end {
			return all
		}
	}
}

// changes reads up to a marker that it writes now, and gives the changes before it.
func (r *reader) changes() []event.Change {
	r.t.Helper()
	var all []event.Change
	for _, i := range r.items() {
		if i.Kind == capture.Changed {
			all = append(all, i.Change)
		}
	}
	return all
}

func (r *reader) items() []item {
	r.t.Helper()
	mark := fmt.Sprintf("m%d", shared.databases.Add(1))
	if err := r.snapshotter().Mark(r.t.Context(), mark); err != nil {
		r.t.Fatal(err)
	}
	met := false
	all := r.until(func(i item) bool {
		met = met || i.Kind == capture.Marked && i.Mark == mark
		return met && i.Kind == capture.Committed
	})
	return all[:len(all)-2]
}

// lines are the changes in short: op, before, after.
func lines(changes []event.Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s", c.Op, c.Schema.Table)
		if len(c.Before) > 0 {
			fmt.Fprintf(&b, " %s ->", c.Before)
		}
		if len(c.After) > 0 {
			fmt.Fprintf(&b, " %s", c.After)
		}
		if len(c.Unavailable) > 0 {
			fmt.Fprintf(&b, " without %s", strings.Join(c.Unavailable, ","))
		}
		if c.Last {
			b.WriteString(" last")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got := strings.TrimSpace(got); got != strings.TrimSpace(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, strings.TrimSpace(want))
	}
}

func newLines(s ...string) *strings.Reader { return strings.NewReader(strings.Join(s, "\n") + "\n") }

// waitingCommit commits in another session and gives control while that waits for a synchronous standby. release ends the
// waiting.
func (d *database) waitingCommit(sql string) (release func()) {
	d.t.Helper()
	other := connect(d.t, d.url)
	other.exec(`SET synchronous_commit = on`)
	pid := other.PgConn().PID()
	done := make(chan error, 1)
	go func() {
		_, err := other.Exec(context.Background(), "BEGIN; "+sql+"; COMMIT")
		done <- err
	}()
	d.eventually(`SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1`, int32(pid))
	return func() {
		d.t.Helper()
		d.exec(`SELECT pg_cancel_backend($1)`, int32(pid))
		if err := <-done; err != nil {
			d.t.Fatal(err)
		}
	}
}

// eventually waits until a query gives true.
func (d *database) eventually(sql string, args ...any) {
	d.t.Helper()
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var ok *bool
		if err := d.QueryRow(d.t.Context(), sql, args...).Scan(&ok); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			d.t.Fatalf("%s: %v", sql, err)
		}
		if ok != nil && *ok {
			return
		}
	}
	d.t.Fatalf("never became true: %s", sql)
}

// ownServer is one that the test may stop.
func ownServer(t *testing.T, major int, conf ...string) *servers.Server {
	t.Helper()
	return servers.Postgres(t, major, conf...)
}

const interrupt = syscall.SIGINT
