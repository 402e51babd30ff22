package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgres is what a PostgreSQL server was started with; standbys are started alike.
type postgres struct {
	major int
	conf  []string
	cred  *syscall.Credential
}

// Durable are settings for servers that are killed: without them a server whose processes are killed forgets commits that it
// reported, and may leave torn pages. Nothing is fsynced still, for the operating system lives on.
var Durable = []string{"synchronous_commit=on", "full_page_writes=on"}

// PostgresBin is the folder with initdb and postgres of that major version.
func PostgresBin(major int) string {
	if d := fmt.Sprintf("/usr/lib/postgresql/%d/bin", major); exists(d + "/postgres") {
		return d
	}
	return fmt.Sprintf("%s/node_modules/pg%d/native/bin", Services(), major)
}

// Postgres starts a server with wal_level=logical; user postgres, no password. Settings are "name=value".
//
// Stop it with SIGINT for a fast shutdown, with SIGQUIT for one that leaves everything to the recovery.
func Postgres(t TB, major int, conf ...string) *Server {
	t.Helper()
	bin := PostgresBin(major)
	if !exists(bin + "/postgres") {
		missing(t, fmt.Sprint("PostgreSQL ", major))
	}
	dir := tempDir(t, "pg")
	p := postgres{major: major, conf: conf, cred: unprivileged(t, dir)}
	init := exec.Command(bin+"/initdb", "-D", dir+"/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
	init.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME="+dir)
	init.Dir = dir
	init.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	return p.start(t, dir)
}

// start runs a server on the data in dir.
func (p postgres) start(t TB, dir string) *Server {
	t.Helper()
	port := freePort(t)
	args := []string{"-D", dir + "/data", "-p", strconv.Itoa(port), "-k", dir}
	for _, c := range append([]string{"listen_addresses=127.0.0.1", "wal_level=logical", "max_wal_senders=20", "max_replication_slots=20",
		"fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB"}, p.conf...) {
		args = append(args, "-c", c)
	}
	url := postgresURL(fmt.Sprintf("127.0.0.1:%d", port), "postgres")
	s := start(t, dir, port, p.cred, syscall.SIGINT, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		c, err := pgx.Connect(ctx, url)
		if err == nil {
			c.Close(ctx)
		}
		return err
	}, nil, PostgresBin(p.major)+"/postgres", args...)
	s.postgres = p
	return s
}

func postgresURL(address, database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", address, database)
}

// PostgresURL is the superuser's, for the database postgres.
func (s *Server) PostgresURL() string { return postgresURL(s.Addr, "postgres") }

// DatabaseURL is the superuser's, for another database.
func (s *Server) DatabaseURL(name string) string { return postgresURL(s.Addr, name) }

// session is one of the superuser's that waits for no standby.
type session struct {
	*pgx.Conn
	t TB
}

func (s *Server) session(t TB) session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.PostgresURL())
	if err != nil {
		t.Fatalf("connect to PostgreSQL: %v", err)
	}
	x := session{c, t}
	x.exec("SET synchronous_commit = local")
	return x
}

func (x session) close() { x.Close(context.Background()) }

func (x session) exec(sql string) {
	x.t.Helper()
	if _, err := x.Exec(context.Background(), sql); err != nil {
		x.t.Fatalf("%s: %v", sql, err)
	}
}

// until waits for a query to give true.
func (x session) until(sql string) {
	x.t.Helper()
	var ok *bool
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := x.QueryRow(context.Background(), sql).Scan(&ok); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			x.t.Fatalf("%s: %v", sql, err)
		}
		if ok != nil && *ok {
			return
		}
	}
	x.t.Fatalf("never became true: %s", sql)
}

// set changes settings of a running server that need no restart; a value of "" is the default again.
func (x session) set(name, value string) {
	x.t.Helper()
	sql := "ALTER SYSTEM RESET " + name
	if value != "" {
		sql = fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", name, value)
	}
	x.exec(sql)
	x.exec("SELECT pg_reload_conf()")
	x.until(fmt.Sprintf("SELECT setting = '%s' FROM pg_settings WHERE name = '%s'", value, name))
}

// HoldCommits makes commits wait for a standby that is away: they are in the log, a slot gives them to its reader, and no
// snapshot shows them until release. Settings survive a restart, so does this.
func (s *Server) HoldCommits(t TB) (release func()) {
	t.Helper()
	x := s.session(t)
	defer x.close()
	x.set("synchronous_standby_names", "away")
	s.waits(t, x)
	return func() {
		t.Helper()
		x := s.session(t)
		defer x.close()
		x.set("synchronous_standby_names", "")
	}
}

// waits returns once commits wait: the server's processes learn of the setting one after the other.
func (s *Server) waits(t TB, x session) {
	t.Helper()
	probe := s.session(t)
	defer probe.close()
	probe.exec("SET synchronous_commit = on")
	pid := probe.PgConn().PID()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = probe.Exec(context.Background(), "SELECT pg_logical_emit_message(true, 'probe', '')") // it is ended below: an error is no news
		}()
		for over := false; !over; {
			select {
			case <-done:
				over = true
			case <-time.After(5 * time.Millisecond):
				var waiting bool
				if err := x.QueryRow(context.Background(), "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1 AND wait_event IS NOT NULL", pid).Scan(&waiting); err == nil && waiting {
					x.exec(fmt.Sprintf("SELECT pg_cancel_backend(%d)", pid))
					<-done
					return
				}
			}
		}
	}
	t.Fatalf("commits do not wait for a standby that is away")
}
