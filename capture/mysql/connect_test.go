package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/e2e/proxy"
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
		s := w.source()
		mysql.SetTick(s, 100*time.Millisecond)
		l := w.open(s, "")
		w.exec(fmt.Sprintf("KILL %s", w.text("SELECT IS_USED_LOCK('runnel."+w.name+"')")))
		if err := l.Holds(t.Context()); err == nil {
			t.Error("it still holds the lock")
		}
		if err := l.fails(); err == nil || !strings.Contains(err.Error(), "the lock runnel."+w.name+" is lost") {
			t.Errorf("got %v", err)
		}
	})
}

// TestStalled: an idle server keeps its reader, by heartbeats; one that is not heard of any more loses it, and the reader can be closed.
func TestStalled(t *testing.T) {
	t.Parallel()
	var all []*log
	var worlds []*world
	var proxies []*proxy.Proxy
	for _, f := range flavors {
		w := f.world(t, f.running(t, &f.shared))
		w.exec("CREATE TABLE a (id int PRIMARY KEY)")
		p := proxy.New(t, w.server.Addr)
		s, err := mysql.New(mysql.Config{Name: w.name, Flavor: w.flavor, URL: "mysql://root@" + p.Addr(), Tables: []string{w.name + ".*"}})
		if err != nil {
			t.Fatal(err)
		}
		mysql.SetSilence(s, 8*time.Second)
		worlds, proxies, all = append(worlds, w), append(proxies, p), append(all, w.open(s, ""))
	}
	idle, cancel := context.WithTimeout(t.Context(), 9*time.Second) // time itself is what is tested
	defer cancel()
	var reading sync.WaitGroup
	for _, l := range all {
		reading.Go(func() {
			for {
				if _, err := l.Next(idle); err != nil {
					if idle.Err() == nil {
						t.Errorf("an idle log ends: %v", err)
					}
					return
				}
			}
		})
	}
	reading.Wait()
	for n, l := range all {
		worlds[n].exec("INSERT INTO a VALUES (1)")
		if got := lines(l.read()); got != "c a  {\"id\":1}\n" {
			t.Errorf("got %s", got)
		}
		proxies[n].HalfOpen()
	}
	for _, l := range all {
		if err := l.fails(); err == nil {
			t.Error("it goes on without a server")
		}
		if err := l.Holds(t.Context()); err == nil {
			t.Error("it believes that it holds the lock")
		}
	}
}

// TestPasswords: the ways to prove a password that the servers have, without encryption. (MariaDB's ed25519 is a plugin that is not installed here.)
func TestPasswords(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		plugins := []string{"mysql_native_password"}
		if w.flavor == mysql.MySQL {
			plugins = append(plugins, "caching_sha2_password", "sha256_password")
		}
		for n, plugin := range plugins {
			user := fmt.Sprintf("u%d_%s", n, w.name)
			if w.flavor == mysql.MySQL {
				w.exec("CREATE USER " + user + "@'%' IDENTIFIED WITH " + plugin + " BY 'p@ss'")
			} else {
				w.exec("CREATE USER " + user + "@'%' IDENTIFIED BY 'p@ss'")
			}
			w.exec("GRANT ALL ON *.* TO " + user + "@'%'")
			s, err := mysql.New(mysql.Config{Name: w.name, Flavor: w.flavor, URL: "mysql://" + user + ":p%40ss@" + w.server.Addr, Tables: []string{"x.*"}})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time the server may remember the password
				l := w.open(s, "")
				if err := l.Close(t.Context()); err != nil {
					t.Errorf("%s: %v", plugin, err)
				}
			}
		}
	})
}

// TestDoctor: each thing that is missing is named with the statement that gives it.
func TestDoctor(t *testing.T) {
	alone(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE loose (v int)", "CREATE USER d_"+w.name+"@'%' IDENTIFIED BY 'x'")
		s, err := mysql.New(mysql.Config{Name: w.name, Flavor: w.flavor, URL: "mysql://d_" + w.name + ":x@" + w.server.Addr, Tables: []string{w.name + ".*"}})
		if err != nil {
			t.Fatal(err)
		}
		report := func() string {
			var b strings.Builder
			for _, f := range s.Doctor(t.Context()) {
				fmt.Fprintf(&b, "%+v\n", f)
			}
			return b.String()
		}
		says := func(words ...string) {
			t.Helper()
			for got, n := report(), 0; n < len(words); n++ {
				if !strings.Contains(got, words[n]) {
					t.Errorf("%q is not said:\n%s", words[n], got)
				}
			}
		}
		log := "REPLICATION CLIENT"
		if w.flavor == mysql.MariaDB {
			log = "BINLOG MONITOR"
		}
		says("GRANT REPLICATION SLAVE, "+log+" ON *.* TO", "GRANT SELECT ON")
		w.exec("GRANT REPLICATION SLAVE, "+log+" ON *.* TO d_"+w.name+"@'%'", "GRANT SELECT ON "+w.name+".* TO d_"+w.name+"@'%'")
		says("ADD PRIMARY KEY")
		if got := report(); strings.Contains(got, "GRANT") {
			t.Errorf("the rights that it names do not suffice:\n%s", got)
		}
		if w.flavor == mysql.MySQL {
			w.exec("SET GLOBAL gtid_mode = ON_PERMISSIVE")
			defer w.exec("SET GLOBAL gtid_mode = ON")
			says("gtid_mode is ON_PERMISSIVE")
			w.exec("SET GLOBAL gtid_mode = ON")
		}
		w.exec("SET GLOBAL binlog_row_image = MINIMAL, GLOBAL binlog_row_metadata = MINIMAL")
		defer w.exec("SET GLOBAL binlog_row_image = FULL, GLOBAL binlog_row_metadata = FULL")
		says("SET GLOBAL binlog_row_image = 'FULL'", "SET GLOBAL binlog_row_metadata = 'FULL'")
		var setup *capture.SetupError
		if _, err := s.Acquire(t.Context(), nil); !errors.As(err, &setup) || !strings.Contains(err.Error(), "binlog_row_image = 'FULL'") {
			t.Errorf("acquired: %v", err)
		}
	})
}
