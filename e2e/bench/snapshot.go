package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

// snapshot is the first load of a table, beside a COPY of the same JSON that is thrown away.
func (b *bench) snapshot(ctx context.Context) ([]Row, error) {
	c, err := b.connect(ctx, b.source())
	if err != nil {
		return nil, err
	}
	if err := execute(ctx, c, "create table s1"+columns); err != nil {
		return nil, err
	}
	if err := inserts(ctx, c, "s1", b.rows); err != nil {
		return nil, err
	}
	if err := execute(ctx, c, "vacuum analyze s1"); err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := c.PgConn().CopyTo(ctx, io.Discard, "copy (select row_to_json(t) from s1 t) to stdout"); err != nil {
		return nil, err
	}
	limit := float64(b.rows) / time.Since(began).Seconds()
	f, err := b.flow(ctx, "s1", sourceSpec("s1"), "BENCH_SOURCE="+b.source().PostgresURL())
	if err != nil {
		return nil, err
	}
	p, err := f.agent()
	if err != nil {
		return nil, err
	}
	if err := p.says(ctx, "capture started"); err != nil {
		return nil, err
	}
	s, err := f.stream(ctx)
	if err != nil {
		return nil, err
	}
	last, err := f.marked(ctx, s, p, "public.s1")
	if err != nil {
		return nil, err
	}
	cpu := family(p.cmd.Process.Pid)
	first, err := s.Next(ctx, "cdc.bench.public.*.*", 1)
	if err != nil {
		return nil, err
	}
	rate := float64(b.rows) / max(float64(last.TimeMS-first.TimeMS), 1) * 1000
	what := fmt.Sprintf("first load of a table; agent %.2f CPU seconds per million rows; limit: COPY of the same JSON to nowhere", cpu.Seconds()/float64(b.rows)*1e6)
	return []Row{row("snapshot", rate, "rows/s", limit, what)}, p.stop()
}
