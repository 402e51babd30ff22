package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// slot is what pg_replication_slots says.
type slot struct {
	plugin, database string
	logical          bool
	temporary        bool
	failover         bool   // standbys copy it; from version 17 on
	holder           uint32 // process id, 0 for nobody
	confirmed        pglogrepl.LSN
	lost             string // why the server gave it up
	retained         int64
}

// slot is nil where there is none.
func (s *Source) slot(ctx context.Context, q querier, version int) (*slot, error) {
	lost, failover := "CASE WHEN wal_status = 'lost' THEN 'max_slot_wal_keep_size was exceeded' END", "false"
	if version >= 17 {
		failover = "failover"
		lost = "coalesce(invalidation_reason, " + lost + ")"
	}
	x := &slot{}
	var confirmed string
	err := q.QueryRow(ctx, `SELECT coalesce(plugin::text, ''), coalesce(database::text, ''), slot_type = 'logical', temporary, `+failover+`, coalesce(active_pid, 0)::oid,
		coalesce(confirmed_flush_lsn, '0/0')::text, coalesce(`+lost+`, ''), coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
		FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, s.cfg.Slot).
		Scan(&x.plugin, &x.database, &x.logical, &x.temporary, &x.failover, &x.holder, &confirmed, &x.lost, &x.retained)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		x.confirmed, err = pglogrepl.ParseLSN(confirmed)
	}
	if err != nil {
		return nil, fmt.Errorf("read slot %s: %w", s.cfg.Slot, err)
	}
	return x, nil
}

// usable refuses a slot that is not ours to read.
func (s *Source) usableSlot(x *slot) error {
	drop := fmt.Sprintf("SELECT pg_drop_replication_slot(%s); or name another slot", literal(s.cfg.Slot))
	switch {
	case !x.logical:
		return setup(fmt.Sprintf("slot %s is a physical one", s.cfg.Slot), "%s", drop)
	case x.plugin != "pgoutput":
		return setup(fmt.Sprintf("slot %s uses the plugin %s, not pgoutput", s.cfg.Slot, x.plugin), "%s", drop)
	case x.database != s.pool.ConnConfig.Database:
		return setup(fmt.Sprintf("slot %s belongs to database %s, not %s", s.cfg.Slot, x.database, s.pool.ConnConfig.Database), "name another slot, or correct the source's url")
	case x.lost != "":
		return s.gap("slot %s is lost: %s", s.cfg.Slot, x.lost)
	}
	return nil
}

// createSlot makes the slot and exports a snapshot that lasts until the connection's next command.
func (s *Source) createSlot(ctx context.Context, w *wire, version int) (pglogrepl.CreateReplicationSlotResult, error) {
	options := "EXPORT_SNAPSHOT"
	if version >= 15 {
		options = "(SNAPSHOT 'export')"
	}
	if s.failover(version) {
		options = "(SNAPSHOT 'export', FAILOVER true)"
	}
	r, err := pglogrepl.ParseCreateReplicationSlot(w.conn.Exec(ctx, fmt.Sprintf("CREATE_REPLICATION_SLOT %s LOGICAL pgoutput %s", s.cfg.Slot, options)))
	if err != nil {
		return r, s.explain("create slot "+s.cfg.Slot, err)
	}
	s.cfg.Log.Info("created slot", "slot", s.cfg.Slot, "lsn", r.ConsistentPoint)
	return r, nil
}

// failover says whether standbys are to copy the slot.
func (s *Source) failover(version int) bool {
	return version >= 17 && (s.cfg.Failover == nil || *s.cfg.Failover)
}

// alterSlot makes a slot that somebody else made, or that was made under other settings, what the source asks for: without failover
// it would be lost with its server. Nobody may hold it.
func (s *Source) alterSlot(ctx context.Context, w *wire, x *slot, version int) error {
	want := s.failover(version)
	if x.failover == want {
		return nil
	}
	_, err := w.conn.Exec(ctx, fmt.Sprintf("ALTER_REPLICATION_SLOT %s (FAILOVER %t)", s.cfg.Slot, want)).ReadAll()
	if err != nil {
		return fmt.Errorf("let standbys copy it (failover: %t): %w", want, err)
	}
	s.cfg.Log.Info("altered slot", "slot", s.cfg.Slot, "failover", want)
	return nil
}

// lock takes the advisory lock that goes with the slot, for as long as the replication session lives. The slot alone is not
// enough: nobody holds it between its creation and the end of the first load.
func (s *Source) lock(ctx context.Context, w *wire) (bool, error) {
	r, err := w.conn.Exec(ctx, fmt.Sprintf("SELECT pg_catalog.pg_try_advisory_lock(%s)", s.lockKey())).ReadAll()
	if err != nil {
		return false, s.explain("lock slot "+s.cfg.Slot, err)
	}
	return string(r[0].Rows[0][0]) == "t", nil
}

func (s *Source) lockKey() string {
	return "pg_catalog.hashtextextended(" + literal("runnel slot "+s.cfg.Slot) + ", 0)"
}

// holder describes who has the lock or the slot. A session of this very process that the server still believes alive is
// ended: its connection is gone.
func (s *Source) holder(ctx context.Context, pool *pgxpool.Pool, own uint32) (string, error) {
	rows, err := pool.Query(ctx, `SELECT a.pid::oid, a.application_name, coalesce(host(a.client_addr), 'local') FROM pg_catalog.pg_stat_activity a
		WHERE a.pid IN (SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = $1)
		OR a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
			AND (l.classid::bigint << 32 | l.objid::bigint) = `+s.lockKey()+`)`, s.cfg.Slot)
	if err != nil {
		return "", fmt.Errorf("see who holds slot %s: %w", s.cfg.Slot, err)
	}
	var pid uint32
	var application, host, holder string
	var stale []uint32
	_, err = pgx.ForEachRow(rows, []any{&pid, &application, &host}, func() error {
		if pid == own {
			return nil
		}
		holder = fmt.Sprintf("%s (process %d, from %s)", application, pid, host)
		if application == s.application() {
			stale = append(stale, pid)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("see who holds slot %s: %w", s.cfg.Slot, err)
	}
	for _, pid := range stale {
		if _, err := pool.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend($1::int)`, int32(pid)); err != nil {
			return "", fmt.Errorf("end our own old session %d: %w", pid, err)
		}
		s.cfg.Log.Info("ended an old replication session of this process", "pid", pid)
	}
	return holder, nil
}
