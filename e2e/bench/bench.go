package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/runnel-dev/runnel/e2e/servers"
)

type bench struct {
	rows     int
	binary   string
	dir      string
	source   *servers.Server
	target   *servers.Server
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
}

// postgres starts the servers that need not be there for all rows.
func (b *bench) postgres() {
	if b.source == nil {
		conf := []string{"synchronous_commit=on", "shared_buffers=512MB", "max_wal_size=8GB"}
		b.source, b.target = servers.Postgres(b, 15, conf...), servers.Postgres(b, 17, conf...)
	}
}

// run makes the measurements that are wanted.
func (b *bench) run(ctx context.Context, want func(string) bool) (rows []Row, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(fatal)
			if !ok {
				panic(r)
			}
			err = errors.New(string(f))
		}
	}()
	if b.dir, err = os.MkdirTemp("", "runnel-bench"); err != nil {
		return nil, err
	}
	b.Cleanup(func() { os.RemoveAll(b.dir) })
	for _, m := range []struct {
		name string
		f    func(context.Context) (Row, error)
	}{{"capture-w1", b.capture}, {"latency-target", b.latency}, {"mysql", b.mysql("mysql", servers.MySQL8)}, {"mariadb", b.mysql("mariadb", servers.MariaDB)}} {
		if !want(m.name) {
			continue
		}
		b.Logf("%s", m.name)
		row, err := m.f(ctx)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", m.name, err)
		}
		row.Name = m.name
		rows = append(rows, row)
	}
	return rows, nil
}
