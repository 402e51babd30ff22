package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/doctor"
)

// SlotStatus is what the server says of the source's slot at the moment.
type SlotStatus struct {
	Name      string `json:"name"`
	Exists    bool   `json:"exists"`
	Active    bool   `json:"active"`
	Confirmed string `json:"confirmed,omitempty"` // LSN up to which the server may release its log
	Retained  int64  `json:"retained_bytes"`      // of log that it keeps for the slot
	Lost      string `json:"lost,omitempty"`      // why the server gave it up
}

func (s SlotStatus) String() string {
	switch {
	case !s.Exists:
		return s.Name + " does not exist"
	case s.Lost != "":
		return fmt.Sprintf("%s is lost: %s", s.Name, s.Lost)
	}
	use := "nobody reads it"
	if s.Active {
		use = "in use"
	}
	return fmt.Sprintf("%s at %s, %s, holds back %.1f MiB of log", s.Name, s.Confirmed, use, float64(s.Retained)/(1<<20))
}

// SlotStatus asks the server.
func (s *Source) SlotStatus(ctx context.Context) (SlotStatus, error) {
	status := SlotStatus{Name: s.cfg.Slot}
	pool, err := s.openPool(ctx)
	if err != nil {
		return status, err
	}
	defer pool.Close()
	version, err := serverVersion(ctx, pool)
	if err != nil {
		return status, err
	}
	x, err := s.slot(ctx, pool, version/10000)
	if err != nil || x == nil {
		return status, err
	}
	status.Exists, status.Active, status.Confirmed = true, x.holder != 0, x.confirmed.String()
	status.Retained, status.Lost = x.retained, x.lost
	return status, nil
}

func serverVersion(ctx context.Context, q querier) (int, error) {
	var version int
	err := q.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("read the server's version: %w", err)
	}
	return version, nil
}

// examination is one look at the server.
type examination struct {
	doctor.Report
	s    *Source
	pool *pgxpool.Pool

	version                              int
	name, role, walLevel                 string
	recovery, super, replication, bypass bool
	slots, maxSlots, senders, maxSenders int
}

// Doctor looks at server, permissions, slot, publications and tables. It changes nothing.
func (s *Source) Doctor(ctx context.Context) []doctor.Finding {
	e := &examination{s: s}
	pool, err := s.openPool(ctx)
	if err != nil {
		e.fault("connection", err)
		return e.Report
	}
	defer pool.Close()
	e.pool = pool
	if err := e.read(ctx); err != nil {
		e.fault("server", err)
		return e.Report
	}
	e.server()
	if e.recovery {
		e.standby(ctx, "slot "+s.cfg.Slot, pool)
	} else {
		e.slot(ctx)
		e.failover(ctx)
	}
	e.hosts(ctx)
	e.open(ctx)
	tables := e.tables(ctx)
	e.publications(ctx, tables)
	return e.Report
}

func (e *examination) read(ctx context.Context) error {
	err := e.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_user::text, current_setting('wal_level'),
		pg_is_in_recovery(), r.rolsuper,
		r.rolsuper OR r.rolreplication OR EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE g.rolname IN ('rds_replication', 'cloudsqlsuperuser') AND pg_has_role(g.oid, 'USAGE')),
		r.rolsuper OR r.rolbypassrls,
		(SELECT count(*) FROM pg_catalog.pg_replication_slots)::int, current_setting('max_replication_slots')::int,
		(SELECT count(*) FROM pg_catalog.pg_stat_replication)::int, current_setting('max_wal_senders')::int
		FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`).
		Scan(&e.version, &e.name, &e.role, &e.walLevel, &e.recovery, &e.super, &e.replication, &e.bypass, &e.slots, &e.maxSlots, &e.senders, &e.maxSenders)
	if err != nil {
		return fmt.Errorf("look at the server: %w", err)
	}
	return nil
}

// server is what holds for all tables.
func (e *examination) server() {
	if e.version < 140000 {
		e.Fail("server", "upgrade the server", "PostgreSQL %s; 14 or later is needed", e.name)
	} else {
		e.OK("server", "PostgreSQL %s", e.name)
	}
	if e.recovery {
		e.Fail("server", "point the source's url to the primary", "it is a standby")
	}
	if e.walLevel == "logical" {
		e.OK("wal_level", "logical")
	} else {
		e.Fail("wal_level", "ALTER SYSTEM SET wal_level = logical; then restart the server (on Amazon RDS: set rds.logical_replication = 1)", "%s", e.walLevel)
	}
	if e.replication {
		e.OK("permission", "role %s may replicate", e.role)
	} else {
		e.Fail("permission", fmt.Sprintf("ALTER ROLE %s REPLICATION; (on Amazon RDS: GRANT rds_replication TO %[1]s;)", quote(e.role)), "role %s may not replicate", e.role)
	}
}

// slot looks at ours, or whether there is room for it.
func (e *examination) slot(ctx context.Context) {
	x, err := e.s.slot(ctx, e.pool, e.version/10000)
	name := "slot " + e.s.cfg.Slot
	switch {
	case err != nil:
		e.fault(name, err)
		return
	case x == nil && e.slots >= e.maxSlots:
		e.Fail(name, fmt.Sprintf("drop a slot that nobody needs (SELECT slot_name, active FROM pg_replication_slots) or ALTER SYSTEM SET max_replication_slots = %d; and restart the server", e.maxSlots+4),
			"it does not exist, and all %d slots are taken", e.maxSlots)
	case x == nil:
		e.OK(name, "it will be made; %d of %d slots are free", e.maxSlots-e.slots, e.maxSlots)
	default:
		if err := e.s.usableSlot(x); err != nil {
			e.fault(name, err)
			return
		}
		status := SlotStatus{Name: e.s.cfg.Slot, Exists: true, Active: x.holder != 0, Confirmed: x.confirmed.String(), Retained: x.retained}
		if x.retained > 10<<30 {
			e.Warn(name, "let its agent run, or drop the slot if nobody needs it, before the source's disk is full", "%s", status)
		} else {
			e.OK(name, "%s", status)
		}
		if x.holder != 0 {
			return // its sender runs
		}
	}
	if e.senders >= e.maxSenders {
		e.Fail("max_wal_senders", fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d; and restart the server", e.maxSenders+4), "all %d are in use", e.maxSenders)
	}
}

// tables looks at each captured table: key, replica identity, permission. It gives those that can be published.
func (e *examination) tables(ctx context.Context) []*table {
	all, err := allTables(ctx, e.pool)
	if err != nil {
		e.fault("tables", err)
		return nil
	}
	with, without, err := e.s.wanted(all)
	e.fault("tables", err)
	captured := slices.Concat(with, without)
	for _, t := range captured {
		e.table(ctx, t)
	}
	return captured
}

func (e *examination) table(ctx context.Context, t *table) {
	name := "table " + t.name.String()
	var read, rls, owner bool
	err := e.pool.QueryRow(ctx, `SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
		c.relrowsecurity AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE')), pg_has_role(c.relowner, 'USAGE')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`, t.oid).Scan(&read, &rls, &owner)
	if err != nil {
		e.fault(name, err)
		return
	}
	if !read {
		e.Fail(name, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s; GRANT SELECT ON %s TO %[2]s;", quote(t.name.Schema), quote(e.role), quoteTable(t.name)), "role %s may not read it", e.role)
		return
	}
	if rls && !e.bypass {
		e.Fail(name, fmt.Sprintf("ALTER ROLE %s BYPASSRLS;", quote(e.role)), "row security hides rows from role %s", e.role)
		return
	}
	if t.refused() != nil {
		return // reported with the list
	}
	rows := fmt.Sprintf("about %d rows", t.rows)
	switch {
	case !t.identified():
		e.Warn(name, fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (…); or REPLICA IDENTITY FULL", quoteTable(t.name)),
			"it has no replica identity: its updates and deletes cannot be captured, only inserts; %s", rows)
	case len(t.key) == 0:
		e.Warn(name, fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (…);", quoteTable(t.name)),
			"it has no key: its rows are known by the position of their event, so an update adds a row in a target; %s", rows)
	case t.identity == 'f':
		e.OK(name, "key (%s), REPLICA IDENTITY FULL, %s", strings.Join(t.key, ", "), rows)
	default:
		e.OK(name, "key (%s), %s", strings.Join(t.key, ", "), rows)
	}
}

// publications looks at ours, or whether we may make them.
func (e *examination) publications(ctx context.Context, tables []*table) {
	name := "publication " + e.s.cfg.Publication
	comments, err := e.s.comments(ctx, e.pool)
	if err != nil {
		e.fault(name, err)
		return
	}
	comment, exists := comments[e.s.cfg.Publication]
	if exists && !strings.HasPrefix(comment, managed) {
		if err := e.s.usable(ctx, e.pool, e.version/10000); err != nil {
			e.fault(name, err)
			return
		}
	}
	if exists {
		have, err := e.s.published(ctx, e.pool, e.version/10000)
		if err != nil {
			e.fault(name, err)
			return
		}
		texts := make([]string, len(have))
		for i, p := range have {
			texts[i] = p.name.String()
			if p.columns != nil && p.filter != "" {
				texts[i] += " where " + p.filter
			}
		}
		e.OK(name, "it publishes %d tables: %s", len(have), strings.Join(texts, ", "))
		return
	}
	var with, without []*table
	for _, t := range tables {
		if t.identified() {
			with = append(with, t)
		} else {
			without = append(without, t)
		}
	}
	sql := createSQL(e.s.cfg.Publication, "insert, update, delete, truncate", with) + ";"
	if len(without) > 0 {
		sql += "\n" + createSQL(e.s.cfg.Publication+insertSuffix, "insert, truncate", without) + ";"
	}
	var create, own bool
	oids := make([]uint32, len(tables))
	for i, t := range tables {
		oids[i] = t.oid
	}
	err = e.pool.QueryRow(ctx, `SELECT has_database_privilege(current_database(), 'CREATE'),
		coalesce((SELECT bool_and(pg_has_role(relowner, 'USAGE')) FROM pg_catalog.pg_class WHERE oid = ANY($1::oid[])), true)`, oids).Scan(&create, &own)
	switch {
	case err != nil:
		e.fault(name, err)
	case e.super || create && own:
		e.OK(name, "it will be made")
	case !own:
		e.Fail(name, "as their owner or a superuser run:\n"+sql, "it does not exist, and role %s does not own all tables", e.role)
	default:
		e.Fail(name, fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s; or as a superuser run:\n%s", quote(e.s.pool.ConnConfig.Database), quote(e.role), sql), "it does not exist, and role %s may not make it", e.role)
	}
}

// fault reports each of what may be several errors, with the way out that a capture.SetupError or GapError names.
func (e *examination) fault(subject string, err error) {
	if err == nil {
		return
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range several.Unwrap() {
			e.fault(subject, one)
		}
		return
	}
	var setup *capture.SetupError
	var gap *capture.GapError
	switch {
	case errors.As(err, &setup):
		text := setup.Reason
		if setup.Err != nil {
			text += ": " + setup.Err.Error()
		}
		e.Fail(subject, setup.Fix, "%s", text)
	case errors.As(err, &gap):
		e.Fail(subject, gap.Fix, "%s", gap.Reason)
	default:
		e.Fail(subject, "", "%v", err)
	}
}
