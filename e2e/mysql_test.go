package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
	"github.com/runnel-dev/runnel/runtime/event"
)

// ofMySQL is the specification with MySQL or MariaDB as the source.
func ofMySQL(yaml, flavor string) string {
	return strings.NewReplacer(`postgres: {url: "${SHOP_URL}", heartbeat: 1s}`, flavor+`: {url: "${SHOP_URL}"}`,
		"public.", "shop.", "to: {postgres: {url: \"${WAREHOUSE_URL}\"}}", "to: {postgres: {url: \"${WAREHOUSE_URL}\", table: \"public.{table}\"}}").Replace(yaml)
}

// mysqlPipeline starts source and targets with a filled shop.
func mysqlPipeline(t *testing.T, flavor string, rows int) *pipeline {
	t.Helper()
	p := newPipeline(t, ofMySQL(threeTargets, flavor))
	start := servers.MySQL8
	if flavor == mysql.MariaDB {
		start = servers.MariaDB
	}
	p.source = start(t)
	p.env = append(p.env, "SHOP_URL="+p.source.MySQLURL())
	if err := shop.CreateMySQL(t.Context(), p.source.Addr, rows); err != nil {
		t.Fatal(err)
	}
	return p
}

// mysqlEqual waits until every target equals the source.
func (p *pipeline) mysqlEqual(limit time.Duration) {
	p.t.Helper()
	tables := map[string]*equal.Table{}
	for _, s := range shop.Tables {
		t, err := equal.MySQL(p.t.Context(), p.source.Addr, "shop", s.Name, s.Key)
		if err != nil {
			p.t.Fatal(err)
		}
		tables[s.Name] = t
	}
	var diffs []string
	for end := time.Now().Add(limit); ; <-time.After(300 * time.Millisecond) {
		if diffs = p.differences(tables); len(diffs) == 0 {
			return
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

func (p *pipeline) mysqlTraffic(seed uint64, rate int) (stop func() *shop.Traffic) {
	ctx, cancel := context.WithCancel(p.t.Context())
	t := &shop.Traffic{URL: p.source.Addr, Seed: seed, Rate: rate}
	done := make(chan error, 1)
	go func() { done <- t.RunMySQL(ctx) }()
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

// messages reads the whole stream.
func (p *pipeline) messages() []*event.Message {
	p.t.Helper()
	s := p.stream()
	end, err := s.End(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	var all []*event.Message
	for from := end.First; from <= end.Last; {
		m, err := s.Next(p.t.Context(), ">", from)
		if err != nil {
			p.t.Fatal(err)
		}
		all, from = append(all, m), m.Sequence+1
	}
	return all
}

// The main job with MySQL and MariaDB: existing rows and traffic reach all three targets, through kill -9 at random moments, a new column and
// a TRUNCATE, and the stream holds each change once, in order.
func TestMySQL(t *testing.T) {
	t.Parallel()
	for _, flavor := range []string{mysql.MySQL, mysql.MariaDB} {
		t.Run(flavor, func(t *testing.T) {
			t.Parallel()
			p := mysqlPipeline(t, flavor, 3000)
			p.start()
			stop := p.mysqlTraffic(1, 100)
			r := rand.New(rand.NewPCG(1, 2))
			p.logged("capture started", 60*time.Second)
			for range 8 {
				<-time.After(time.Duration(500+r.IntN(2000)) * time.Millisecond)
				p.kill()
				p.start()
			}
			n := stop()
			t.Logf("8 kills over %d transactions with %d changes", n.Transactions(), n.Changes())
			p.mysqlEqual(120 * time.Second)

			c, err := client.Connect(p.source.Addr, "root", "", "shop")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, sql := range []string{"ALTER TABLE orders ADD COLUMN n bigint unsigned AFTER status", "UPDATE orders SET n = 18446744073709551615",
				"TRUNCATE order_items", "INSERT INTO order_items VALUES (1, 1, 'after', 1, 1)"} {
				if _, err := c.Execute(sql); err != nil {
					t.Fatal(err)
				}
			}
			p.mysqlEqual(60 * time.Second)
			if err := check.Order(p.messages()); err != nil {
				t.Error(err)
			}
			p.stop()
		})
	}
}

// TestMySQLDoctor: what a source lacks is told with the statement that changes it.
func TestMySQLDoctor(t *testing.T) {
	t.Parallel()
	s := servers.MySQL8(t, "--binlog-row-image=MINIMAL")
	c, err := client.Connect(s.Addr, "root", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, sql := range []string{"CREATE DATABASE shop", "CREATE TABLE shop.loose (id int)", "CREATE USER reader@'%' IDENTIFIED WITH mysql_native_password BY 'secret'"} {
		if _, err := c.Execute(sql); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	yaml := dir + "/s.yaml"
	if err := os.WriteFile(yaml, []byte("kind: source\nname: shop\nmysql: {url: \"${SHOP_URL}\"}\ntables: [shop.*]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &pipeline{t: t, program: binary, dir: dir}
	look := func(user string) string {
		p.env = append(os.Environ(), "SHOP_URL=mysql://"+user+"@"+s.Addr)
		out, err := p.output("doctor", yaml)
		return fmt.Sprint(out, err)
	}
	for _, want := range []string{"SET GLOBAL binlog_row_image = 'FULL'", "no primary key"} {
		if out := look("root"); !strings.Contains(out, want) {
			t.Errorf("doctor: want %q in\n%s", want, out)
		}
	}
	out := look("reader:secret")
	if !bytes.Contains([]byte(out), []byte("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'reader'@'%'")) || strings.Contains(out, "secret") {
		t.Errorf("doctor of a user without rights:\n%s", out)
	}
}
