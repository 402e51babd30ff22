package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/check"
)

// sourceFaults are troubles of the source. Those of the first kind pass by themselves; past the others, which lose what the
// stream would have to hold, goes an operator, and then every target equals the source again.
var sourceFaults = slices.Concat(passingSourceFaults, loadFaults, gapFaults)

var passingSourceFaults = []Fault{
	{
		Name: "source.restart", What: "a fast shutdown of the source, and its start",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			w.Source.Stop(syscall.SIGINT)
			return w.startSource(ctx, r)
		},
	},
	{
		Name: "source.crash", What: "the source is killed, with all its processes, and recovers",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			w.Source.Kill()
			return w.startSource(ctx, r)
		},
	},
	{
		Name: "source.sessions", What: "the source ends the agent's sessions, several times: that which reads the log, and those for queries",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			for range 1 + r.IntN(5) {
				err := w.execute(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'runnel%'`)
				if err != nil {
					return err
				}
				if err := pause(ctx, between(r, 50*time.Millisecond, 1500*time.Millisecond)); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		Name: "source.failover", What: "the primary is shut down or killed, and a standby with a copy of the slot promoted: the agent goes on there, without a gap",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			old := w.Source
			standby := old.Standby(w)
			standby.Synced(w, old, slotName)
			if err := pause(ctx, between(r, 0, 2*time.Second)); err != nil {
				return err
			}
			if r.IntN(2) == 0 {
				old.Stop(syscall.SIGINT)
			} else {
				old.Kill()
			}
			standby.Promote(w)
			w.Source = standby
			for _, p := range w.Proxies("agent-source") {
				p.Retarget(standby.Addr)
				p.Cut()
			}
			var synced bool
			if err := w.query(ctx, "select synced from pg_replication_slots where slot_name = '"+slotName+"'", &synced); err != nil || !synced {
				return fmt.Errorf("the new primary's slot is not the one that was copied: %w", err)
			}
			return nil
		},
	},
	{
		Name: "source.neighbour", What: "the captured database is idle while another one of the server writes: the slot moves on all the same",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, _ *rand.Rand) error {
			if err := w.grown(ctx); err != nil {
				return err
			}
			if err := w.Traffic.Pause(ctx); err != nil {
				return err
			}
			defer w.Traffic.Resume()
			if err := w.execute(ctx, "drop database if exists neighbour", "create database neighbour"); err != nil {
				return err
			}
			err := execute(ctx, w.Source.DatabaseURL("neighbour"), "create table a as select g, repeat('x', 200) from generate_series(1, 50000) g")
			if err != nil {
				return err
			}
			var end string
			if err := w.query(ctx, "select pg_current_wal_lsn()::text", &end); err != nil {
				return err
			}
			return w.until(ctx, fmt.Sprintf("select confirmed_flush_lsn >= '%s' from pg_replication_slots where slot_name = '%s'", end, slotName))
		},
	},
}

// loadFaults are what applications do that hurts.
var loadFaults = []Fault{
	{
		Name: "source.synchronous", What: "commits wait for a standby that is away, again and again, while tables are read: they are in the log long before they are visible",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			if err := w.Resnapshot(ctx); err != nil {
				return err
			}
			for range 8 {
				if err := w.holdCommits(ctx, between(r, 50*time.Millisecond, 1500*time.Millisecond)); err != nil {
					return err
				}
				if err := pause(ctx, between(r, 0, 300*time.Millisecond)); err != nil {
					return err
				}
			}
			_, err := w.AwaitLog(ctx, w.Agents, "load finished")
			return err
		},
	},
	{
		Name: "source.long", What: "a transaction is open for seconds, with savepoints, while others commit around it",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			return w.transaction(ctx, func(tx pgx.Tx) error {
				for i := range 6 {
					sql := fmt.Sprintf(`savepoint s; insert into orders (id, customer_id, status, amount) select nextval('order_ids'), %d, 'long', i from generate_series(1, 50) i;
						update customers set balance = balance + 1 where id between %d and %d`, i, 500+i*10, 505+i*10)
					if r.IntN(3) == 0 {
						sql += "; rollback to savepoint s"
					}
					if _, err := tx.Exec(ctx, sql); err != nil {
						return err
					}
					if err := pause(ctx, between(r, 100*time.Millisecond, 1200*time.Millisecond)); err != nil {
						return err
					}
				}
				return nil
			})
		},
	},
	{
		Name: "source.huge", What: "one transaction inserts 40,000 rows, which the next TRUNCATE of the traffic removes",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			return w.execute(ctx, fmt.Sprintf(`insert into order_items (order_id, line, sku, quantity, price) select %d + i, 1, 'huge', i, 1 from generate_series(1, 40000) i`,
				(1+r.Int64N(1e6))*1e6))
		},
	},
	{
		Name: "source.columns", What: "a column is added under load, written, and mostly dropped again: targets follow",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			column := fmt.Sprintf("extra_%d", w.others.Add(1)) // a name that comes back would find its old values in the targets
			kind := []string{"int", "text", "numeric(20,5)", "timestamptz", "jsonb"}[r.IntN(5)]
			value := map[string]string{"int": "%d", "text": "'v%d'", "numeric(20,5)": "%d.5", "timestamptz": "now() + interval '%d s'", "jsonb": `'{"n": %d}'`}[kind]
			if err := w.execute(ctx, fmt.Sprintf("alter table orders add column %s %s", column, kind)); err != nil {
				return err
			}
			for i := range 5 + r.IntN(10) {
				err := w.execute(ctx, fmt.Sprintf("update orders set %s = "+value+" where id %% 50 = %d", column, i, i))
				if err != nil && !disturbed(err) {
					return err
				}
				if err := pause(ctx, between(r, 0, 100*time.Millisecond)); err != nil {
					return err
				}
			}
			if r.IntN(3) == 0 {
				return nil
			}
			return w.execute(ctx, "alter table orders drop column "+column)
		},
	},
}

// gapFaults lose what the stream would have to hold. The agent says so and halts, whatever the loss looks like. A slot that is made
// anew past a gap stands ahead of the stream until that goes on.
var gapFaults = []Fault{
	{
		Name: "source.slotdropped", What: "the slot is dropped, and made again by the agent or by hand: a gap, which the agent does not pass by itself",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			from := w.committedUpTo()
			then := []string{"insert into orders (id, customer_id, status, amount) values (nextval('order_ids'), 1, 'unseen', 1)"}
			if r.IntN(2) == 0 {
				then = append(then, "select pg_create_logical_replication_slot('"+slotName+"', 'pgoutput')")
			}
			if err := w.dropSlot(ctx, then...); err != nil {
				return err
			}
			if err := w.mend(ctx); err != nil {
				return err
			}
			w.allow("", from, "the slot was dropped", check.Lost, check.Undurable)
			return nil
		},
	},
	{
		Name: "source.publication", What: "a publication is dropped: what was committed before it is made again cannot be read",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			from := w.committedUpTo()
			if err := w.execute(ctx, "drop publication runnel_"+SourceName); err != nil {
				return err
			}
			if err := w.mend(ctx); err != nil {
				return err
			}
			w.allow("", from, "the publication was dropped", check.Lost, check.Undurable)
			return nil
		},
	},
	{
		Name: "source.table", What: "a table is taken out of the publication and put back: its changes in between are in no log, and a load makes up for them",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			from := w.committedUpTo()
			if err := w.execute(ctx, "alter publication runnel_"+SourceName+" drop table only orders"); err != nil {
				return err
			}
			if err := pause(ctx, between(r, 200*time.Millisecond, 2*time.Second)); err != nil {
				return err
			}
			if err := w.execute(ctx, "alter publication runnel_"+SourceName+" add table only orders"); err != nil {
				return err
			}
			if err := w.Resnapshot(ctx); err != nil {
				return err
			}
			if err := w.settled(ctx, w.Targets...); err != nil {
				return err
			}
			w.allow("", from, "a table was out of the publication", check.Lost, check.Undurable)
			return nil
		},
	},
	{
		Name: "source.restored", What: "the source's data are replaced by a copy of some seconds before, and its log goes on from there with other changes: a gap",
		Exclusive: true,
		Inject:    restoreSource,
	},
}

func restoreSource(ctx context.Context, w *World, r *rand.Rand) error {
	copied := w.Source.Backup(w)
	if err := pause(ctx, between(r, time.Second, 3*time.Second)); err != nil {
		return err
	}
	if err := w.Traffic.Pause(ctx); err != nil {
		return err
	}
	resume := true
	defer func() {
		if resume {
			w.Traffic.Resume()
		}
	}()
	var change, xid int64
	if err := w.query(ctx, "select last_value from changes", &change); err != nil {
		return err
	}
	if err := w.query(ctx, "select pg_current_xact_id()::text::bigint", &xid); err != nil {
		return err
	}
	w.Source.Restore(w, copied)
	// Checkers know changes and transactions by numbers, which must not come a second time.
	statements := []string{fmt.Sprintf("select setval('changes', %d)", change+1000)}
	if r.IntN(2) == 0 { // the log is soon longer than it was
		statements = append(statements, "select pg_switch_wal()", "create table longer as select g from generate_series(1, 10) g", "drop table longer", "select pg_switch_wal()")
	}
	if err := w.execute(ctx, statements...); err != nil {
		return err
	}
	var now int64
	for now <= xid {
		if err := w.query(ctx, "select pg_current_xact_id()::text::bigint", &now); err != nil {
			return err
		}
	}
	var confirmed int64
	if err := w.query(ctx, "select coalesce((select confirmed_flush_lsn - '0/0' from pg_replication_slots where slot_name = '"+slotName+"')::bigint, 0)", &confirmed); err != nil {
		return err
	}
	from := w.committedBefore(uint64(confirmed))
	resume = false
	w.Traffic.Resume()
	if err := w.mend(ctx); err != nil {
		return err
	}
	w.allow("", from, "the source was restored to the past", check.Duplicated, check.Disordered, check.Backwards, check.Undurable)
	return nil
}

// startSource starts the source after a while; sometimes the agent is killed too.
func (w *World) startSource(ctx context.Context, r *rand.Rand) error {
	err := pause(ctx, between(r, 0, 2*time.Second))
	w.Source.Restart(w)
	if err == nil && r.IntN(3) == 0 {
		defer own(w.Agents)()
		err = pause(ctx, between(r, 0, time.Second))
		w.Agent().Kill()
	}
	return err
}

// holdCommits lets commits wait for a while.
func (w *World) holdCommits(ctx context.Context, d time.Duration) error {
	release := w.Source.HoldCommits(w)
	defer release()
	return pause(ctx, d)
}

// transaction commits what f does in the source.
func (w *World) transaction(ctx context.Context, f func(pgx.Tx) error) error {
	for {
		c, err := pgx.Connect(ctx, w.Source.PostgresURL())
		if err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, c, f)
		c.Close(context.WithoutCancel(ctx))
		if !disturbed(err) {
			return err
		}
	}
}

// dropSlot takes the slot from whoever reads it, and runs statements right after.
func (w *World) dropSlot(ctx context.Context, then ...string) error {
	for {
		err := w.execute(ctx, append([]string{
			"select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '" + slotName + "' and active",
			"select pg_drop_replication_slot('" + slotName + "')",
		}, then...)...)
		switch codeOf(err) {
		case objectInUse:
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		case duplicateObject: // the agent was quicker
			return nil
		default:
			return err
		}
	}
}
