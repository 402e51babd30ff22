package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// drain is what one drain of a backlog into JetStream cost.
type drain struct {
	rate              float64 // rows a second, by the times at which JetStream stored the first and the last message
	limit             float64 // pg_recvlogical
	agent, nats       time.Duration
	walsender         time.Duration
	alone             time.Duration // the walsender with pg_recvlogical
	peak              float64       // MB
	messages, changes int
}

// captureInserts drains W1.
func (b *bench) captureInserts(ctx context.Context) ([]Row, error) {
	d, err := b.capture(ctx, "w1", inserts, b.rows)
	if err != nil {
		return nil, err
	}
	perM := func(t time.Duration) float64 { return t.Seconds() / float64(b.rows) * 1e6 }
	what := fmt.Sprintf("CPU seconds per million rows: agent %.2f, walsender %.2f, NATS %.2f; limit: the walsender with pg_recvlogical", perM(d.agent), perM(d.walsender), perM(d.nats))
	return []Row{
		row("capture-w1", d.rate, "rows/s", d.limit, d.what("a backlog of inserts")),
		row("cpu-w1", perM(d.agent+d.walsender+d.nats), "s/M", perM(d.alone), what),
		row("rss", d.peak, "MB", 0, "peak of the agent meanwhile"),
	}, nil
}

// captureMixed drains W2.
func (b *bench) captureMixed(ctx context.Context) ([]Row, error) {
	d, err := b.capture(ctx, "w2", mixed, b.rows/2)
	if err != nil {
		return nil, err
	}
	return []Row{row("capture-w2", d.rate, "rows/s", d.limit, d.what("a mixed backlog"))}, nil
}

func (d *drain) what(workload string) string {
	return fmt.Sprintf("PostgreSQL to JetStream, %s, %.0f rows a message; limit: pg_recvlogical over TCP", workload, float64(d.changes)/float64(d.messages))
}

// capture drains a backlog beside pg_recvlogical, which throws the same log away, from a copy of the same slot.
func (b *bench) capture(ctx context.Context, table string, write func(context.Context, *pgx.Conn, string, int) error, rows int) (d drain, err error) {
	f, c, err := b.backlog(ctx, table, "", write, rows)
	if err != nil {
		return d, err
	}
	d.changes = rows
	for range 2 { // before and after, since both are noisy
		if d.rate == 0 {
			if d.limit, d.alone, err = b.recvlogical(ctx, c, table, rows); err != nil {
				return d, err
			}
			if err = execute(ctx, c, "select pg_copy_logical_replication_slot('runnel_"+table+"', 'again')"); err != nil {
				return d, err
			}
			if err = f.drain(ctx, c, table, rows, &d); err != nil {
				return d, err
			}
			continue
		}
		if err = execute(ctx, c, "select pg_drop_replication_slot('runnel_"+table+"')", "select pg_copy_logical_replication_slot('again', 'runnel_"+table+"')",
			"select pg_drop_replication_slot('again')"); err != nil {
			return d, err
		}
		limit, alone, err := b.recvlogical(ctx, c, table, rows)
		if err != nil {
			return d, err
		}
		d.limit, d.alone = (d.limit+limit)/2, (d.alone+alone)/2
	}
	return d, execute(ctx, c, "select pg_drop_replication_slot('runnel_"+table+"')")
}

// drain lets an agent work off the backlog.
func (f *flow) drain(ctx context.Context, c *pgx.Conn, table string, rows int, d *drain) error {
	s, err := f.stream(ctx)
	if err != nil {
		return err
	}
	before := family(f.nats.PID())
	from, err := s.End(ctx)
	if err != nil {
		return err
	}
	sender, err := f.b.walsender(ctx, "runnel_"+table)
	if err != nil {
		return err
	}
	p, err := f.agent()
	if err != nil {
		return err
	}
	last, err := f.marked(ctx, s, p, "public."+table)
	if err != nil {
		return err
	}
	d.walsender = sender.cpu()
	d.agent, d.nats = family(p.cmd.Process.Pid), family(f.nats.PID())-before
	if d.peak, err = peak(p.cmd.Process.Pid); err != nil {
		return err
	}
	first, err := s.Next(ctx, "cdc.bench.public.*.*", from.Last+1)
	if err != nil {
		return err
	}
	d.messages = int(last.Sequence - first.Sequence + 1)
	d.rate = float64(rows) / max(float64(last.TimeMS-first.TimeMS), 1) * 1000
	return p.stop()
}

// marked waits for the message that holds the marker. It asks little of the server, and looks for it only when nothing is added any more.
func (f *flow) marked(ctx context.Context, s *stream.Stream, p *process, table string) (last *event.Message, err error) {
	var end uint64
	err = until(ctx, func() (bool, error) {
		if _, err := readStat(p.cmd.Process.Pid); err != nil {
			return false, fmt.Errorf("the agent ended:\n%s", p.log())
		}
		now, err := s.End(ctx)
		if moved := now.Last != end; moved || err != nil {
			end = now.Last
			return false, err
		}
		for partition := range 8 {
			m, err := s.LastOn(ctx, fmt.Sprintf("cdc.bench.%s.%d", table, partition))
			if errors.Is(err, stream.ErrNoMessage) {
				continue
			}
			if err != nil {
				return false, err
			}
			events, err := m.Decode(nil)
			if err != nil {
				return false, err
			}
			for i := range events {
				if v, ok := events[i].After.Column("id"); ok {
					if id, err := v.Int64(); err == nil && id == marker {
						last = m
						return true, nil
					}
				}
			}
		}
		return false, nil
	})
	return last, err
}

// recvlogical is the rate at which PostgreSQL's own client reads the same log, and what that costs the server.
func (b *bench) recvlogical(ctx context.Context, c *pgx.Conn, table string, rows int) (rate float64, cpu time.Duration, err error) {
	var end string
	if err := c.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&end); err != nil {
		return 0, 0, err
	}
	if err := execute(ctx, c, fmt.Sprintf("select pg_copy_logical_replication_slot('runnel_%s', 'limits')", table)); err != nil {
		return 0, 0, err
	}
	sender, err := b.walsender(ctx, "limits")
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	out, err := exec.CommandContext(ctx, servers.PostgresBin(15)+"/pg_recvlogical", "-d", b.source().PostgresURL(), "--slot", "limits", "--start", "--endpos", end,
		"-o", "proto_version=1", "-o", "publication_names=runnel_"+table, "-f", "/dev/null").CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("pg_recvlogical: %w: %s", err, out)
	}
	rate, cpu = float64(rows)/time.Since(began).Seconds(), sender.cpu()
	return rate, cpu, execute(ctx, c, "select pg_drop_replication_slot('limits')")
}

// walsender watches what reads a slot.
func (b *bench) walsender(ctx context.Context, slot string) (*watched, error) {
	c, err := b.connect(ctx, b.source())
	if err != nil {
		return nil, err
	}
	w := watch(ctx, func() (pid int) {
		_ = c.QueryRow(ctx, "select coalesce(active_pid, 0) from pg_replication_slots where slot_name = $1", slot).Scan(&pid)
		return pid
	})
	b.Cleanup(w.stop)
	return w, nil
}
