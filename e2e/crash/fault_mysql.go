package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/shop"
)

// mysqlFaults are troubles of MySQL or MariaDB as the source. As with PostgreSQL those of the first kinds pass by themselves; past the last
// ones goes an operator.
func mysqlFaults(d *mysql) []Fault {
	all := []Fault{
		{
			Name: "source.restart", What: "an orderly shutdown of the source, and its start",
			Exclusive: true,
			Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
				w.Source.Stop(syscall.SIGTERM)
				return w.startSource(ctx, r)
			},
		},
		{
			Name: "source.crash", What: "the source is killed and recovers",
			Exclusive: true,
			Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
				w.Source.Kill()
				return w.startSource(ctx, r)
			},
		},
		{
			Name: "source.sessions", What: "the source ends the agent's sessions, several times: that which reads the log, and those for queries",
			Inject: d.endSessions,
		},
		{
			Name: "source.failover", What: "a replica with other binlogs takes over from a primary that is shut down or killed: the agent goes on there by GTID, without a gap",
			Exclusive: true,
			Inject:    d.failover,
		},
		{
			Name: "source.rotated", What: "binlogs are rotated again and again, and purged once they were read, while the agent is restarted: no gap",
			Exclusive: true,
			Inject:    d.rotate,
		},
		{
			Name: "source.neighbour", What: "the captured tables are idle while another database of the server writes, and the binlogs are purged: the agent has moved on, and no gap is told",
			Exclusive: true,
			Inject:    d.neighbour,
		},
		{Name: "source.long", What: "a transaction is open for seconds, with savepoints, while others commit around it", Inject: d.long},
		{
			Name: "source.huge", What: "one transaction inserts 10,000 rows, which the next TRUNCATE of the traffic removes",
			Exclusive: true,
			Inject:    d.huge,
		},
		{Name: "source.columns", What: "a column is added under load, first, last or in between, written, and mostly dropped again: targets follow", Inject: d.columns},
	}
	if d.flavor == kindMariaDB {
		all = append(all, Fault{
			Name: "source.synchronous", What: "commits wait for a semi-synchronous replica that is away, again and again, while tables are read: they are in the log before they are visible",
			Exclusive: true,
			Inject:    d.synchronous,
		})
	}
	return append(all, []Fault{
		{
			Name: "source.purged", What: "binlogs are purged while no agent runs, which had not read them: a gap, which the agent does not pass by itself",
			Exclusive: true,
			Inject:    d.purgeUnread,
		},
		{
			Name: "source.behind", What: "the primary is killed, and a replica takes over that lacks transactions which were published: a gap",
			Exclusive: true,
			Inject:    d.failBehind,
		},
		{
			Name: "source.restored", What: "the source's data are replaced by a copy of some seconds before: a gap",
			Exclusive: true,
			Inject:    d.restore,
		},
	}...)
}

func (d *mysql) endSessions(ctx context.Context, w *World, r *rand.Rand) error {
	for range 1 + r.IntN(5) {
		ids, err := d.texts(ctx, w.Source, "SELECT id FROM information_schema.processlist WHERE user = '"+runnelUser+"'")
		if err != nil {
			return err
		}
		for _, id := range ids {
			_ = d.exec(ctx, w.Source, "KILL "+id) // it may have ended
		}
		if err := pause(ctx, between(r, 50*time.Millisecond, 1500*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

func (d *mysql) failover(ctx context.Context, w *World, r *rand.Rand) error {
	old := w.Source
	replica := old.MySQLReplica(w)
	if _, err := w.recovered(ctx); err != nil { // the agent has read more than the binlogs that the copy left behind
		return err
	}
	if err := pause(ctx, between(r, 0, 2*time.Second)); err != nil {
		return err
	}
	replica.MySQLPromote(w, old)
	if r.IntN(2) == 0 {
		old.Stop(syscall.SIGTERM)
	} else {
		old.Kill()
	}
	w.moveSource(replica)
	return nil
}

func (d *mysql) rotate(ctx context.Context, w *World, r *rand.Rand) error {
	for range 3 + r.IntN(5) {
		if err := d.exec(ctx, w.Source, "FLUSH BINARY LOGS"); err != nil {
			return err
		}
		if err := pause(ctx, between(r, 0, 300*time.Millisecond)); err != nil {
			return err
		}
	}
	if err := d.Passed(ctx, w); err != nil {
		return err
	}
	return w.startedAgain(ctx)
}

// startedAgain restarts the agent: it goes on without a gap.
func (w *World) startedAgain(ctx context.Context) error {
	defer own(w.Agents)()
	w.mark()
	if err := w.Agent().Restart(ctx, Life{}); err != nil {
		return err
	}
	text, err := w.AwaitLog(ctx, w.Agents, "gap: ", "capture started")
	if err == nil && text == "gap: " {
		err = errors.New("the agent tells a gap where there is none")
	}
	return err
}

func (d *mysql) neighbour(ctx context.Context, w *World, _ *rand.Rand) error {
	if err := w.Traffic.Pause(ctx); err != nil {
		return err
	}
	defer w.Traffic.Resume()
	if _, err := w.recovered(ctx); err != nil {
		return err
	}
	if err := d.exec(ctx, w.Source, "CREATE DATABASE IF NOT EXISTS neighbour", "CREATE TABLE IF NOT EXISTS neighbour.a (n int, x varchar(200))",
		"INSERT INTO neighbour.a SELECT n, REPEAT('x', 200) FROM "+numbers(30_000), "TRUNCATE neighbour.a"); err != nil {
		return err
	}
	number, err := d.newest(ctx, w)
	if err != nil {
		return err
	}
	server := w.reader()
	defer server.Close()
	for { // the agent publishes that it has come past
		if reached, _, err := server.End(ctx); err == nil && reached >= number {
			break
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("while the captured tables are idle the stream does not come past transaction %d: %w", number, err)
		}
	}
	if err := d.purge(ctx, w); err != nil {
		return err
	}
	return w.startedAgain(ctx)
}

// newest is the number of the last transaction that the source has executed itself.
func (d *mysql) newest(ctx context.Context, w *World) (uint64, error) {
	sql := "SELECT SUBSTRING_INDEX(@@GLOBAL.gtid_binlog_pos, '-', -1) + 0"
	if d.flavor == kindMySQL {
		sql = "SELECT SUBSTRING_INDEX(SUBSTRING_INDEX(SUBSTRING_INDEX(SUBSTRING_INDEX(@@GLOBAL.gtid_executed, @@GLOBAL.server_uuid, -1), ',', 1), ':', -1), '-', -1) + 0"
	}
	n, err := d.number(ctx, w.Source, sql)
	return uint64(n), err
}

// numbers is a table of that many of them, up to a million, in the column n.
func numbers(n int) string {
	const digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)"
	return fmt.Sprintf("(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d n FROM %[1]s a, %[1]s b, %[1]s c, %[1]s e, %[1]s f HAVING n < %d) numbers", digits, n)
}

func (d *mysql) long(ctx context.Context, w *World, r *rand.Rand) error {
	for {
		err := d.use(ctx, w.Source, "root", func(c *client.Conn) error {
			run := func(statements ...string) error {
				for _, sql := range statements {
					if _, err := c.Execute(sql); err != nil {
						return fmt.Errorf("%s: %w", sql, err)
					}
				}
				return nil
			}
			if err := run(newTransaction, "BEGIN"); err != nil {
				return err
			}
			for i := range 6 {
				if err := run("SAVEPOINT s", fmt.Sprintf("INSERT INTO orders (customer_id, status, amount) SELECT %d, 'long', n FROM %s", i, numbers(50)),
					fmt.Sprintf("UPDATE customers SET balance = balance + 1 WHERE id BETWEEN %d AND %d", 500+i*10, 505+i*10)); err != nil {
					return err
				}
				if r.IntN(3) == 0 {
					if err := run("ROLLBACK TO SAVEPOINT s"); err != nil {
						return err
					}
				}
				if err := pause(ctx, between(r, 100*time.Millisecond, 1200*time.Millisecond)); err != nil {
					return err
				}
			}
			return run("COMMIT")
		})
		if !shop.MySQLDisturbed(err) {
			return err
		}
	}
}

func (d *mysql) huge(ctx context.Context, w *World, r *rand.Rand) error {
	return d.exec(ctx, w.Source, fmt.Sprintf("INSERT INTO order_items (order_id, line, sku, quantity, price) SELECT %d + n, 1, 'huge', n %% 1000, 1 FROM %s", (1+r.Int64N(1e6))*1e6, numbers(10_000)))
}

// extraColumn begins the names of columns that are added.
const extraColumn = "extra_"

func (d *mysql) columns(ctx context.Context, w *World, r *rand.Rand) error {
	column := fmt.Sprintf("%s%d", extraColumn, w.others.Add(1)) // a name that comes back would find its old values in the targets
	kind := []string{"int unsigned", "varchar(40)", "decimal(20,5)", "datetime(3)", "json"}[r.IntN(5)]
	value := map[string]string{"int unsigned": "%d", "varchar(40)": "'v%d'", "decimal(20,5)": "%d.5", "datetime(3)": "NOW(3) + INTERVAL %d SECOND", "json": `'{"n": %d}'`}[kind]
	place := []string{"", " FIRST", " AFTER status"}[r.IntN(3)]
	if err := d.exec(ctx, w.Source, fmt.Sprintf("ALTER TABLE orders ADD COLUMN %s %s%s", column, kind, place)); err != nil {
		return err
	}
	for i := range 5 + r.IntN(10) {
		err := d.exec(ctx, w.Source, fmt.Sprintf("UPDATE orders SET %s = "+value+" WHERE id %% 50 = %d", column, i, i))
		if err != nil && !shop.MySQLDisturbed(err) {
			return err
		}
		if err := pause(ctx, between(r, 0, 100*time.Millisecond)); err != nil {
			return err
		}
	}
	if r.IntN(3) == 0 {
		return nil
	}
	return d.exec(ctx, w.Source, "ALTER TABLE orders DROP COLUMN "+column)
}

func (d *mysql) synchronous(ctx context.Context, w *World, r *rand.Rand) error {
	if err := w.Resnapshot(ctx); err != nil {
		return err
	}
	for range 8 {
		held := between(r, 50*time.Millisecond, 1500*time.Millisecond)
		err := d.exec(ctx, w.Source, "SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC'", "SET GLOBAL rpl_semi_sync_master_timeout = 60000", "SET GLOBAL rpl_semi_sync_master_enabled = ON")
		if err == nil {
			err = pause(ctx, held)
		}
		if e := d.exec(context.WithoutCancel(ctx), w.Source, "SET GLOBAL rpl_semi_sync_master_enabled = OFF"); err == nil {
			err = e
		}
		if err == nil {
			err = pause(ctx, between(r, 0, 300*time.Millisecond))
		}
		if err != nil {
			return err
		}
	}
	_, err := w.AwaitLog(ctx, w.Agents, "load finished")
	return err
}

func (d *mysql) purgeUnread(ctx context.Context, w *World, r *rand.Rand) error {
	from, err := w.flowing(ctx)
	if err != nil {
		return err
	}
	release := w.Hold(w.Agents...)
	err = pause(ctx, between(r, 200*time.Millisecond, 2*time.Second))
	if err == nil {
		err = d.exec(ctx, w.Source, "INSERT INTO orders (customer_id, status, amount) VALUES (1, 'unseen', 1)")
	}
	if err == nil {
		err = d.purge(ctx, w)
	}
	release()
	if err != nil {
		return err
	}
	if err := w.mend(ctx); err != nil {
		return err
	}
	w.allow("", from, "binlogs were purged that were not read", check.Lost, check.Undurable)
	return nil
}

func (d *mysql) failBehind(ctx context.Context, w *World, r *rand.Rand) error {
	old := w.Source
	replica := old.MySQLReplica(w)
	if _, err := w.recovered(ctx); err != nil {
		return err
	}
	replica.MySQLPromote(w, nil)
	from, err := w.flowing(ctx) // what is published now the replica lacks
	if err != nil {
		return err
	}
	from = from.Add(-time.Minute) // it may lack more than that
	if err := pause(ctx, between(r, 0, 2*time.Second)); err != nil {
		return err
	}
	if err := w.Traffic.Pause(ctx); err != nil {
		return err
	}
	resumed := false
	defer func() {
		if !resumed {
			w.Traffic.Resume()
		}
	}()
	n, err := d.number(ctx, old, "SELECT MAX(n) FROM changes")
	if err != nil {
		return err
	}
	old.Kill()
	w.moveSource(replica)
	// Checkers know changes by numbers, which must not come a second time.
	if err := d.exec(ctx, replica, fmt.Sprintf("ALTER TABLE changes AUTO_INCREMENT = %d", n+1000)); err != nil {
		return err
	}
	resumed = true
	w.Traffic.Resume() // MariaDB's replica gives the numbers of what it lacks to others
	if err := w.mend(ctx); err != nil {
		return err
	}
	w.wentBack(from, "a replica without all transactions took over")
	return nil
}

func (d *mysql) restore(ctx context.Context, w *World, r *rand.Rand) error {
	from := time.Now()
	copied := w.Source.MySQLBackup(w)
	if err := pause(ctx, between(r, time.Second, 3*time.Second)); err != nil {
		return err
	}
	if _, err := w.recovered(ctx); err != nil {
		return err
	}
	if err := w.Traffic.Pause(ctx); err != nil {
		return err
	}
	resumed := false
	defer func() {
		if !resumed {
			w.Traffic.Resume()
		}
	}()
	n, err := d.number(ctx, w.Source, "SELECT MAX(n) FROM changes")
	if err != nil {
		return err
	}
	w.Source.MySQLRestore(w, copied)
	if err := d.exec(ctx, w.Source, fmt.Sprintf("ALTER TABLE changes AUTO_INCREMENT = %d", n+1000)); err != nil {
		return err
	}
	// It gives the names of the transactions that it lacks to others, so the agent must see the gap before anybody writes on.
	if err := w.passGap(ctx); err != nil {
		return err
	}
	resumed = true
	w.Traffic.Resume()
	if err := w.settled(ctx, w.Targets...); err != nil {
		return err
	}
	w.wentBack(from, "the source was restored to the past")
	return nil
}

// wentBack declares what comes of a source that lacks what was published.
func (w *World) wentBack(from time.Time, why string) {
	w.allow("", from, why, check.Duplicated, check.Disordered, check.Backwards, check.Undurable)
}
