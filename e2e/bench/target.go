package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// sunk is what it cost to bring a backlog into a target.
type sunk struct {
	rate                   float64 // rows a second, from the first message in JetStream until the target has all
	agent, worker, backend time.Duration
	nats                   time.Duration
	rows                   int
}

func (s *sunk) what(limit string) string {
	perM := func(t time.Duration) float64 { return t.Seconds() / float64(s.rows) * 1e6 }
	return fmt.Sprintf("a backlog, end to end; CPU seconds per million rows: agent %.2f, NATS %.2f, worker %.2f, target %.2f; limit: %s",
		perM(s.agent), perM(s.nats), perM(s.worker), perM(s.backend), limit)
}

// sink works off a backlog into a target. done says whether that has all that the stream holds.
func (f *flow) sink(ctx context.Context, table string, rows, target int, done func(ctx context.Context, s *stream.Stream) (bool, error)) (k sunk, err error) {
	k.rows = rows
	s, err := f.stream(ctx)
	if err != nil {
		return k, err
	}
	from, err := s.End(ctx)
	if err != nil {
		return k, err
	}
	nats, backend := family(f.nats.PID()), family(target)
	worker, err := f.worker()
	if err != nil {
		return k, err
	}
	if err := worker.says(ctx, "function is running"); err != nil {
		return k, err
	}
	agent, err := f.agent()
	if err != nil {
		return k, err
	}
	if _, err := f.marked(ctx, s, agent, "public."+table); err != nil {
		return k, err
	}
	if err := until(ctx, func() (bool, error) {
		if _, err := readStat(worker.cmd.Process.Pid); err != nil {
			return false, fmt.Errorf("the worker ended:\n%s", worker.log())
		}
		return done(ctx, s)
	}); err != nil {
		return k, err
	}
	now := time.Now()
	k.agent, k.worker = family(agent.cmd.Process.Pid), family(worker.cmd.Process.Pid)
	k.nats, k.backend = family(f.nats.PID())-nats, family(target)-backend
	first, err := s.Next(ctx, "cdc.bench.public.*.*", from.Last+1)
	if err != nil {
		return k, err
	}
	k.rate = float64(rows) / now.Sub(time.UnixMilli(first.TimeMS)).Seconds()
	if err := worker.stop(); err != nil {
		return k, err
	}
	return k, agent.stop()
}

// postgresMixed is W2 from one PostgreSQL to another one.
func (b *bench) postgresMixed(ctx context.Context) ([]Row, error) {
	k, to, err := b.toPostgres(ctx, "t2", mixed, b.rows/2)
	if err != nil {
		return nil, err
	}
	limit, err := upserts(ctx, to, "t2", b.rows/2)
	return []Row{row("postgres-w2", k.rate, "rows/s", limit, k.what("prepared upserts by arrays on the target alone"))}, err
}

// postgresInserts is W1 from one PostgreSQL to another one.
func (b *bench) postgresInserts(ctx context.Context) ([]Row, error) {
	k, to, err := b.toPostgres(ctx, "t1", inserts, b.rows)
	if err != nil {
		return nil, err
	}
	limit, err := b.copied(ctx, to, "t1", b.rows)
	return []Row{row("postgres-w1", k.rate, "rows/s", limit, k.what("COPY on the target alone"))}, err
}

func (b *bench) toPostgres(ctx context.Context, table string, write func(context.Context, *pgx.Conn, string, int) error, rows int) (k sunk, to *pgx.Conn, err error) {
	if to, err = b.connect(ctx, b.target()); err != nil {
		return k, nil, err
	}
	f, _, err := b.backlog(ctx, table, "to: {postgres: {url: \"${BENCH_TARGET}\"}}", write, rows, "BENCH_TARGET="+b.target().PostgresURL())
	if err != nil {
		return k, nil, err
	}
	var ends map[int]uint64
	k, err = f.sink(ctx, table, rows, b.target().PID(), func(ctx context.Context, s *stream.Stream) (bool, error) {
		if ends == nil {
			if ends, err = lasts(ctx, s, "public."+table); err != nil {
				return false, err
			}
		}
		behind := len(ends)
		found, err := to.Query(ctx, "select partition, sequence from runnel.checkpoints where function = 'target'")
		if err != nil {
			return false, err
		}
		var partition int
		var sequence int64
		_, err = pgx.ForEachRow(found, []any{&partition, &sequence}, func() error {
			if end, ok := ends[partition]; ok && uint64(sequence) >= end {
				behind--
			}
			return nil
		})
		return behind == 0, err
	})
	if err == nil {
		err = execute(ctx, to, "delete from runnel.checkpoints")
	}
	return k, to, err
}

// lasts are the last sequences of a table's partitions.
func lasts(ctx context.Context, s *stream.Stream, table string) (map[int]uint64, error) {
	ends := map[int]uint64{}
	for p := range 8 {
		m, err := s.LastOn(ctx, fmt.Sprintf("cdc.bench.%s.%d", table, p))
		if err == nil {
			ends[p] = m.Sequence
		} else if ctx.Err() != nil {
			return nil, err
		}
	}
	return ends, nil
}
