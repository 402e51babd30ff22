package servers_test

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/servers"
)

func connect(t *testing.T, s *servers.Server) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.PostgresURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func exec(t *testing.T, c *pgx.Conn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func count(t *testing.T, c *pgx.Conn, sql string) (n int) {
	t.Helper()
	if err := c.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// TestCrash: a durable server that is killed at any moment has what it reported as committed.
func TestCrash(t *testing.T) {
	t.Parallel()
	s := servers.Postgres(t, 17, servers.Durable...)
	exec(t, connect(t, s), "CREATE TABLE a (id int PRIMARY KEY)")
	var reported int
	for i, end := range []func(){s.Kill, func() { s.Stop(syscall.SIGQUIT) }, s.Kill, func() { s.Stop(syscall.SIGINT) }, s.Kill} {
		c := connect(t, s)
		ended := make(chan struct{})
		time.AfterFunc(time.Duration(100+50*i)*time.Millisecond, func() { end(); close(ended) })
		for {
			if _, err := c.Exec(t.Context(), fmt.Sprintf("INSERT INTO a VALUES (%d) ON CONFLICT DO NOTHING", reported+1)); err != nil {
				break
			}
			reported++
		}
		<-ended
		s.Restart(t)
		if n := count(t, connect(t, s), "SELECT count(*) FROM a"); n < reported || n > reported+1 {
			t.Fatalf("%d rows, %d were reported", n, reported)
		}
	}
	t.Logf("%d commits", reported)
}

// TestRestore: the data of then, with its slots, and a log that goes on from there.
func TestRestore(t *testing.T) {
	t.Parallel()
	s := servers.Postgres(t, 17, servers.Durable...)
	c := connect(t, s)
	exec(t, c, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 100)")
	exec(t, c, "SELECT pg_create_logical_replication_slot('one', 'pgoutput')")
	copied := s.Backup(t)
	exec(t, c, "INSERT INTO a SELECT generate_series(101, 200)")
	end := count(t, c, "SELECT pg_current_wal_insert_lsn() - '0/0'")
	s.Restore(t, copied)
	c = connect(t, s)
	if n := count(t, c, "SELECT count(*) FROM a"); n != 100 {
		t.Errorf("%d rows, want 100", n)
	}
	if n := count(t, c, "SELECT count(*) FROM pg_replication_slots"); n != 1 {
		t.Errorf("%d slots, want the one that was copied", n)
	}
	if now := count(t, c, "SELECT pg_current_wal_insert_lsn() - '0/0'"); now >= end {
		t.Errorf("the log ends at %d, was at %d", now, end)
	}
	if _, err := os.Stat(copied); !os.IsNotExist(err) {
		t.Errorf("the copy is still there: %v", err)
	}
}

// TestHoldCommits: a commit waits, and is visible once it is released.
func TestHoldCommits(t *testing.T) {
	t.Parallel()
	s := servers.Postgres(t, 17, servers.Durable...)
	c, other := connect(t, s), connect(t, s)
	exec(t, c, "CREATE TABLE a (id int PRIMARY KEY)")
	release := s.HoldCommits(t)
	done := make(chan error, 1)
	go func() { _, err := other.Exec(context.Background(), "INSERT INTO a VALUES (1)"); done <- err }()
	for count(t, c, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == 0 {
		<-time.After(10 * time.Millisecond)
	}
	if n := count(t, c, "SELECT count(*) FROM a"); n != 0 {
		t.Error("the row is visible")
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := count(t, c, "SELECT count(*) FROM a"); n != 1 {
		t.Error("the row is not there")
	}
}

// TestPromote: what the primary reported is there after it was killed and its standby promoted, twice.
func TestPromote(t *testing.T) {
	t.Parallel()
	for _, major := range []int{15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			s := servers.Postgres(t, major, servers.Durable...)
			exec(t, connect(t, s), "CREATE TABLE a (id int)")
			for i := range 2 {
				standby := s.Standby(t)
				c := connect(t, s)
				exec(t, c, fmt.Sprintf("INSERT INTO a VALUES (%d)", i))
				for count(t, c, "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_flush_lsn()") == 0 {
					<-time.After(10 * time.Millisecond)
				}
				s.Kill()
				standby.Promote(t)
				s = standby
			}
			c := connect(t, s)
			exec(t, c, "INSERT INTO a VALUES (2)")
			if n := count(t, c, "SELECT count(*) FROM a"); n != 3 {
				t.Errorf("%d rows, want 3", n)
			}
		})
	}
}
