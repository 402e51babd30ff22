package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestFailover: a replica with other binlogs goes on where the primary was left, within a transaction; and one that lacks what was published is a gap.
func TestFailover(t *testing.T) {
	alone(t, func(t *testing.T, w *world) {
		w.exec("CREATE USER IF NOT EXISTS replica@'%' IDENTIFIED BY 'x'", "GRANT REPLICATION SLAVE ON *.* TO replica@'%'", "DROP DATABASE "+w.name)
		replica := w.replica()
		w.exec("CREATE DATABASE "+w.name, "USE "+w.name, "CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE done (id int PRIMARY KEY)")
		l := w.open(w.source(), "")
		start, err := l.Executed(l.Info().Confirmed)
		if err != nil {
			t.Fatal(err)
		}
		w.exec("INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2), (3), (4)", "INSERT INTO done VALUES (1)")
		var since []event.Position
		for _, i := range l.until(func(i item) bool { return strings.Contains(i.after, `{"id":2}`) }) {
			if i.Kind == capture.Changed && !strings.Contains(i.after, "3") && i.Schema.Table.Name == "a" && len(since) < 2 {
				since = append(since, i.Position)
			}
		}
		_ = l.Close(context.Background())
		other := &world{t: t, flavor: w.flavor, server: replica, name: w.name}
		other.db = other.connect()
		for end := time.Now().Add(90 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if r, err := other.db.Execute("SELECT count(*) FROM " + w.name + ".done"); err == nil {
				if n, err := r.GetString(0, 0); err == nil && n == "1" {
					break
				}
			}
			if time.Now().After(end) {
				t.Fatal("the replica does not follow")
			}
		}
		again := other.open(other.source(), start, since...)
		var got []string
		for _, c := range again.changes("done") {
			got = append(got, c.after)
		}
		_ = again.Close(context.Background())
		if want := `{"id":3} {"id":4} {"id":1}`; strings.Join(got, " ") != want {
			t.Errorf("after %v: got %v, want %s", since, got, want)
		}
	})
}

// TestFailoverWithoutTheLast: a server that took over before it had received all that was published is a gap, also where it has gone on by itself.
func TestFailoverWithoutTheLast(t *testing.T) {
	t.Parallel()
	w := flavors[1].alone(t)
	w.exec("CREATE TABLE a (id int PRIMARY KEY)")
	l := w.open(w.source(), "")
	start, err := l.Executed(l.Info().Confirmed)
	if err != nil {
		t.Fatal(err)
	}
	w.exec("INSERT INTO a VALUES (1)", "SET SESSION server_id = 7", "INSERT INTO a VALUES (2)", "INSERT INTO a VALUES (3)", "SET SESSION server_id = 1")
	var read []event.Position
	for _, i := range l.read() {
		read = append(read, i.Position)
	}
	_ = l.Close(context.Background())
	s := w.source()
	mysql.SetPatience(s, 0)
	n, err := s.Acquire(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(context.Background())
	for _, tt := range []struct {
		at    event.Position
		there bool
	}{
		{read[0], true},
		{read[2], true},
		{event.Position{Origin: read[0].Origin, Commit: read[1].Commit, Change: 1}, false}, // published from the old server; this one has another transaction of that number
		{event.Position{Origin: read[0].Origin, Commit: read[1].Commit}, false},
	} {
		if err := n.(capture.Tracker).Resume(start, []event.Position{tt.at}); err != nil {
			t.Fatal(err)
		}
		err := n.Check(t.Context(), tt.at, tt.at, "")
		if gap := (*capture.GapError)(nil); (err == nil) != tt.there || err != nil && !errors.As(err, &gap) {
			t.Errorf("at %s: got %v, want there %t", tt.at, err, tt.there)
		}
	}
}

// replica starts a server that follows this one from now on, with few transactions in each of its binlogs.
func (w *world) replica() *servers.Server {
	w.t.Helper()
	start := servers.MySQL8
	sql := []string{"RESET MASTER", "SET GLOBAL gtid_purged = '" + w.executedNow() + "'",
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %d, MASTER_USER = 'replica', MASTER_PASSWORD = 'x', MASTER_AUTO_POSITION = 1, GET_MASTER_PUBLIC_KEY = 1", w.server.Port)}
	if w.flavor == mysql.MariaDB {
		start = servers.MariaDB
		sql = []string{"RESET MASTER", "SET GLOBAL gtid_binlog_state = '" + w.executedNow() + "'", "SET GLOBAL gtid_slave_pos = '" + w.executedNow() + "'",
			fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %d, MASTER_USER = 'replica', MASTER_PASSWORD = 'x', MASTER_USE_GTID = slave_pos", w.server.Port)}
	}
	s := start(w.t, "--server-id=2", "--max-binlog-size=4096")
	c, err := client.Connect(s.Addr, "root", "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	run(w.t, c, append(sql, "START SLAVE")...)
	return s
}
