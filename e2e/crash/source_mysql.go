package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
)

// mysql is MySQL or MariaDB as the source.
type mysql struct{ flavor string }

// runnelUser has the least rights that Runnel asks for.
const runnelUser = "runnel"

func (d *mysql) Start(t servers.TB) *servers.Server {
	if d.flavor == kindMariaDB {
		return servers.MariaDB(t)
	}
	return servers.MySQL8(t)
}

func (d *mysql) Create(ctx context.Context, s *servers.Server) error {
	if err := shop.CreateMySQL(ctx, s.Addr, existing); err != nil {
		return err
	}
	log := "REPLICATION CLIENT"
	if d.flavor == kindMariaDB {
		log = "BINLOG MONITOR"
	}
	return d.exec(ctx, s, "CREATE USER "+runnelUser+"@'%'", "GRANT REPLICATION SLAVE, "+log+" ON *.* TO "+runnelUser+"@'%'", "GRANT SELECT ON shop.* TO "+runnelUser+"@'%'")
}

func (d *mysql) Spec() string { return d.flavor + `: {url: "${SHOP_URL}"}` }

func (d *mysql) Schema() string { return "shop" }

func (d *mysql) URL(address string) string { return "mysql://" + runnelUser + "@" + address }

func (d *mysql) Write(ctx context.Context, s *servers.Server, t *shop.Traffic) error {
	t.URL = s.Addr
	return t.RunMySQL(ctx)
}

func (d *mysql) Truncate(ctx context.Context, s *servers.Server) error {
	return d.use(ctx, s, shop.MySQLUser, func(c *client.Conn) error {
		if _, err := c.Execute(fmt.Sprintf("SET SESSION lock_wait_timeout = %d", truncateWithin/time.Second)); err != nil {
			return err
		}
		_, err := c.Execute("TRUNCATE " + truncatedTable)
		return err
	})
}

func (d *mysql) Sessions(ctx context.Context, s *servers.Server) (int, error) {
	return d.number(ctx, s, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = '"+shop.MySQLUser+"'")
}

func (d *mysql) Probe(ctx context.Context, s *servers.Server) (id int64, err error) {
	return id, d.use(ctx, s, "root", func(c *client.Conn) error {
		if _, err := c.Execute(newTransaction); err != nil {
			return err
		}
		r, err := c.Execute("INSERT INTO orders (customer_id, status, amount) VALUES (1, 'probe', 0)")
		if err == nil {
			id = int64(r.InsertId)
		}
		return err
	})
}

// newTransaction tells the journal that another one begins.
const newTransaction = "SET @txn = UUID_SHORT()"

func (d *mysql) Table(ctx context.Context, s *servers.Server, t shop.Table) (*equal.Table, error) {
	return equal.MySQL(ctx, s.Addr, "shop", t.Name, t.Key)
}

func (d *mysql) Journal(ctx context.Context, s *servers.Server) check.Entries {
	return check.CommittedMySQL(ctx, s.Addr)
}

// Reread are the columns that were added: the journal's triggers do not know them.
func (d *mysql) Reread(tables map[string]*equal.Table) (columns []string) {
	for _, t := range tables {
		for _, c := range t.Columns {
			if strings.HasPrefix(c, extraColumn) {
				columns = append(columns, c)
			}
		}
	}
	return columns
}

func (d *mysql) Sampler(r *check.Recorder, s *servers.Server, end func(context.Context) (uint64, uint64, error)) sampler {
	return &check.MySQLSampler{Recorder: r, Address: s.Addr, End: end}
}

func (d *mysql) Beside(ctx context.Context, s *servers.Server) error {
	return d.exec(ctx, s, "INSERT INTO changes VALUES ()")
}

// Patience: the server ends the session that holds the agent's lock after 30 s. Waiting for that each time would be most of a run.
func (d *mysql) Patience(r *rand.Rand) time.Duration {
	if r.IntN(2) == 0 {
		return frozen
	}
	return 31 * time.Second
}

// Passed throws away the binlogs up to now, as the server does once they have expired; the agent has read them.
func (d *mysql) Passed(ctx context.Context, w *World) error {
	if _, err := w.recovered(ctx); err != nil {
		return err
	}
	return d.purge(ctx, w)
}

// purge throws away all binlogs but the present one. Those that a replica reads at the moment are left.
func (d *mysql) purge(ctx context.Context, w *World) error {
	if err := d.exec(ctx, w.Source, "FLUSH BINARY LOGS"); err != nil {
		return err
	}
	for {
		logs, err := d.texts(ctx, w.Source, "SHOW BINARY LOGS")
		switch {
		case err != nil:
		case len(logs) <= 1:
			return nil
		default:
			err = d.exec(ctx, w.Source, "PURGE BINARY LOGS TO '"+logs[len(logs)-1]+"'")
		}
		if e := pause(ctx, 100*time.Millisecond); e != nil {
			return fmt.Errorf("the binlogs %v are not purged: %w", logs, e)
		}
		if err != nil {
			return err
		}
	}
}

func (d *mysql) Faults() []Fault { return mysqlFaults(d) }

// exec runs statements as root, each as a transaction that the journal knows.
func (d *mysql) exec(ctx context.Context, s *servers.Server, statements ...string) error {
	return d.use(ctx, s, "root", func(c *client.Conn) error {
		for _, sql := range statements {
			for _, sql := range []string{newTransaction, sql} {
				if _, err := c.Execute(sql); err != nil {
					return fmt.Errorf("%.200s: %w", sql, err)
				}
			}
		}
		return nil
	})
}

// number asks for one.
func (d *mysql) number(ctx context.Context, s *servers.Server, sql string) (n int, err error) {
	return n, d.use(ctx, s, "root", func(c *client.Conn) error {
		r, err := c.Execute(sql)
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		v, err := r.GetInt(0, 0)
		n = int(v)
		return err
	})
}

// texts asks for the first column of all rows.
func (d *mysql) texts(ctx context.Context, s *servers.Server, sql string) (all []string, err error) {
	return all, d.use(ctx, s, "root", func(c *client.Conn) error {
		r, err := c.Execute(sql)
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		for i := range r.RowNumber() {
			v, err := r.GetString(i, 0)
			if err != nil {
				return err
			}
			all = append(all, strings.Clone(v))
		}
		return nil
	})
}

// use calls f with a session that ends with ctx.
func (d *mysql) use(ctx context.Context, s *servers.Server, user string, f func(c *client.Conn) error) error {
	c, err := client.ConnectWithContext(ctx, s.Addr, user, "", "", 0)
	if err != nil {
		return fmt.Errorf("reach the source: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Conn.Conn.Close() })()
	if err := c.UseDB("shop"); err != nil {
		return fmt.Errorf("reach the source: %w", err)
	}
	return f(c)
}
