// Package agent_test runs the capture agent alone on a real PostgreSQL and an embedded JetStream, interrupts it again and again,
// and reads the stream back.
package agent_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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
	w := newWorld(t, setup)
	var traffic sync.WaitGroup
	busy, quiet := context.WithCancel(t.Context())
	traffic.Go(func() { write(busy, t, w.url) })
	for i := range 8 {
		c, cancel := context.WithTimeout(t.Context(), time.Duration(200+300*i)*time.Millisecond)
		if err := w.run(c); err != nil {
			t.Errorf("Run: %v", err)
		}
		cancel()
	}
	w.start()
	w.loaded()
	quiet()
	traffic.Wait()
	w.settled()
	w.stop()
	if diff := w.differences("orders", "items", "audit"); diff != "" {
		t.Error(diff)
	}
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
