package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// commits is W3: a thousand transactions of one row a second, each with the time at which its commit was acknowledged.
func commits(ctx context.Context, c *pgx.Conn, table string, from, n int) ([]time.Time, error) {
	insert := fmt.Sprintf("insert into %s %s values (%s)", table, named, fmt.Sprintf(values, "$1::bigint"))
	at := make([]time.Time, n)
	began := time.Now()
	for i := range n {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Millisecond)))
		if _, err := c.Exec(ctx, insert, from+i); err != nil {
			return nil, err
		}
		at[i] = time.Now()
	}
	return at, nil
}

func quantiles(all []time.Duration) (p50, p99 float64) {
	slices.Sort(all)
	ms := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000 }
	return ms(0.5), ms(0.99)
}

// latencyStore is the time from a commit until JetStream has its message, beside a loop that does no more than that. Both take turns.
func (b *bench) latencyStore(ctx context.Context) ([]Row, error) {
	f, c, err := b.backlog(ctx, "w3", "", func(context.Context, *pgx.Conn, string, int) error { return nil }, 0)
	if err != nil {
		return nil, err
	}
	if err := execute(ctx, c, "select pg_create_logical_replication_slot('loop', 'pgoutput')"); err != nil {
		return nil, err
	}
	n := b.seconds * 1000
	nc, err := nats.Connect(f.nats.URL())
	if err != nil {
		return nil, err
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "LOOP", Subjects: []string{"loop.>"}}); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	turn := func(from int, stream, slot string, start func() (*process, error)) (p50, p99 float64, err error) {
		p, err := start()
		if err != nil {
			return 0, 0, err
		}
		if err := until(ctx, func() (ok bool, err error) {
			err = c.QueryRow(ctx, "select active from pg_replication_slots where slot_name = $1", slot).Scan(&ok)
			return ok, err
		}); err != nil {
			return 0, 0, err
		}
		time.Sleep(time.Second) // until it is calm
		at, err := commits(ctx, c, "w3", from, n)
		if err != nil {
			return 0, 0, err
		}
		stored, err := storedTimes(ctx, js, stream, from, n)
		if err != nil {
			return 0, 0, fmt.Errorf("%w\n%s", err, p.log())
		}
		took := make([]time.Duration, n)
		for i := range took {
			took[i] = max(stored[i].Sub(at[i]), 0) // JetStream's time is of before it answers, and the commit's of after its answer
		}
		p50, p99 = quantiles(took)
		return p50, p99, p.stop()
	}
	loop50, loop99, err := turn(1, "LOOP", "loop", func() (*process, error) {
		return f.start(self, "loop", b.source().PostgresURL(), "loop", "runnel_w3", f.nats.URL())
	})
	if err != nil {
		return nil, fmt.Errorf("loop: %w", err)
	}
	p50, p99, err := turn(1+n, "CDC_bench", "runnel_w3", f.agent)
	if err != nil {
		return nil, err
	}
	return []Row{row("latency-store", p99, "ms", loop99, fmt.Sprintf("commit to stored in JetStream, 1,000 transactions a second: p99; p50 %.2f, of the loop %.2f", p50, loop50))}, nil
}

// storedTimes are the times at which JetStream stored the messages of rows.
func storedTimes(ctx context.Context, js jetstream.JetStream, stream string, from, n int) ([]time.Time, error) {
	consumer, err := js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	at := make([]time.Time, n)
	deadline := time.Now().Add(30 * time.Second)
	for missing := n; missing > 0; {
		batch, err := consumer.Fetch(1000, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return nil, err
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return nil, err
			}
			for line := range bytes.Lines(m.Data()) {
				_, rest, ok := bytes.Cut(line, []byte(`"after":{"id":`))
				if !ok {
					continue
				}
				id, err := strconv.Atoi(string(rest[:bytes.IndexByte(rest, ',')]))
				if i := id - from; err == nil && i >= 0 && i < n && at[i].IsZero() {
					at[i] = meta.Timestamp
					missing--
				}
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d rows of %d are not in %s", missing, n, stream)
		}
	}
	return at, nil
}

// latencyTarget is the time from a commit until the row is visible in a PostgreSQL target, at a thousand transactions a second.
func (b *bench) latencyTarget(ctx context.Context) ([]Row, error) {
	to, err := b.connect(ctx, b.target())
	if err != nil {
		return nil, err
	}
	f, c, err := b.backlog(ctx, "w3t", "to: {postgres: {url: \"${BENCH_TARGET}\"}}", func(ctx context.Context, c *pgx.Conn, table string, _ int) error {
		return execute(ctx, c, mark(table))
	}, 0, "BENCH_TARGET="+b.target().PostgresURL())
	if err != nil {
		return nil, err
	}
	agent, err := f.agent()
	if err != nil {
		return nil, err
	}
	worker, err := f.worker()
	if err != nil {
		return nil, err
	}
	if err := visible(ctx, to, "w3t"); err != nil {
		return nil, err
	}
	n := b.seconds * 1000
	seen := make([]time.Time, n)
	failed := make(chan error, 1)
	go func() { // rows of several partitions come in any order
		for low := 1; low <= n; {
			rows, err := to.Query(ctx, "select id from w3t where id between $1 and $2", low, n)
			var ids []int64
			if err == nil {
				ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			}
			if err != nil {
				failed <- err
				return
			}
			now := time.Now()
			for _, id := range ids {
				if seen[id-1].IsZero() {
					seen[id-1] = now
				}
			}
			for low <= n && !seen[low-1].IsZero() {
				low++
			}
		}
		failed <- nil
	}()
	at, err := commits(ctx, c, "w3t", 1, n)
	if err != nil {
		return nil, err
	}
	if err := <-failed; err != nil {
		return nil, err
	}
	took := make([]time.Duration, n)
	for i := range took {
		took[i] = max(seen[i].Sub(at[i]), 0)
	}
	p50, p99 := quantiles(took)
	r := row("latency-target", p50, "ms", 0, fmt.Sprintf("commit to visible in PostgreSQL, 1,000 transactions a second: median; p99 %.1f, which must be below 20", p99))
	r.Pass = r.Pass && p99 <= 20
	if err := worker.stop(); err != nil {
		return nil, err
	}
	return []Row{r}, agent.stop()
}

// visible waits until the marker is in the target.
func visible(ctx context.Context, to *pgx.Conn, table string) error {
	return until(ctx, func() (ok bool, err error) {
		_ = to.QueryRow(ctx, fmt.Sprintf("select exists (select from %s where id = %d)", table, marker)).Scan(&ok) // the table is not there at first
		return ok, ctx.Err()
	})
}
