package agent_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/runnel-dev/runnel/capture"
)

// retained is the log that the server keeps for the slot, in bytes. What counts is restart_lsn: confirmed_flush_lsn may move
// while it does not.
const retained = `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = 'runnel_shop'`

func (w *world) released() {
	w.t.Helper()
	w.until("the log is released", func() bool {
		w.exec(`SELECT pg_log_standby_snapshot()`) // restart_lsn moves from one to the next, which the server writes every 15 s
		return w.number(retained) < 1<<20
	})
}

// TestIdleDatabaseWithBusyNeighbourReleasesTheLog: nobody writes to what is captured, and another database of the server writes a
// lot. The heartbeat is in no table and so needs no publication: here it is one of the user, with one table.
func TestIdleDatabaseWithBusyNeighbourReleasesTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1); CREATE PUBLICATION mine FOR TABLE a`)
	w.exec(`CREATE DATABASE busy`)
	w.start(func(o *options) { o.source.Publication = "mine" })
	w.loaded()
	busy := w.connect(strings.Replace(w.url, "/postgres?", "/busy?", 1))
	if _, err := busy.Exec(t.Context(), `CREATE TABLE b AS SELECT i, repeat('x', 100) FROM generate_series(1, 200000) i`); err != nil {
		t.Fatal(err)
	}
	if n := w.number(retained); n < 20<<20 {
		t.Fatalf("the neighbour made %d bytes of log only", n)
	}
	w.released()
	w.exec(`INSERT INTO a VALUES (2)`)
	w.settled()
	w.stop()
	if diff := w.differences("a"); diff != "" {
		t.Error(diff)
	}
}

// TestALoadDoesNotHoldTheLog: while a table is read, which may take days, the log goes on to the stream and the source releases it.
func TestALoadDoesNotHoldTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, 'before' FROM generate_series(1, 3000) i`)
	var unread atomic.Uint64
	var waits atomic.Bool
	unread.Store(1000) // so the load stands still
	w.start(func(o *options) {
		o.agent.Backlog = func(context.Context) (capture.Backlog, error) {
			return capture.Backlog{Function: "f", Unread: unread.Load(), Limit: 1000}, nil
		}
		o.agent.Observer.Waiting = func(f string) { waits.Store(f != "") }
	})
	w.until("the load waits", waits.Load)
	w.exec(`UPDATE a SET v = repeat('during', 1000); UPDATE a SET v = v || 'x' WHERE id % 2 = 0; DELETE FROM a WHERE id % 7 = 0`)
	w.settled()
	w.released()
	if rec, _, err := w.registry.CaptureOf(t.Context(), "shop"); err != nil || rec.Load.Done {
		t.Fatalf("the load: %+v, %v", rec.Load, err)
	}
	unread.Store(0)
	w.loaded()
	w.stop()
	if diff := w.differences("a"); diff != "" {
		t.Error(diff)
	}
}

// TestPublicationEmptied: somebody takes a table out of the publication, or drops it and makes it anew, and its changes are in no
// log that the agent is sent. Once the table is published again it is read again, with what was deleted meanwhile.
func TestPublicationEmptied(t *testing.T) {
	t.Parallel()
	const changes = `UPDATE a SET v = 'unseen' WHERE id < 10; DELETE FROM a WHERE id > 90; INSERT INTO a VALUES (1000, 'unseen');`
	for name, c := range map[string]struct {
		running bool
		sql     string
	}{
		"WhileAway":      {false, `ALTER PUBLICATION runnel_shop DROP TABLE a; ` + changes},
		"Recreated":      {false, `DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (5, 'unseen')`},
		"ForAMoment":     {true, `ALTER PUBLICATION runnel_shop DROP TABLE a; ` + changes + `ALTER PUBLICATION runnel_shop ADD TABLE a`},
		"OfTheLastTable": {false, `ALTER PUBLICATION runnel_shop DROP TABLE a; ALTER PUBLICATION runnel_shop DROP TABLE b; ` + changes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, `CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a SELECT i, 'v' FROM generate_series(1, 100) i`)
			w.start()
			w.loaded()
			if !c.running {
				w.settled()
				w.stop()
			}
			for _, sql := range strings.SplitAfter(c.sql, ";") { // each a transaction
				w.exec(sql)
			}
			if !c.running {
				w.start()
			}
			w.exec(`INSERT INTO a VALUES (2000, 'seen')`)
			w.until("the table is whole", func() bool { w.settled(); return w.differences("a", "b") == "" })
			w.stop()
		})
	}
}
