package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
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
		{
			Name: "source.swapped", What: "a table is replaced as gh-ost and pt-online-schema-change do it: a shadow table with one column more takes its name",
			Exclusive: true,
			Inject:    d.swap,
		},
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
