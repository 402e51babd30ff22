package e2e_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
)

// ofMySQL is the specification with MySQL or MariaDB as the source.
func ofMySQL(yaml, flavor string) string {
	return strings.NewReplacer(`postgres: {url: "${SHOP_URL}", heartbeat: 1s}`, flavor+`: {url: "${SHOP_URL}"}`,
		"public.", "shop.", "to: {postgres: {url: \"${WAREHOUSE_URL}\"}}", "to: {postgres: {url: \"${WAREHOUSE_URL}\", table: \"public.{table}\"}}").Replace(yaml)
}

// mysqlPipeline starts source and targets with a filled shop.
func mysqlPipeline(t *testing.T, flavor, yaml string, rows int, args ...string) *pipeline {
	t.Helper()
	start := servers.MySQL8
	if flavor == mysql.MariaDB {
		start = servers.MariaDB
	}
	source := start(t, args...)
	if err := shop.CreateMySQL(t.Context(), source.Addr, rows); err != nil {
		t.Fatal(err)
	}
	return pipelineOf(t, ofMySQL(yaml, flavor), flavor, source, source.MySQLURL())
}

var kills = flag.Int("kills", 20, "TestMySQL: how often runnel is killed with each kind of source")

// kill -9 at random moments under load, with MySQL and MariaDB as the source: afterwards each target equals the source, and the stream
// holds every committed change exactly once, in order; also after a new column and a TRUNCATE.
func TestMySQL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, flavor, yaml string
		args               []string
	}{
		{mysql.MySQL, mysql.MySQL, threeTargets, nil},
		{mysql.MariaDB, mysql.MariaDB, threeTargets, nil},
		{"places", mysql.MySQL, threeTargets, []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := mysqlPipeline(t, tt.flavor, tt.yaml, 3000, tt.args...)
			judge := p.watch()
			p.start()
			p.logged("capture started", 60*time.Second)
			stop := p.traffic(1, 100)
			r := rand.New(rand.NewPCG(1, 2))
			for range *kills {
				<-time.After(time.Duration(100+r.IntN(700)) * time.Millisecond)
				p.kill()
				p.start()
			}
			n := stop()
			t.Logf("%d kills over %d transactions with %d changes", *kills, n.Transactions(), n.Changes())
			p.equal(120 * time.Second)
			judge()

			err := shop.ExecMySQL(t.Context(), p.source.Addr, "ALTER TABLE orders ADD COLUMN n bigint unsigned AFTER status", "UPDATE orders SET n = 18446744073709551615",
				"TRUNCATE order_items", "INSERT INTO order_items (order_id, line, sku, quantity, price) VALUES (1, 1, 'after', 1, 1)")
			if err != nil {
				t.Fatal(err)
			}
			p.equal(60 * time.Second)
			all, err := check.Read(t.Context(), p.stream(), "shop")
			if err == nil {
				err = check.Order(all)
			}
			if err != nil {
				t.Error(err)
			}
			p.stop()
		})
	}
}

// What cannot be read exactly halts the source on the very event: all before it arrives, nothing of it, and --resnapshot goes on behind it.
func TestMySQLUnreadable(t *testing.T) {
	t.Parallel()
	p := mysqlPipeline(t, mysql.MySQL, oneTarget, 100)
	exec := func(sql ...string) {
		t.Helper()
		if err := shop.ExecMySQL(t.Context(), p.source.Addr, sql...); err != nil {
			t.Fatal(err)
		}
	}
	p.start()
	p.equal(60 * time.Second)
	exec("CREATE TABLE aside (id int PRIMARY KEY)", "UPDATE orders SET status = 'before' WHERE id = 1", "INSERT INTO aside VALUES (1)",
		"SET SESSION binlog_row_image = 'MINIMAL'", "UPDATE orders SET status = 'minimal' WHERE id = 2", "SET SESSION binlog_row_image = 'FULL'", "UPDATE orders SET status = 'after' WHERE id = 3")
	p.logged("capture halted", 60*time.Second)
	p.failedOnce("gap: ", "binlog_row_image = 'FULL'", "--resnapshot")
	p.eventually("what came before is in the target", 30*time.Second, func() bool {
		var before, later int
		err := p.connect(p.target.PostgresURL()).QueryRow(t.Context(), "SELECT count(*) FILTER (WHERE status = 'before'), count(*) FILTER (WHERE status IN ('minimal', 'after')) FROM orders").Scan(&before, &later)
		return err == nil && before == 1 && later == 0
	})
	p.stop()
	p.start() // however often it is tried
	p.eventually("it halts again", 60*time.Second, func() bool { return strings.Count(p.log.String(), "capture halted") == 2 })
	p.stop()
	p.flags = []string{"--resnapshot"}
	p.start()
	p.equal(60 * time.Second)
	p.stop()
	p.flags = nil
	p.start()
	exec("UPDATE orders SET status = 'later' WHERE id < 4")
	p.equal(60 * time.Second)
	p.stop()
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
