package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/servers"
)

// screen collects what a running command prints.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// running is a `runnel run` inside of the test.
type running struct {
	log    screen
	cancel context.CancelFunc
	code   chan int
}

func startRun(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{cancel: cancel, code: make(chan int, 1)}
	go func() {
		r.code <- execute(ctx, append([]string{"run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...), strings.NewReader(""), io.Discard, &r.log)
	}()
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

// wait for the end, and give the exit code.
func (r *running) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-r.code:
		return code
	case <-time.After(30 * time.Second):
		t.Fatal("runnel run does not end")
		return -1
	}
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if code := r.wait(t); code != 0 {
		t.Errorf("stopped with %d, want 0\n%s", code, r.log.String())
	}
}

// url of the health endpoints, as the log names it.
func (r *running) url(path string) string {
	m := regexp.MustCompile(`http://([0-9.:]+)/metrics`).FindStringSubmatch(r.log.String())
	if m == nil {
		return ""
	}
	return "http://" + m[1] + path
}

func get(url string) (int, string) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	http.DefaultClient.CloseIdleConnections()
	return resp.StatusCode, string(b)
}

// until polls.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if f() {
			return
		}
		select {
		case <-t.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("not within 30 s: %s", what)
}

// shop is a database with a table of 1,000 rows and one that is its copy.
type shop struct {
	t            *testing.T
	source, copy *pgx.Conn
	file, data   string
}

func newShop(t *testing.T) *shop {
	server := servers.Postgres(t, 17)
	s := &shop{t: t, file: filepath.Join(t.TempDir(), "shop.yaml"), data: filepath.Join(t.TempDir(), "data")}
	s.source = s.connect(server.PostgresURL())
	s.sql(s.source, `CREATE DATABASE copy`)
	url := strings.Replace(server.PostgresURL(), "/postgres?", "/copy?", 1)
	s.copy = s.connect(url)
	s.sql(s.source, `CREATE TABLE orders (id int PRIMARY KEY, status text)`)
	s.sql(s.source, `INSERT INTO orders SELECT i, 'new' FROM generate_series(1, 1000) i`)
	t.Setenv("SHOP_URL", server.PostgresURL())
	t.Setenv("COPY_URL", url)
	s.write("")
	return s
}

func (s *shop) connect(url string) *pgx.Conn {
	s.t.Helper()
	c, err := pgx.Connect(s.t.Context(), url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func (s *shop) sql(c *pgx.Conn, sql string) {
	s.t.Helper()
	if _, err := c.Exec(s.t.Context(), sql); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) write(more string) { s.named("copy", more) }

// named writes the file with another name of the function.
func (s *shop) named(function, more string) {
	s.t.Helper()
	const documents = `kind: source
name: shop
postgres: {url: "${SHOP_URL}"}
tables: [public.orders]
---
kind: function
name: %s
from: shop.public.orders
to: {postgres: {url: "${COPY_URL}"}}
`
	if err := os.WriteFile(s.file, []byte(fmt.Sprintf(documents, function)+more), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// copied says how many rows of the copy have a status.
func (s *shop) copied(status string) int {
	var n int
	if err := s.copy.QueryRow(s.t.Context(), `SELECT count(*) FROM orders WHERE status = $1`, status).Scan(&n); err != nil {
		return -1 // not created yet
	}
	return n
}

func (s *shop) run(args ...string) string {
	s.t.Helper()
	return command(s.t, append(args, "--data", s.data)...)
}

// loaded waits until the first load is done and durable.
func (s *shop) loaded() {
	s.t.Helper()
	until(s.t, "the load is done", func() bool { return strings.Contains(s.run("describe", "shop"), "public.orders: done, 1,000 rows") })
}

func (s *shop) states() string {
	s.t.Helper()
	var lines []listed
	text := s.run("list", "--json")
	if err := json.Unmarshal([]byte(text), &lines); err != nil {
		return text
	}
	var states []string
	for _, l := range lines {
		states = append(states, l.Name+" "+l.State)
	}
	return strings.Join(states, ", ")
}

// listed is one line of the list.
func (s *shop) listed(name string) listed {
	s.t.Helper()
	var lines []listed
	text := s.run("list", "--json")
	if err := json.Unmarshal([]byte(text), &lines); err != nil {
		s.t.Fatalf("%v: %s", err, text)
	}
	for _, l := range lines {
		if l.Name == name {
			return l
		}
	}
	s.t.Fatalf("%s is not listed: %s", name, text)
	return listed{}
}

func contains(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s: got\n%s\nwant %q in it", what, got, w)
		}
	}
}

func TestRun(t *testing.T) {
	s := newShop(t)
	contains(t, "doctor before", s.run("doctor", s.file), "ok    wal_level: logical", "it will be made", "key (id)")
	r := startRun(t, s.file, "--data", s.data)
	until(t, "1,000 rows copied", func() bool { return s.copied("new") == 1000 })
	s.sql(s.source, `UPDATE orders SET status = 'paid' WHERE id <= 10`)
	until(t, "10 changes copied", func() bool { return s.copied("paid") == 10 })
	until(t, "running", func() bool { return s.states() == "shop running, copy running" })

	contains(t, "list", s.run("list"), "source    shop  running", "function  copy  running", "GENERATION  WORKERS  EVENTS/S  BACKLOG  LAG")
	if l := s.listed("copy"); l.Workers == nil || *l.Workers != 1 || l.Generation == 0 || l.Messages == nil || l.LagSeconds == nil {
		t.Errorf("listed: %+v", l)
	}
	s.loaded()
	contains(t, "describe", s.run("describe", "shop"), "runnel_shop at ", "in use", "CDC_shop: ")
	contains(t, "describe", s.run("describe", "copy"), "version     1, ", "\n7          ", "from: shop.public.orders")
	contains(t, "tail", s.run("tail", "public.orders", "--last", "3", "--follow=false"), `update    public.orders  {"id":`, `"status":"paid"`)
	contains(t, "tail", s.run("tail", "orders", "--json", "--last", "1", "--follow=false"), `"op":"u"`, `"subject":"cdc.shop.public.orders.`)
	contains(t, "tail", s.run("tail", "cdc.shop.>", "--from-seq", "1", "--follow=false"), "marker")
	contains(t, "doctor", s.run("doctor"), "it can be reached, and fits 1 tables", "CDC_shop")
	until(t, "ready", func() bool { code, _ := get(r.url("/readyz")); return code == http.StatusOK })
	_, metrics := get(r.url("/metrics"))
	contains(t, "metrics", metrics, `runnel_function_events_total{function="copy"} 1010`, `runnel_capture_state{source="shop",state="streaming"} 1`,
		`runnel_function_batch_events_count{function="copy"}`)

	contains(t, "pause", s.run("pause", "copy"), "function copy: paused\n")
	until(t, "paused", func() bool { return s.states() == "shop running, copy paused" })
	s.sql(s.source, `UPDATE orders SET status = 'paid' WHERE id = 11`)
	until(t, "what waits is listed", func() bool { l := s.listed("copy"); return l.Messages != nil && *l.Messages == 1 && *l.LagSeconds > 0 })
	contains(t, "describe", s.run("describe", "copy"), "lag         ", "PARTITION  OWNER   FLOOR", "nobody")
	contains(t, "resume", s.run("resume", "copy"), "function copy: running\n")
	s.write("batch: {rows: 10}\n")
	contains(t, "dry run", s.run("deploy", s.file, "--dry-run"), "unchanged  source    shop\nchange     function  copy\n", "    + batch: {rows: 10}\n")
	contains(t, "deploy", s.run("deploy", s.file), "change     function  copy\n")
	contains(t, "versions", s.run("rollback", "copy", "--list"), "2  ", "    + batch: {rows: 10}\n1  ")
	contains(t, "dry run of a rollback", s.run("rollback", "copy", "--dry-run"), "version 1 of ", "    - batch: {rows: 10}\n", "dry run")
	contains(t, "rollback", s.run("rollback", "copy"), "version 1 of ", "change     function  copy\n")
	contains(t, "rollback to what is not there", s.run("rollback", "copy", "9"), "there is no version 9 of it; there are 1, 2, 3", "[exit 3]")
	url := os.Getenv("COPY_URL")
	t.Setenv("COPY_URL", "postgres://nobody@127.0.0.1:1/nothing")
	contains(t, "rollback to an unreachable target", s.run("rollback", "copy", "2"), "function copy: its target cannot be reached", "--force", "[exit 3]")
	contains(t, "dry run of what is forced", s.run("rollback", "copy", "2", "--force", "--dry-run"), "change     function  copy\n")
	t.Setenv("COPY_URL", url)
	s.sql(s.source, `DELETE FROM orders WHERE id > 900`)
	until(t, "deletes copied", func() bool { return s.copied("new") == 889 && s.copied("paid") == 11 })

	contains(t, "pause", s.run("pause", "shop"), "source shop: paused\n")
	until(t, "slot is free", func() bool { return strings.Contains(s.run("describe", "shop"), "nobody reads it") })
	s.sql(s.source, `UPDATE orders SET status = 'late' WHERE id = 1`)
	contains(t, "resume", s.run("resume", "shop"), "source shop: running\n")
	until(t, "what happened meanwhile is copied", func() bool { return s.copied("late") == 1 })

	contains(t, "delete", s.run("delete", "shop"), "function \"copy\" reads from it", "[exit 3]")
	contains(t, "delete", s.run("delete", "copy", "shop"), "deleted function copy\n", "deleted source shop\n", "SELECT pg_drop_replication_slot('runnel_shop');")
	until(t, "nothing is deployed", func() bool { return s.states() == "" })
	r.stop(t)
	contains(t, "list", s.run("list"), "is runnel run running in "+s.data+"?", "[exit 1]")
}

// A table that is dropped in the target halts its function; deployed anew, that fills the table again.
func TestDroppedTarget(t *testing.T) {
	s := newShop(t)
	r := startRun(t, s.file, "--data", s.data)
	until(t, "1,000 rows copied", func() bool { return s.copied("new") == 1000 })
	s.sql(s.copy, `DROP TABLE orders`)
	s.sql(s.source, `UPDATE orders SET status = 'paid' WHERE id <= 10`)
	until(t, "halted", func() bool { return s.states() == "shop running, copy halted" })
	contains(t, "describe", s.run("describe", "copy"), `table "public"."orders" was dropped`, "runnel delete copy")
	contains(t, "delete", s.run("delete", "copy"), "deleted function copy")
	contains(t, "deploy", s.run("deploy", s.file), "create     function  copy")
	until(t, "all rows are there again", func() bool { return s.copied("new") == 990 && s.copied("paid") == 10 })
	r.stop(t)
}

// A source whose log has a gap halts and says so; functions and the process go on, and --resnapshot is the way out.
func TestGap(t *testing.T) {
	s := newShop(t)
	r := startRun(t, s.file, "--data", s.data)
	until(t, "the load is done", func() bool { return strings.Contains(r.log.String(), "load finished") })
	// As long as nothing of the slot's log is in the stream, a lost slot only begins the load again.
	s.sql(s.source, `UPDATE orders SET status = 'seen' WHERE id = 1000`)
	until(t, "a change copied", func() bool { return s.copied("seen") == 1 })
	r.stop(t)
	s.sql(s.source, `SELECT pg_drop_replication_slot('runnel_shop')`)
	s.sql(s.source, `UPDATE orders SET status = 'paid' WHERE id <= 10`)

	r = startRun(t, s.file, "--data", s.data)
	until(t, "halted", func() bool { return s.states() == "shop halted, copy running" })
	contains(t, "list", s.run("list"), "--resnapshot")
	code, text := get(r.url("/readyz"))
	if code != http.StatusServiceUnavailable {
		t.Errorf("readyz: got %d %s", code, text)
	}
	contains(t, "readyz", text, "source shop: halted")

	// An agent beside it goes on past the gap; the one inside of run stands by.
	ctx, cancel := context.WithCancel(t.Context())
	agent := &running{cancel: cancel, code: make(chan int, 1)}
	go func() {
		agent.code <- execute(ctx, []string{"capture", "shop", "--data", s.data, "--resnapshot", "--http", "none"}, strings.NewReader(""), io.Discard, &agent.log)
	}()
	until(t, "10 changes copied", func() bool { return s.copied("paid") == 10 })
	until(t, "running", func() bool { return s.states() == "shop running, copy running" })
	agent.stop(t)
	r.stop(t)
}

// What is wrong from the beginning ends the process with one error that says what to do.
func TestFirstStart(t *testing.T) {
	s := newShop(t)
	s.sql(s.source, `CREATE ROLE weak LOGIN`)
	good := os.Getenv("SHOP_URL")
	for name, c := range map[string]struct{ url, want string }{
		"NoRight":    {strings.Replace(good, "postgres@", "weak@", 1), "weak"},
		"NoDatabase": {strings.Replace(good, "/postgres?", "/nowhere?", 1), "correct the database's name"},
		"NoServer":   {"postgres://postgres@127.0.0.1:1/postgres?sslmode=disable", "refused"},
	} {
		t.Setenv("SHOP_URL", c.url)
		if name == "NoRight" {
			contains(t, "doctor", s.run("doctor", s.file), "role weak may not replicate\n        → ALTER ROLE \"weak\" REPLICATION;",
				`GRANT SELECT ON "public"."orders" TO "weak";`, `CREATE PUBLICATION "runnel_shop" FOR TABLE ONLY "public"."orders"`, "[exit 1]")
		}
		r := startRun(t, s.file, "--data", filepath.Join(t.TempDir(), name))
		if code := r.wait(t); code != exitRuntime {
			t.Errorf("%s: got exit code %d, want %d", name, code, exitRuntime)
		}
		lines := strings.Split(strings.TrimSpace(r.log.String()), "\n")
		contains(t, name, fmt.Sprint(lines), "runnel: source shop: ", c.want)
	}
}
