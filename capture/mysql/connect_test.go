package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestTLS: all connections are encrypted and the server's certificate is verified; a user with the rights that the docs name suffices.
func TestTLS(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := "cdc_" + w.name
		how := "IDENTIFIED WITH caching_sha2_password BY 'p@ss'"
		rights := "REPLICATION SLAVE, REPLICATION CLIENT"
		if w.flavor == mysql.MariaDB {
			how, rights = "IDENTIFIED BY 'p@ss'", "REPLICATION SLAVE, BINLOG MONITOR"
		}
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "CREATE USER "+user+"@'%' "+how+" REQUIRE SSL", "GRANT "+rights+" ON *.* TO "+user+"@'%'")
		source := func(parameters string) *mysql.Source {
			s, err := mysql.New(mysql.Config{Name: w.name, Flavor: w.flavor, Tables: []string{w.name + ".*"},
				URL: "mysql://" + user + ":p%40ss@" + w.server.Addr + "/?" + parameters})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		good := "tls=verify&ca=" + certificates + "/ca.pem"
		for _, refused := range []string{"", "tls=verify"} {
			if l, err := source(refused).Acquire(t.Context(), nil); err == nil {
				_ = l.Close(context.Background())
				t.Errorf("%q: connected", refused)
			}
		}
		l, err := source(good).Acquire(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var setup *capture.SetupError
		if _, err := l.(capture.Snapshotter).Tables(t.Context()); !errors.As(err, &setup) || !strings.Contains(err.Error(), "GRANT SELECT") {
			t.Errorf("tables without SELECT: %v", err)
		}
		_ = l.Close(context.Background())
		w.exec("GRANT SELECT ON "+w.name+".* TO "+user+"@'%'", "INSERT INTO a VALUES (1)")
		r := w.open(source(good), "")
		w.exec("INSERT INTO a VALUES (2)")
		if got := r.changes("a"); len(got) != 1 || got[0].after != `{"id":2}` {
			t.Errorf("got %s", lines(got))
		}
		c, err := r.Chunk(t.Context(), capture.ChunkRequest{Table: event.Table{Schema: w.name, Name: "a"}, MaxRows: 10, MaxBytes: 1 << 20})
		if err != nil || len(c.Rows) != 2 {
			t.Errorf("chunk: %v, %v", c, err)
		}
		if err := r.Mark(t.Context(), "m"); err != nil {
			t.Error(err)
		}
		r.until(func(i item) bool { return i.Kind == capture.Marked })
	})
}

// TestLostLock: a reader whose lock is gone ends, also where its log goes on.
func TestLostLock(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)")
		l := w.open(w.source(), "")
		w.exec(fmt.Sprintf("KILL %s", w.text("SELECT IS_USED_LOCK('runnel."+w.name+"')")))
		if err := l.Holds(t.Context()); err == nil {
			t.Error("it still holds the lock")
		}
		if err := l.fails(); err == nil || !strings.Contains(err.Error(), "the lock runnel."+w.name+" is lost") {
			t.Errorf("got %v", err)
		}
	})
}
