package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres/pgjson"
	"github.com/runnel-dev/runnel/runtime/event"
)

// standbyInterval is how often a standby looks whether it can take over.
const standbyInterval = time.Second

var (
	_ capture.Source  = (*Source)(nil)
	_ capture.Renewer = (*Source)(nil)
)

// Acquire implements capture.Source. A slot that is there is read from at once, so that no other process can; a new one
// stays on its exported snapshot until Start.
func (s *Source) Acquire(ctx context.Context, waiting func(holder string)) (capture.Log, error) {
	return s.acquire(ctx, waiting, nil)
}

// Renew implements capture.Renewer.
func (s *Source) Renew(ctx context.Context, waiting func(holder string), still func(context.Context) error) (capture.Log, error) {
	if still == nil {
		still = func(context.Context) error { return nil }
	}
	return s.acquire(ctx, waiting, still)
}

// acquire takes the slot; a new one where renew allows it.
func (s *Source) acquire(ctx context.Context, waiting func(string), renew func(context.Context) error) (_ capture.Log, err error) {
	pool, err := s.openPool(ctx)
	if err != nil {
		return nil, err
	}
	a := &acquisition{Source: s, pool: pool, waiting: waiting}
	defer func() {
		if err != nil {
			if a.wire != nil {
				a.wire.close(ctx)
			}
			pool.Close()
		}
	}()
	if a.version, err = s.ready(ctx, pool); err != nil {
		return nil, err
	}
	if a.wire, err = s.openWire(ctx); err != nil {
		return nil, err
	}
	if err := a.untilLocked(ctx); err != nil {
		return nil, err
	}
	if err := s.publish(ctx, pool, a.version); err != nil {
		return nil, err
	}
	if renew != nil {
		if err := renew(ctx); err != nil {
			return nil, err
		}
		if err := a.drop(ctx); err != nil {
			return nil, err
		}
	}
	return a.take(ctx)
}

// acquisition is one Acquire under way.
type acquisition struct {
	*Source
	pool    *pgxpool.Pool
	wire    *wire
	version int // major
	waiting func(string)
	waited  bool
}

// ready checks what no right can replace.
func (s *Source) ready(ctx context.Context, q querier) (version int, err error) {
	var number, level string
	var recovery bool
	err = q.QueryRow(ctx, `SELECT current_setting('server_version_num'), current_setting('wal_level'), pg_is_in_recovery()`).Scan(&number, &level, &recovery)
	if err == nil {
		version, err = strconv.Atoi(number)
		version /= 10000
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("read the server's settings: %w", err)
	case version < 14:
		return 0, setup(fmt.Sprintf("PostgreSQL %d is too old", version), "use 14 or later")
	case recovery:
		// No SetupError: during a failover this passes by itself.
		return 0, errors.New("the server is a standby: name the primary in the source's url, or several hosts with target_session_attrs=primary")
	case level != "logical":
		return 0, setup("wal_level is "+level, "ALTER SYSTEM SET wal_level = logical; then restart the server")
	}
	return version, nil
}

// untilLocked waits as a standby while another agent lives.
func (a *acquisition) untilLocked(ctx context.Context) error {
	for {
		ok, err := a.lock(ctx, a.wire)
		if ok || err != nil {
			return err
		}
		if err := a.wait(ctx); err != nil {
			return err
		}
	}
}

func (a *acquisition) wait(ctx context.Context) error {
	holder, err := a.holder(ctx, a.pool, a.wire.conn.PID())
	if err != nil {
		return err
	}
	if !a.waited && holder != "" && a.waiting != nil {
		a.waited = true
		a.waiting(holder)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(standbyInterval):
		return nil
	}
}

// reopen replaces the replication connection: a command of it that failed leaves no state to go on from.
func (a *acquisition) reopen(ctx context.Context) (err error) {
	a.wire.close(ctx)
	if a.wire, err = a.openWire(ctx); err != nil {
		return err
	}
	if err := a.wait(ctx); err != nil {
		return err
	}
	return a.untilLocked(ctx)
}

// drop throws the slot away, once nobody holds it.
func (a *acquisition) drop(ctx context.Context) error {
	for {
		_, err := a.pool.Exec(ctx, `SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, a.cfg.Slot)
		switch code(err) {
		case objectInUse:
			if err := a.wait(ctx); err != nil {
				return err
			}
		case undefinedObject:
			return nil
		default:
			if err != nil {
				return a.explain("drop slot "+a.cfg.Slot, err)
			}
			return nil
		}
	}
}

// take makes the slot, or starts to read from it.
func (a *acquisition) take(ctx context.Context) (capture.Log, error) {
	system, err := pglogrepl.IdentifySystem(ctx, a.wire.conn)
	if err != nil {
		return nil, a.explain("identify the server", err)
	}
	l := &Log{source: a.Source, pool: a.pool, wire: a.wire, version: a.version, log: a.cfg.Log, catalog: pgjson.New(a.pool)}
	if l.publications, err = a.publications(ctx, a.pool); err != nil {
		return nil, err
	}
	if system.Timeline > 1 {
		l.history, l.historyErr = readHistory(ctx, a.wire.conn, uint32(system.Timeline))
	}
	var xmax string
	var clock int64
	l.info = capture.Info{Identity: system.SystemID, Connector: connector, Database: system.DBName, Timeline: uint32(system.Timeline),
		Flushed: l.at(system.XLogPos), Slot: a.cfg.Slot}
	err = a.pool.QueryRow(ctx, `SELECT current_setting('server_version'), (extract(epoch FROM clock_timestamp()) * 1000)::bigint, pg_snapshot_xmax(pg_current_snapshot())::text`).
		Scan(&l.info.Server, &clock, &xmax)
	if err == nil {
		l.info.Clock, l.dec.ahead = clock/1000, time.Now().UnixMilli()-clock
		l.dec.xid, err = strconv.ParseUint(xmax, 10, 64)
	}
	if err != nil {
		return nil, fmt.Errorf("read the server's clock: %w", err)
	}
	for {
		x, err := a.slot(ctx, a.pool, a.version)
		if err != nil {
			return nil, err
		}
		switch {
		case x == nil:
			return l, l.fresh(ctx)
		case x.holder != 0:
			if err := a.wait(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if err := a.usableSlot(x); err != nil {
			return nil, err
		}
		if err := a.younger(ctx, a.pool, x.confirmed); err != nil {
			return nil, err
		}
		if err = a.alterSlot(ctx, a.wire, x, a.version); err == nil {
			err = a.wire.start(ctx, a.cfg.Slot, l.publications, x.confirmed)
		}
		if code(err) == objectInUse { // taken since we looked
			if err := a.reopen(ctx); err != nil {
				return nil, err
			}
			return a.take(ctx)
		}
		if err != nil {
			return nil, l.refused(err)
		}
		l.info.Confirmed, l.info.RetainedBytes = l.at(x.confirmed), x.retained
		l.begin(ctx)
		return l, nil
	}
}

// fresh makes the slot.
func (l *Log) fresh(ctx context.Context) error {
	r, err := l.source.createSlot(ctx, l.wire, l.version)
	if err != nil {
		return err
	}
	p, err := pglogrepl.ParseLSN(r.ConsistentPoint)
	if err != nil {
		return fmt.Errorf("create slot %s: %w", l.source.cfg.Slot, err)
	}
	l.info.NewSlot, l.info.Confirmed, l.snapshot = true, l.at(p), r.SnapshotName
	l.info.Flushed = l.at(max(p, pglogrepl.LSN(l.info.Flushed.Commit)))
	l.begin(ctx)
	return nil
}

const connector = "postgresql"

// at is the end-of-transaction position at an LSN.
func (l *Log) at(p pglogrepl.LSN) event.Position {
	return event.Position{Timeline: l.info.Timeline, Commit: uint64(p)}
}
