package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// failoverVersion is the first one that carries slots over to standbys.
const failoverVersion = 170000

// failover looks from the primary at what a failover would do to the slot. Without a standby there is nothing to say.
func (e *examination) failover(ctx context.Context) {
	if e.version < failoverVersion || e.s.cfg.Failover != nil && !*e.s.cfg.Failover {
		return
	}
	var setting string
	var failover *bool
	var active []string
	err := e.pool.QueryRow(ctx, `SELECT current_setting('synchronized_standby_slots'),
		(SELECT failover FROM pg_catalog.pg_replication_slots WHERE slot_name = $1),
		(SELECT coalesce(array_agg(slot_name::text ORDER BY slot_name), '{}') FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' AND active)`,
		e.s.cfg.Slot).Scan(&setting, &failover, &active)
	if err != nil {
		e.fault("failover", fmt.Errorf("look at the standbys: %w", err))
		return
	}
	waited := strings.FieldsFunc(setting, func(r rune) bool { return strings.ContainsRune(`, "`, r) })
	away := without(waited, active)
	set := func(names []string) string {
		return fmt.Sprintf("ALTER SYSTEM SET synchronized_standby_slots = %s; SELECT pg_reload_conf();", literal(strings.Join(names, ", ")))
	}
	switch free := without(active, waited); {
	case failover != nil && !*failover && len(active) > 0:
		e.Warn("failover", "start the agent of "+e.s.cfg.Name+" again: it alters the slot",
			"slot %s is not carried over to standbys: a failover is a gap", e.s.cfg.Slot)
	case (failover == nil || *failover) && len(away) > 0:
		e.Fail("failover", "start the standby; or, if it never comes back: "+set(without(waited, away)),
			"synchronized_standby_slots waits for %s, which no standby uses: no change is sent before one does", strings.Join(away, ", "))
	case len(free) > 0:
		e.Warn("failover", set(append(waited, free...)), "the standby of slot %s may get a commit later than the stream: a failover that loses it is a gap", strings.Join(free, ", "))
	case len(waited) > 0:
		e.OK("failover", "nothing is published that the standby of slot %s does not have", strings.Join(waited, ", "))
	}
}

// without is a less what is in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// hosts looks at all hosts of the source's url: a standby among them may be the primary one day.
func (e *examination) hosts(ctx context.Context) {
	main := e.s.pool.ConnConfig
	ways := map[string][]*pgconn.FallbackConfig{} // several for a host that may be reached without TLS
	var hosts []string
	for _, way := range slices.Insert(slices.Clone(main.Fallbacks), 0, &pgconn.FallbackConfig{Host: main.Host, Port: main.Port, TLSConfig: main.TLSConfig}) {
		host := net.JoinHostPort(way.Host, strconv.Itoa(int(way.Port)))
		if ways[host] == nil {
			hosts = append(hosts, host)
		}
		ways[host] = append(ways[host], way)
	}
	if len(hosts) == 1 {
		return
	}
	for _, host := range hosts {
		e.host(ctx, "host "+host, ways[host])
	}
}

func (e *examination) host(ctx context.Context, subject string, ways []*pgconn.FallbackConfig) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	cfg := e.s.pool.ConnConfig.Copy()
	cfg.ValidateConnect = nil // whatever it is
	cfg.Host, cfg.Port, cfg.TLSConfig, cfg.Fallbacks = ways[0].Host, ways[0].Port, ways[0].TLSConfig, ways[1:]
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		e.Warn(subject, "start it, or take it out of the source's url", "%v", e.s.explain("it cannot be reached", err))
		return
	}
	defer c.Close(context.WithoutCancel(ctx))
	var recovery bool
	if err := c.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&recovery); err != nil {
		e.fault(subject, err)
		return
	}
	if recovery {
		e.standby(ctx, subject, c)
	}
}

// standby looks from a standby at its copy of the slot.
func (e *examination) standby(ctx context.Context, subject string, q querier) {
	version, err := serverVersion(ctx, q)
	if err != nil || version < failoverVersion {
		e.fault(subject, err)
		return
	}
	var synced, temporary bool
	var lost string
	name := e.s.cfg.Slot
	err = q.QueryRow(ctx, `SELECT synced, temporary, coalesce(invalidation_reason, '') FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, name).
		Scan(&synced, &temporary, &lost)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		e.Warn(subject, "on it, run ALTER SYSTEM SET sync_replication_slots = on; ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf(); and see that it has a primary_slot_name, and a dbname in its primary_conninfo",
			"this standby has no copy of slot %s: a failover to it is a gap", name)
	case err != nil:
		e.fault(subject, fmt.Errorf("look at its slots: %w", err))
	case !synced:
		e.Warn(subject, fmt.Sprintf("on it, run SELECT pg_drop_replication_slot(%s);", literal(name)),
			"this standby has a slot %s of its own, from when it was the primary, which keeps the primary's from being copied: a failover to it is a gap", name)
	case lost != "":
		e.Warn(subject, "on it, run ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();", "its copy of slot %s is lost: %s", name, lost)
	case temporary:
		e.Warn(subject, "let the source's agent run; on the primary, SELECT pg_log_standby_snapshot(); hurries it", "its copy of slot %s is not complete yet: a failover to it is a gap", name)
	default:
		e.OK(subject, "a standby with a copy of slot %s", name)
	}
}
