package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/runnel-dev/runnel/e2e/servers"
)

type bench struct {
	rows     int
	seconds  int
	binary   string
	dir      string
	servers  map[int]*servers.Server // PostgreSQL, by major
	shared   *bench                  // what holds them until the end
	cleanups []func()
}

// fatal is how a server that does not start ends the run.
type fatal string

// The methods that servers need of a test.
func (b *bench) Helper()                   {}
func (b *bench) Failed() bool              { return false }
func (b *bench) Logf(f string, a ...any)   { fmt.Fprintf(os.Stderr, "bench: "+f+"\n", a...) }
func (b *bench) Fatal(a ...any)            { panic(fatal(fmt.Sprint(a...))) }
func (b *bench) Fatalf(f string, a ...any) { panic(fatal(fmt.Sprintf(f, a...))) }
func (b *bench) Skipf(f string, a ...any)  { panic(fatal(fmt.Sprintf(f, a...))) }
func (b *bench) Cleanup(f func())          { b.cleanups = append(b.cleanups, f) }

func (b *bench) cleanup() {
	for i := len(b.cleanups) - 1; i >= 0; i-- {
		b.cleanups[i]()
	}
	b.cleanups = nil
}

// postgres is a server that several rows use.
func (b *bench) postgres(major int) *servers.Server {
	if b.servers[major] == nil {
		b.servers[major] = servers.Postgres(b.shared, major, "synchronous_commit=on", "shared_buffers=1GB", "max_wal_size=8GB", "autovacuum=off")
	}
	return b.servers[major]
}

func (b *bench) source() *servers.Server { return b.postgres(15) }
func (b *bench) target() *servers.Server { return b.postgres(17) }

// measurement gives one row or several.
type measurement struct {
	names []string
	f     func(context.Context) ([]Row, error)
}

func (b *bench) measurements() []measurement {
	return []measurement{
		{[]string{"capture-w1", "cpu-w1", "rss"}, b.captureInserts},
		{[]string{"capture-w2"}, b.captureMixed},
		{[]string{"latency-store"}, b.latencyStore},
		{[]string{"latency-target"}, b.latencyTarget},
		{[]string{"postgres-w2"}, b.postgresMixed},
		{[]string{"postgres-w1"}, b.postgresInserts},
		{[]string{"clickhouse-w1"}, b.clickhouse},
		{[]string{"elasticsearch-w1"}, b.elasticsearch},
		{[]string{"snapshot"}, b.snapshot},
		{[]string{"mysql"}, b.mysql("mysql", servers.MySQL8)},
		{[]string{"mariadb"}, b.mysql("mariadb", servers.MariaDB)},
		{[]string{"replay"}, b.replay},
	}
}

// run makes the measurements that are wanted, and gives their rows in order.
func (b *bench) run(ctx context.Context, want func(string) bool) (rows []Row, err error) {
	if b.dir, err = os.MkdirTemp("", "runnel-bench"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.dir)
	b.servers, b.shared = map[int]*servers.Server{}, &bench{}
	defer b.shared.cleanup()
	var failed []error
	for _, m := range b.measurements() {
		if !slices.ContainsFunc(m.names, want) {
			continue
		}
		b.Logf("%v", m.names)
		got, err := b.measure(ctx, m)
		if err != nil {
			failed = append(failed, fmt.Errorf("%v: %w", m.names, err))
		}
		for _, r := range got {
			if want(r.Name) {
				rows = append(rows, r)
			}
		}
	}
	slices.SortFunc(rows, func(x, y Row) int { return slices.Index(names, x.Name) - slices.Index(names, y.Name) })
	return rows, errors.Join(failed...)
}

// measure ends what a measurement started before the next one.
func (b *bench) measure(ctx context.Context, m measurement) (rows []Row, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(fatal)
			if !ok {
				panic(r)
			}
			err = errors.New(string(f))
		}
		b.cleanup()
	}()
	return m.f(ctx)
}
