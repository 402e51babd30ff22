package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
)

// postgres is PostgreSQL as the source.
type postgres struct{}

func (postgres) Start(t servers.TB) *servers.Server {
	return servers.Postgres(t, 17, sourceSettings...)
}

func (postgres) Create(ctx context.Context, s *servers.Server) error {
	c, err := pgx.Connect(ctx, s.PostgresURL())
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	return shop.Create(ctx, c, existing)
}

// Frequent heartbeats, so that the slot moves.
func (postgres) Spec() string { return `postgres: {url: "${SHOP_URL}", heartbeat: 1s}` }

func (postgres) Schema() string { return "public" }

func (postgres) URL(address string) string { return postgresURL(address) }

func (postgres) Write(ctx context.Context, s *servers.Server, t *shop.Traffic) error {
	t.URL = s.PostgresURL() + "&application_name=" + applicationName
	return t.Run(ctx)
}

func (postgres) Truncate(ctx context.Context, s *servers.Server) error {
	c, err := pgx.Connect(ctx, s.PostgresURL()+"&application_name="+applicationName)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	_, err = c.Exec(ctx, fmt.Sprintf("set lock_timeout = '%d s'; truncate %s", truncateWithin/time.Second, truncatedTable))
	return err
}

func (postgres) Sessions(ctx context.Context, s *servers.Server) (n int, err error) {
	return n, ask(ctx, s, "select count(*) from pg_stat_activity where application_name = '"+applicationName+"'", &n)
}

func (postgres) Probe(ctx context.Context, s *servers.Server) (id int64, err error) {
	return id, ask(ctx, s, "insert into orders (id, customer_id, status, amount) values (nextval('order_ids'), 1, 'probe', 0) returning id", &id)
}

func (postgres) Table(ctx context.Context, s *servers.Server, t shop.Table) (*equal.Table, error) {
	return equal.Source(ctx, s.PostgresURL(), t.Name, t.Key)
}

func (postgres) Journal(ctx context.Context, s *servers.Server) check.Entries {
	return check.Committed(ctx, s.PostgresURL())
}

// Reread are columns whose values the log leaves out where they did not change: they are read again.
func (postgres) Reread(map[string]*equal.Table) []string { return []string{"notes"} }

func (postgres) Sampler(r *check.Recorder, s *servers.Server, end func(context.Context) (uint64, uint64, error)) sampler {
	return &check.SourceSampler{Recorder: r, URL: s.PostgresURL(), Slot: slotName, End: end}
}

// Beside: heartbeats do that.
func (postgres) Beside(context.Context, *servers.Server) error { return nil }

// Patience: wal_sender_timeout of sourceSettings is shorter.
func (postgres) Patience(*rand.Rand) time.Duration { return frozen }

// Passed waits until the slot has released it.
func (postgres) Passed(ctx context.Context, w *World) error {
	var here string
	if err := w.query(ctx, "select pg_current_wal_lsn()::text", &here); err != nil {
		return err
	}
	err := w.until(ctx, fmt.Sprintf("select coalesce(bool_or(confirmed_flush_lsn > '%s'), false) from pg_replication_slots where slot_name = '%s'", here, slotName))
	if err != nil {
		return fmt.Errorf("the slot does not come past %s: %w", here, err)
	}
	return nil
}

func (postgres) Faults() []Fault { return sourceFaults }

// ask asks a PostgreSQL server for one value.
func ask(ctx context.Context, s *servers.Server, sql string, into any) error {
	c, err := pgx.Connect(ctx, s.PostgresURL())
	if err != nil {
		return fmt.Errorf("ask the source: %w", err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	if err := c.QueryRow(ctx, sql).Scan(into); err != nil {
		return fmt.Errorf("ask the source: %s: %w", sql, err)
	}
	return nil
}

// query asks the source, which is PostgreSQL, for one value.
func (w *World) query(ctx context.Context, sql string, into any) error {
	return ask(ctx, w.Source, sql, into)
}

// until waits for a query of the source to give true.
func (w *World) until(ctx context.Context, sql string) error {
	for {
		var ok bool
		err := w.query(ctx, sql, &ok)
		if ok {
			return nil
		}
		if p := pause(ctx, 100*time.Millisecond); p != nil {
			return errors.Join(fmt.Errorf("never became true: %s: %w", sql, p), err)
		}
	}
}
