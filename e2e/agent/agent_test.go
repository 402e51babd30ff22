// Package agent_test runs the capture agent alone on a real PostgreSQL and an embedded JetStream, interrupts it again and again,
// and reads the stream back.
package agent_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

const setup = `
CREATE TABLE orders (id bigint PRIMARY KEY, n int NOT NULL, note text);
CREATE TABLE items (o bigint, line text, n int NOT NULL, PRIMARY KEY (o, line));
CREATE TABLE audit (n int, what text);
INSERT INTO orders SELECT i, 0, repeat('x', i % 50) FROM generate_series(1, 4000) i;
INSERT INTO items SELECT i, 'l' || j, 0 FROM generate_series(1, 1000) i, generate_series(1, 3) j;
INSERT INTO audit SELECT i, 'before' FROM generate_series(1, 500) i`

// TestInterrupted: the agent loads three tables, one without a key, beside traffic, and is interrupted at random times.
func TestInterrupted(t *testing.T) {
	ctx := t.Context()
	url := servers.Postgres(t, 17).PostgresURL()
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.WithoutCancel(ctx))
	if _, err := db.Exec(ctx, setup); err != nil {
		t.Fatal(err)
	}
	server, err := stream.Start(stream.Embedded{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	conn, err := server.Connect(ctx, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	st, err := stream.Create(ctx, conn, "shop", stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.Open(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context) error {
		src, err := postgres.New(postgres.Config{Name: "shop", URL: url, Tables: []string{"public.*"}, Heartbeat: 200 * time.Millisecond})
		if err != nil {
			return err
		}
		a, err := capture.New(capture.Config{
			Source: "shop", Horizon: conn.Horizon(), Settle: time.Second, ChunkRows: 300, Interval: 50 * time.Millisecond, Idle: 200 * time.Millisecond,
		}, src, st, r.Captures, r.Snapshots, r.Schemas)
		if err != nil {
			return err
		}
		return a.Run(ctx)
	}

	var traffic sync.WaitGroup
	busy, quiet := context.WithCancel(ctx)
	traffic.Go(func() { write(busy, t, url) })
	for i := range 8 {
		c, cancel := context.WithTimeout(ctx, time.Duration(200+300*i)*time.Millisecond)
		if err := run(c); err != nil {
			t.Errorf("Run: %v", err)
		}
		cancel()
	}
	c, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- run(c) }()
	settled := func(f func(rec registry.Capture) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; {
			rec, ok, err := r.CaptureOf(ctx, "shop")
			if err == nil && ok && f(rec) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the agent does not get on: %+v, %v", rec, err)
			}
			select {
			case err := <-done:
				t.Fatalf("Run: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	settled(func(rec registry.Capture) bool { return rec.Load.Done })
	quiet()
	traffic.Wait()
	var end int64
	if err := db.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn`).Scan(&end); err != nil {
		t.Fatal(err)
	}
	settled(func(rec registry.Capture) bool {
		p, err := event.ParsePosition(rec.Position)
		return err == nil && p.Commit >= uint64(end)
	})
	stop()
	if err := <-done; err != nil {
		t.Fatalf("Run: %v", err)
	}

	all, err := check.Read(ctx, st, "shop")
	if err != nil {
		t.Fatal(err)
	}
	if err := check.Order(all); err != nil {
		t.Error(err)
	}
	schemas := map[string]*event.Schema{}
	entries, err := r.Schemas.All(ctx, "shop.>")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		s, err := event.ParseSchema(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		schemas[s.Table.String()+s.Fingerprint()] = s
	}
	state, err := check.Fold(all, func(table event.Table, fingerprint string) (*event.Schema, error) {
		if s := schemas[table.String()+fingerprint]; s != nil {
			return s, nil
		}
		return nil, fmt.Errorf("no schema %s of %s", fingerprint, table)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"orders", "items", "audit"} {
		rows, err := db.Query(ctx, "SELECT row_to_json(t)::text FROM "+table+" t")
		if err != nil {
			t.Fatal(err)
		}
		want, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, text := range state[event.Table{Schema: "public", Name: table}] {
			got = append(got, text)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s, -source +stream:\n%.4000s", table, diff)
		}
		t.Logf("%s: %d rows", table, len(got))
	}
	t.Logf("%d messages", len(all))
}

// write changes rows until ctx ends.
func write(ctx context.Context, t *testing.T, url string) {
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Error(err)
		return
	}
	defer db.Close(context.WithoutCancel(ctx))
	random := rand.New(rand.NewPCG(1, 1))
	for i := 1; ctx.Err() == nil; i++ {
		id := 1 + random.IntN(4500)
		sql := []string{
			fmt.Sprintf("UPDATE orders SET n = %d WHERE id BETWEEN %d AND %d", i, id, id+5),
			fmt.Sprintf("DELETE FROM orders WHERE id = %d", id),
			fmt.Sprintf("INSERT INTO orders VALUES (%d, %d, 'new') ON CONFLICT (id) DO UPDATE SET n = excluded.n", id, i),
			fmt.Sprintf("UPDATE orders SET id = id + %d WHERE id = %d", i*100000, id),
			fmt.Sprintf("UPDATE items SET n = %d WHERE o = %d", i, id%1000),
			fmt.Sprintf("INSERT INTO audit VALUES (%d, 'during')", i),
		}[random.IntN(6)]
		switch {
		case i%700 == 300:
			sql = "TRUNCATE items, audit; INSERT INTO items SELECT i, 'again', 1 FROM generate_series(1, 50) i"
		case i%50 == 10:
			sql = "BEGIN; " + sql + "; UPDATE items SET n = n + 1 WHERE o < 20; COMMIT"
		}
		if _, err := db.Exec(context.WithoutCancel(ctx), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
			return
		}
	}
}
