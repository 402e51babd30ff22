package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/event"
)

// world is a database on a server, with a session.
type world struct {
	t      testing.TB
	flavor string
	server *servers.Server
	name   string // of the database, and of its source
	db     *client.Conn
}

func (w *world) connect() *client.Conn {
	w.t.Helper()
	c, err := client.Connect(w.server.Addr, "root", "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() }) // the server may be gone
	run(w.t, c, "SET NAMES utf8mb4, sql_mode = ''")
	return c
}

func run(t testing.TB, c *client.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := c.Execute(sql); err != nil {
			t.Fatalf("%.200s: %v", sql, err)
		}
	}
}

// until tries until it works.
func (w *world) until(try func() error) {
	w.t.Helper()
	end := time.Now().Add(60 * time.Second)
	for err := try(); err != nil; err = try() {
		if time.Now().After(end) {
			w.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *world) exec(statements ...string) { w.t.Helper(); run(w.t, w.db, statements...) }

func (w *world) text(sql string) string {
	w.t.Helper()
	r, err := w.db.Execute(sql)
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	v, err := r.GetString(0, 0)
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// source of some of the database's tables, or of all; a name with a point is of another one.
func (w *world) source(tables ...string) *mysql.Source {
	w.t.Helper()
	if len(tables) == 0 {
		tables = []string{"*"}
	}
	for i, t := range tables {
		if !strings.Contains(t, ".") {
			tables[i] = w.name + "." + t
		}
	}
	s, err := mysql.New(mysql.Config{Name: w.name, Flavor: w.flavor, URL: w.server.MySQLURL(), Tables: tables})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// log is an opened log.
type log struct {
	capture.Log
	capture.Tracker
	capture.Snapshotter
	t testing.TB
}

// open takes the log; since "" it begins now, else where a set and positions say.
func (w *world) open(s *mysql.Source, set string, since ...event.Position) *log {
	w.t.Helper()
	l, err := s.Acquire(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close(context.Background()) })
	out := &log{Log: l, Tracker: l.(capture.Tracker), Snapshotter: l.(capture.Snapshotter), t: w.t}
	if err := out.Resume(set, since); err != nil {
		w.t.Fatal(err)
	}
	after := l.Info().Confirmed
	if len(since) > 0 {
		after = since[len(since)-1]
	}
	if err := l.Check(w.t.Context(), after, after, ""); err != nil {
		w.t.Fatal(err)
	}
	if err := l.Start(w.t.Context(), after, event.Position{}); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// item is a copy of what the log said.
type item struct {
	capture.Item
	before, after string
	op            event.Op
	last          bool
}

func (i item) String() string {
	if i.Kind != capture.Changed {
		return fmt.Sprintf("kind %d %s %s", i.Kind, i.Position, i.Mark)
	}
	return fmt.Sprintf("%s %s %s %s", i.op, i.Schema.Table.Name, i.before, i.after)
}

// until reads until an item is what is asked for.
func (l *log) until(found func(item) bool) []item {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 60*time.Second)
	defer cancel()
	var all []item
	for {
		r, err := l.Next(ctx)
		if err != nil {
			l.t.Fatalf("after %d items: %v", len(all), err)
		}
		done := false
		for _, i := range r.Items {
			c := item{Item: i}
			if i.Change != nil {
				c.before, c.after, c.op, c.last = string(i.Change.Before), string(i.Change.After), i.Change.Op, i.Change.Last
				change := *i.Change
				c.Change = &change
			}
			all = append(all, c)
			done = done || found(c)
		}
		if done {
			return all
		}
	}
}

// changes are the changes until one of a table.
func (l *log) changes(table string) []item {
	l.t.Helper()
	var out []item
	for _, i := range l.until(func(i item) bool { return i.Kind == capture.Changed && i.Schema.Table.Name == table }) {
		if i.Kind == capture.Changed {
			out = append(out, i)
		}
	}
	return out
}

// read gives the changes up to now.
func (l *log) read() []item {
	l.t.Helper()
	if err := l.Mark(l.t.Context(), "now"); err != nil {
		l.t.Fatal(err)
	}
	all := l.until(func(i item) bool { return i.Kind == capture.Marked })
	return slices.DeleteFunc(all, func(i item) bool { return i.Kind != capture.Changed })
}

// chunk reads the first rows of a table.
func (w *world) chunk(l *log, table string) *capture.Chunk {
	w.t.Helper()
	c, err := l.Chunk(w.t.Context(), capture.ChunkRequest{Table: event.Table{Schema: w.name, Name: table}, MaxRows: 100, MaxBytes: 1 << 20})
	if err != nil {
		w.t.Fatalf("table %s: %v", table, err)
	}
	return c
}

// fails reads until the log ends with an error, without a change before it.
func (l *log) fails() error {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 60*time.Second)
	defer cancel()
	for {
		r, err := l.Next(ctx)
		if ctx.Err() != nil {
			l.t.Fatal("the log goes on")
		}
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				l.t.Errorf("it ends as if it had been told to: %v", err)
			}
			return err
		}
		for _, i := range r.Items {
			if i.Kind == capture.Changed {
				l.t.Errorf("it gives %s before it fails", i.Change.After)
			}
		}
	}
}

func lines(items []item) string {
	var b strings.Builder
	for _, i := range items {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}
