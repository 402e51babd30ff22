package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// pipeline is one `runnel run` with its source and its targets.
type pipeline struct {
	t       *testing.T
	name    string // unique in the shared targets
	flavor  string // of the source: mysql, mariadb, or nothing, which is PostgreSQL
	source  *servers.Server
	target  *servers.Server
	dir     string
	yaml    string
	env     []string
	program string // the binary
	flags   []string

	cmd  *exec.Cmd
	done chan struct{}
	err  error
	log  syncBuffer
}

// syncBuffer keeps the process's output.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const threeTargets = `kind: source
name: shop
postgres: {url: "${SHOP_URL}", heartbeat: 1s}
tables: [public.customers, public.orders, public.order_items]
---
kind: function
name: search
from: shop.public.*
to: {elasticsearch: {url: "${SEARCH_URL}", index: "NAME-{table}"}}
---
kind: function
name: analytics
from: shop.public.*
to: {clickhouse: {url: "${ANALYTICS_URL}", table: "NAME_{table}"}}
---
kind: function
name: warehouse
from: shop.public.*
to: {postgres: {url: "${WAREHOUSE_URL}"}}
`

const oneTarget = `kind: source
name: shop
postgres: {url: "${SHOP_URL}", heartbeat: 1s}
tables: [public.customers, public.orders, public.order_items]
---
kind: function
name: warehouse
from: shop.public.*
to: {postgres: {url: "${WAREHOUSE_URL}"}}
`

// newPipeline starts source and target and writes the specification; runnel is not started yet.
func newPipeline(t *testing.T, yaml string, conf ...string) *pipeline {
	t.Helper()
	source := servers.Postgres(t, 17, conf...)
	return pipelineOf(t, yaml, "", source, source.PostgresURL())
}

// pipelineOf is newPipeline with a source that runs.
func pipelineOf(t *testing.T, yaml, flavor string, source *servers.Server, url string) *pipeline {
	t.Helper()
	p := &pipeline{t: t, name: strings.ToLower(strings.NewReplacer("/", "_", "Test", "").Replace(t.Name())), program: binary, flavor: flavor, source: source}
	p.target = servers.Postgres(t, 15)
	p.dir = t.TempDir()
	p.env = append(os.Environ(), "SHOP_URL="+url, "WAREHOUSE_URL="+p.target.PostgresURL())
	if strings.Contains(yaml, "SEARCH_URL") {
		needServers(t)
		p.env = append(p.env, "SEARCH_URL="+elasticsearch())
	}
	if strings.Contains(yaml, "ANALYTICS_URL") {
		p.env = append(p.env, "ANALYTICS_URL="+clickhouse()+"/default")
	}
	p.env = append(p.env, "GORACE=exitcode=0 log_path="+p.dir+"/race")
	p.specify(yaml)
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
		for _, race := range races(t, p.dir) {
			t.Error(race)
		}
		if t.Failed() {
			log := p.log.String()
			t.Logf("runnel:\n%s", log[max(0, len(log)-6000):])
		}
	})
	return p
}

func (p *pipeline) specify(yaml string) {
	p.t.Helper()
	p.yaml = filepath.Join(p.dir, "shop.yaml")
	if err := os.WriteFile(p.yaml, []byte(strings.ReplaceAll(yaml, "NAME", p.name)), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// fill makes the shop's tables with rows.
func (p *pipeline) fill(rows int) {
	p.t.Helper()
	if err := shop.Create(p.t.Context(), p.connect(p.source.PostgresURL()), rows); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pipeline) connect(url string) *pgx.Conn {
	p.t.Helper()
	c, err := pgx.Connect(p.t.Context(), url)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func (p *pipeline) exec(url string, sql ...string) {
	p.t.Helper()
	c := p.connect(url)
	for _, s := range sql {
		if _, err := c.Exec(p.t.Context(), s); err != nil {
			p.t.Fatalf("%s: %v", s, err)
		}
	}
}

// start runs `runnel run`.
func (p *pipeline) start() {
	p.t.Helper()
	p.command(append([]string{"run", p.yaml, "--data", p.dir + "/data"}, p.flags...)...)
}

// command starts any runnel command in the background.
func (p *pipeline) command(args ...string) {
	p.t.Helper()
	cmd := exec.Command(p.program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, &p.log, &p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { p.err = cmd.Wait(); close(done) }()
	p.cmd, p.done = cmd, done
}

// output runs a runnel command to its end.
func (p *pipeline) output(args ...string) (string, error) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), p.program, append(args, "--data", p.dir+"/data")...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (p *pipeline) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
	p.cmd = nil
}

// stop ends it as an operator does; it must drain and exit with 0.
func (p *pipeline) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
		if p.err != nil {
			p.t.Errorf("runnel ended: %v", p.err)
		}
	case <-time.After(30 * time.Second):
		p.t.Error("runnel did not stop within 30 s of SIGINT")
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.done
	}
	p.cmd = nil
}

// eventually polls until f is true.
func (p *pipeline) eventually(what string, limit time.Duration, f func() bool) {
	p.t.Helper()
	for end := time.Now().Add(limit); !f(); {
		if time.Now().After(end) {
			p.t.Fatalf("not within %v: %s", limit, what)
		}
		select {
		case <-p.closed():
			if p.cmd != nil {
				p.t.Fatalf("runnel ended while waiting for %s: %v", what, p.err)
			}
		default:
		}
		pause()
	}
}

func (p *pipeline) closed() chan struct{} {
	if p.cmd == nil {
		return nil
	}
	return p.done
}

// pause is the interval of polling.
func pause() { <-time.After(20 * time.Millisecond) }

// logged waits for a text in runnel's output.
func (p *pipeline) logged(text string, limit time.Duration) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("%q in the log", text), limit, func() bool { return strings.Contains(p.log.String(), text) })
}

// slot waits until the source's slot exists: what is written from now on is in the log.
func (p *pipeline) slot() {
	p.t.Helper()
	c := p.connect(p.source.PostgresURL())
	p.eventually("the slot", 30*time.Second, func() bool {
		var n int
		return c.QueryRow(p.t.Context(), "select count(*) from pg_replication_slots where slot_name = 'runnel_shop' and confirmed_flush_lsn is not null").Scan(&n) == nil && n == 1
	})
}

// tables reads the source.
func (p *pipeline) tables() map[string]*equal.Table {
	p.t.Helper()
	out := map[string]*equal.Table{}
	for _, s := range shop.Tables {
		var t *equal.Table
		var err error
		if p.flavor == "" {
			t, err = equal.Source(p.t.Context(), p.source.PostgresURL(), s.Name, s.Key)
		} else {
			t, err = equal.MySQL(p.t.Context(), p.source.Addr, "shop", s.Name, s.Key)
		}
		if err != nil {
			p.t.Fatal(err)
		}
		out[s.Name] = t
	}
	return out
}

// differences compares every row of every table with the targets of the specification.
func (p *pipeline) differences(tables map[string]*equal.Table) []string {
	ctx := p.t.Context()
	var all []string
	note := func(target string, t *equal.Table, rows equal.Rows, err error) {
		if err != nil {
			all = append(all, fmt.Sprintf("%s: %s: %v", target, t.Name, err))
			return
		}
		all = append(all, t.Diff(target, rows, 5)...)
	}
	spec, err := os.ReadFile(p.yaml)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, t := range tables {
		rows, err := t.Postgres(ctx, p.target.PostgresURL(), "public", t.Name)
		note("postgres", t, rows, err)
		if bytes.Contains(spec, []byte("clickhouse:")) {
			rows, err := t.ClickHouse(ctx, clickhouse(), p.name+"_"+t.Name)
			note("clickhouse", t, rows, err)
		}
		if bytes.Contains(spec, []byte("elasticsearch:")) {
			rows, err := t.Elasticsearch(ctx, elasticsearch(), "", p.name+"-"+t.Name)
			note("elasticsearch", t, rows, err)
		}
	}
	return all
}

// equal waits until every target equals the source, which nobody changes any more.
func (p *pipeline) equal(limit time.Duration) map[string]*equal.Table {
	p.t.Helper()
	tables := p.tables()
	var diffs []string
	for end := time.Now().Add(limit); ; <-time.After(300 * time.Millisecond) {
		if diffs = p.differences(tables); len(diffs) == 0 {
			return tables
		}
		if time.Now().After(end) {
			p.t.Fatalf("after %v:\n%s", limit, strings.Join(diffs, "\n"))
		}
		select {
		case <-p.closed():
			p.t.Fatalf("runnel ended: %v", p.err)
		default:
		}
	}
}

// traffic writes until the returned function is called; that returns what was done.
func (p *pipeline) traffic(seed uint64, rate int) (stop func() *shop.Traffic) {
	ctx, cancel := context.WithCancel(p.t.Context())
	t := &shop.Traffic{Seed: seed, Rate: rate}
	run := t.Run
	if p.flavor == "" {
		t.URL = p.source.PostgresURL()
	} else {
		t.URL, run = p.source.Addr, t.RunMySQL
	}
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	p.t.Cleanup(cancel)
	return func() *shop.Traffic {
		p.t.Helper()
		cancel()
		if err := <-done; err != nil {
			p.t.Fatal(err)
		}
		return t
	}
}

// stream opens the stream of the running runnel.
func (p *pipeline) stream() *stream.Stream {
	p.t.Helper()
	b, err := os.ReadFile(p.dir + "/data/nats.json")
	if err != nil {
		p.t.Fatal(err)
	}
	var a struct{ URL, User, Password string }
	if err := json.Unmarshal(b, &a); err != nil {
		p.t.Fatal(err)
	}
	c, err := stream.Connect(p.t.Context(), stream.Config{URL: a.URL, User: a.User, Password: a.Password, Name: "e2e"})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	s, err := stream.Open(p.t.Context(), c, "shop")
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}
