package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
)

type demo struct {
	dir      string
	source   string // postgres, mysql or mariadb
	server   *servers.Server
	rows     int
	rate     int
	length   time.Duration
	terminal bool

	env                       map[string]string
	elasticsearch, clickhouse string // base URLs; no Elasticsearch without Java
	cleanups                  []func()
	cmd                       *exec.Cmd
	ended                     chan error
}

// fatal is how a server that does not start ends the demo.
type fatal string

// The methods that servers need of a test.
func (d *demo) Helper()                   {}
func (d *demo) Failed() bool              { return false }
func (d *demo) Logf(f string, a ...any)   { d.say(f, a...) }
func (d *demo) Fatal(a ...any)            { panic(fatal(fmt.Sprint(a...))) }
func (d *demo) Fatalf(f string, a ...any) { panic(fatal(fmt.Sprintf(f, a...))) }
func (d *demo) Skipf(f string, a ...any)  { panic(fatal(fmt.Sprintf(f, a...))) }
func (d *demo) Cleanup(f func())          { d.cleanups = append(d.cleanups, f) }

func (d *demo) cleanup() {
	if d.cmd != nil {
		d.kill()
	}
	for i := len(d.cleanups) - 1; i >= 0; i-- {
		d.cleanups[i]()
	}
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "demo: "+format+"\n", args...)
}

const specs = `# One source and a function for each target. Secrets come from the environment.
kind: source
name: shop
postgres: {url: "${SHOP_URL}"}
tables: [public.customers, public.orders, public.order_items]
---
kind: function
name: analytics
from: shop.public.*
to: {clickhouse: {url: "${ANALYTICS_URL}"}}
---
kind: function
name: warehouse
from: shop.public.*
to: {postgres: {url: "${WAREHOUSE_URL}"}}
`

const search = `---
kind: function
name: search
from: shop.public.*
to: {elasticsearch: {url: "${SEARCH_URL}", index: "shop-{table}"}}
`

// prepare starts the servers, fills the shop and writes the specifications.
func (d *demo) prepare(ctx context.Context) error {
	name, url, err := d.startSource()
	if err != nil {
		return err
	}
	d.say("started %s (the shop); starting PostgreSQL 18 (the warehouse), ClickHouse and Elasticsearch", name)
	target := servers.Postgres(d, 18)
	click, _ := servers.ClickHouse(d)
	d.clickhouse = "http://" + click.Addr
	d.env = map[string]string{"SHOP_URL": url, "WAREHOUSE_URL": target.PostgresURL(), "ANALYTICS_URL": d.clickhouse + "/default"}
	yaml := specs
	if servers.HasElasticsearch() {
		d.elasticsearch = "http://" + servers.Elasticsearch(d, "").Addr
		d.env["SEARCH_URL"] = d.elasticsearch
		yaml += search
	} else {
		d.say("no Java on this machine: going on without Elasticsearch")
	}
	if err := os.RemoveAll(filepath.Join(d.dir, "data")); err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, "shop.yaml"), []byte(d.spec(yaml)), 0o644); err != nil {
		return err
	}
	os.Remove(filepath.Join(d.dir, "runnel.log"))
	d.say("filling the shop with %d rows", d.rows)
	return d.fill(ctx)
}

// start runs `runnel run`. On a terminal it shows its progress; otherwise its log goes to a file.
func (d *demo) start() error {
	cmd := exec.Command(filepath.Join(d.dir, "runnel"), "run", filepath.Join(d.dir, "shop.yaml"), "--data", filepath.Join(d.dir, "data"))
	cmd.Env = os.Environ()
	for k, v := range d.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if !d.terminal {
		log, err := os.OpenFile(filepath.Join(d.dir, "runnel.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.say("runnel run %s (pid %d)", filepath.Join(d.dir, "shop.yaml"), cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	d.cmd, d.ended = cmd, ended
	return nil
}

func (d *demo) kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended //nolint:errcheck // it was killed
	d.cmd = nil
}

// stop asks runnel to end and expects it to do so cleanly.
func (d *demo) stop() error {
	_ = d.cmd.Process.Signal(os.Interrupt)
	select {
	case err := <-d.ended:
		d.cmd = nil
		if err != nil {
			return fmt.Errorf("runnel ended: %w", err)
		}
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("runnel did not stop within 20 s of SIGINT")
	}
}

type running struct {
	t    *shop.Traffic
	stop func() error
}

func (d *demo) traffic(ctx context.Context) running {
	ctx, cancel := context.WithCancel(ctx)
	t := &shop.Traffic{URL: d.env["SHOP_URL"], Seed: 1, Rate: d.rate}
	work := t.Run
	if d.source != postgres {
		t.URL, work = d.server.Addr, t.RunMySQL
	}
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	d.say("traffic: %d transactions a second", d.rate)
	return running{t, func() error { cancel(); return <-done }}
}

// compare reads every row of every table from source and targets until all are equal or the time is over.
func (d *demo) compare(ctx context.Context, limit time.Duration) (verdict string, diffs []string, err error) {
	tables := make([]*equal.Table, len(shop.Tables))
	total := 0
	for i, t := range shop.Tables {
		if tables[i], err = d.table(ctx, t); err != nil {
			return "", nil, err
		}
		total += len(tables[i].Rows)
	}
	type target struct {
		name string
		read func(*equal.Table) (equal.Rows, error)
	}
	targets := []target{
		{"clickhouse", func(t *equal.Table) (equal.Rows, error) { return t.ClickHouse(ctx, d.clickhouse, t.Name) }},
		{"postgres", func(t *equal.Table) (equal.Rows, error) {
			return t.Postgres(ctx, d.env["WAREHOUSE_URL"], "public", t.Name)
		}},
	}
	if d.elasticsearch != "" {
		targets = append([]target{{"elasticsearch", func(t *equal.Table) (equal.Rows, error) {
			return t.Elasticsearch(ctx, d.elasticsearch, "", "shop-"+t.Name)
		}}}, targets...)
	}
	for end := time.Now().Add(limit); ; {
		var counts []string
		diffs = nil
		for _, target := range targets {
			n := 0
			for _, t := range tables {
				rows, err := target.read(t)
				if err != nil {
					diffs = append(diffs, fmt.Sprintf("%s: %s: %v", target.name, t.Name, err))
					continue
				}
				n += len(rows)
				diffs = append(diffs, t.Diff(target.name, rows, 5)...)
			}
			counts = append(counts, fmt.Sprintf("%s %d rows", target.name, n))
		}
		if len(diffs) == 0 || time.Now().After(end) {
			return strings.Join(counts, ", "), diffs, nil
		}
		select {
		case err := <-d.ended:
			d.cmd = nil
			return "", nil, fmt.Errorf("runnel ended: %w", err)
		case <-time.After(time.Second):
		}
	}
}
