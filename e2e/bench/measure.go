package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

const table = `create table %s (id bigint primary key, customer_id bigint not null, status text not null, amount numeric(12,2) not null,
	currency char(3) not null, note text, attrs jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now())`

const insert = `insert into w1 (id, customer_id, status, amount, currency, note, attrs)
	select i, i %% 1000, 'new', i * 0.37, 'EUR', 'a note about order ' || i || repeat(' lorem ipsum', 8), jsonb_build_object('k', i, 'tags', jsonb_build_array('a', 'b'))
	from generate_series(%d, %d) i`

const sourceSpec = "kind: source\nname: bench\npostgres: {url: \"${BENCH_SOURCE}\", slot: runnel_%[1]s, publication: runnel_%[1]s}\ntables: [public.%[1]s]\n"

// capture drains a backlog of transactions of 100 inserts into JetStream, beside pg_recvlogical, which throws the same log away.
// The rate is taken from the times at which JetStream stored the first and the last of them.
func (b *bench) capture(ctx context.Context) (Row, error) {
	b.postgres()
	c, err := pgx.Connect(ctx, b.source.PostgresURL())
	if err != nil {
		return Row{}, err
	}
	defer c.Close(ctx)
	spec := fmt.Sprintf(sourceSpec, "w1")
	if err := execute(ctx, c, fmt.Sprintf(table, "w1")); err != nil {
		return Row{}, err
	}
	p, err := b.start("w1", spec)
	if err != nil {
		return Row{}, err
	}
	if err := p.loaded(ctx); err != nil {
		return Row{}, err
	}
	if err := p.stop(); err != nil {
		return Row{}, err
	}
	if err := execute(ctx, c, "create publication limits for table w1", "select pg_create_logical_replication_slot('limits', 'pgoutput')"); err != nil {
		return Row{}, err
	}
	for i := 1; i <= b.rows; i += 100 {
		if err := execute(ctx, c, fmt.Sprintf(insert, i, i+99)); err != nil {
			return Row{}, err
		}
	}
	limit, err := b.recvlogical(ctx, c)
	if err != nil {
		return Row{}, err
	}
	if p, err = b.start("w1", spec); err != nil {
		return Row{}, err
	}
	var took time.Duration
	if err := until(ctx, func() (bool, error) { took, err = b.drained(ctx, p, "public"); return took > 0, err }); err != nil {
		return Row{}, err
	}
	rate := float64(b.rows) / took.Seconds()
	return Row{Value: rate, Unit: "events/s", Limit: limit, Ratio: rate / limit, What: "PostgreSQL to JetStream, a backlog; limit: pg_recvlogical over TCP"}, p.stop()
}

// drained is the time between the first and the last event, 0 while the last one is not there.
func (b *bench) drained(ctx context.Context, p *process, schema string) (time.Duration, error) {
	s, closeConn, err := p.stream(ctx)
	if err != nil {
		return 0, ctx.Err() // it starts
	}
	defer closeConn()
	subject := "cdc.bench." + schema + ".w1.*"
	last, err := s.LastOn(ctx, subject)
	if errors.Is(err, stream.ErrNoMessage) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	events, err := last.Decode(nil)
	if err != nil {
		return 0, err
	}
	var e event.Event
	if len(events) > 0 {
		e = events[len(events)-1]
	}
	id, _ := e.After.Column("id")
	if n, err := id.Int64(); err != nil || n < int64(b.rows) {
		return 0, nil
	}
	first, err := s.Next(ctx, subject, 1)
	if err != nil {
		return 0, err
	}
	return time.Duration(last.TimeMS-first.TimeMS) * time.Millisecond, nil
}

// recvlogical is the rate at which PostgreSQL's own client reads the same log.
func (b *bench) recvlogical(ctx context.Context, c *pgx.Conn) (float64, error) {
	var end string
	if err := c.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&end); err != nil {
		return 0, err
	}
	began := time.Now()
	out, err := exec.CommandContext(ctx, "/usr/lib/postgresql/15/bin/pg_recvlogical", "-d", b.source.PostgresURL(), "--slot", "limits", "--start", "--endpos", end,
		"-o", "proto_version=1", "-o", "publication_names=limits", "-f", "/dev/null").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pg_recvlogical: %w: %s", err, out)
	}
	rate := float64(b.rows) / time.Since(began).Seconds()
	return rate, execute(ctx, c, "select pg_drop_replication_slot('limits')")
}

// latency is the time from a commit on the source until the row is visible in a PostgreSQL target, on an idle pipeline.
func (b *bench) latency(ctx context.Context) (Row, error) {
	b.postgres()
	from, err := pgx.Connect(ctx, b.source.PostgresURL())
	if err != nil {
		return Row{}, err
	}
	defer from.Close(ctx)
	to, err := pgx.Connect(ctx, b.target.PostgresURL())
	if err != nil {
		return Row{}, err
	}
	defer to.Close(ctx)
	if err := execute(ctx, from, fmt.Sprintf(table, "w3"), "insert into w3 (id, customer_id, status, amount, currency) values (1, 0, '', 0, 'EUR')"); err != nil {
		return Row{}, err
	}
	p, err := b.start("w3", fmt.Sprintf(sourceSpec, "w3")+"---\nkind: function\nname: target\nfrom: bench.public.w3\nto: {postgres: {url: \"${BENCH_TARGET}\"}}\n")
	if err != nil {
		return Row{}, err
	}
	if err := p.loaded(ctx); err != nil {
		return Row{}, err
	}
	if err := until(ctx, func() (ok bool, err error) {
		_ = to.QueryRow(ctx, "select count(*) = 1 from w3").Scan(&ok) // the table is not there at first
		return ok, ctx.Err()
	}); err != nil {
		return Row{}, err
	}
	var took []time.Duration
	for i := range 300 {
		if err := execute(ctx, from, fmt.Sprintf("update w3 set customer_id = %d", i+1)); err != nil {
			return Row{}, err
		}
		began := time.Now()
		for seen := false; !seen; {
			if err := to.QueryRow(ctx, "select customer_id = $1 from w3", i+1).Scan(&seen); err != nil {
				return Row{}, err
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	ms := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	return Row{Value: ms(0.5), Unit: "ms", What: fmt.Sprintf("commit to visible in PostgreSQL, idle pipeline: median; p99 %.1f ms", ms(0.99))}, p.stop()
}
