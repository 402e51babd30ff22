package shop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// Traffic is a steady mix of transactions.
type Traffic struct {
	URL     string
	Seed    uint64
	Writers int // connections; default 4
	Rate    int // transactions a second over all writers; 0: as fast as they go

	transactions, changes atomic.Int64
	mu                    sync.Mutex
	next                  time.Time
}

// Transactions and Changes count what was committed.
func (t *Traffic) Transactions() int64 { return t.transactions.Load() }

// Changes counts committed row changes.
func (t *Traffic) Changes() int64 { return t.changes.Load() }

// Run writes until ctx ends; then it returns nil.
func (t *Traffic) Run(ctx context.Context) error {
	g, ctx2 := errgroup.WithContext(ctx)
	for w := range max(1, t.Writers) {
		g.Go(func() error {
			err := t.writer(ctx2, rand.New(rand.NewPCG(t.Seed, uint64(w))))
			if ctx.Err() != nil {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

func (t *Traffic) writer(ctx context.Context, r *rand.Rand) error {
	c, err := pgx.Connect(ctx, t.URL)
	if err != nil {
		return fmt.Errorf("traffic: %w", err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		if err := t.pace(ctx); err != nil {
			return nil
		}
		n, err := transaction(ctx, c, r)
		var pe *pgconn.PgError
		switch {
		case err == nil:
			t.transactions.Add(1)
			t.changes.Add(n)
		case errors.As(err, &pe) && (pe.Code == "40P01" || pe.Code == "23505"): // deadlock, a key taken by another writer
		default:
			return fmt.Errorf("traffic: %w", err)
		}
	}
	return nil
}

// pace waits for this transaction's turn.
func (t *Traffic) pace(ctx context.Context) error {
	if t.Rate <= 0 {
		return nil
	}
	t.mu.Lock()
	now := time.Now()
	if t.next.Before(now) {
		t.next = now
	}
	wait := t.next.Sub(now)
	t.next = t.next.Add(time.Second / time.Duration(t.Rate))
	t.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}

// transaction runs one random transaction and returns the number of changed rows.
func transaction(ctx context.Context, c *pgx.Conn, r *rand.Rand) (int64, error) {
	tx, err := c.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	var n int64
	exec := func(sql string, args ...any) {
		if err != nil {
			return
		}
		var tag pgconn.CommandTag
		if tag, err = tx.Exec(ctx, sql, args...); err == nil {
			n += tag.RowsAffected()
		}
	}
	old := 1 + r.Int64N(4000)
	switch k := r.IntN(100); {
	case k < 3: // a key that was deleted comes back, or not
		exec(`insert into orders (id, customer_id, status, amount, comment) values ($1, $2, 'again', 1, $3) on conflict (id) do nothing`, old, old, words(r))
	case k < 35: // an order with its items
		exec(`with o as (insert into orders (id, customer_id, status, amount, comment) values (nextval('order_ids'), $1, 'new', $2::bigint / 100.0, $3) returning id)
			insert into order_items select id, l, 'sku-' || l, l, l * 1.5 from o, generate_series(1, $4::int) l`, old, r.Int64N(1e6), words(r), 1+r.IntN(4))
		n++ // the order itself
	case k < 60:
		exec(`update orders set status = $2, amount = amount + 0.01 where id = $1`, old, []string{"paid", "shipped", "lost"}[r.IntN(3)])
	case k < 72: // leaves TOASTed notes unchanged
		exec(`update customers set balance = balance + $2::bigint / 1000.0, updated_at = localtimestamp, vip = not vip where id = $1`, old, r.Int64N(1000))
	case k < 77:
		exec(`update customers set notes = repeat(md5($2::int::text), 100 + $2::int % 50), profile = jsonb_set(coalesce(profile, '{}'), '{n}', to_jsonb($2::int)) where id = $1`, old, r.IntN(1000))
	case k < 82: // another primary key
		exec(`update orders set id = nextval('order_ids') where id = (select id from orders where id >= $1 order by id limit 1)`, old+r.Int64N(10))
	case k < 88:
		exec(`delete from order_items where order_id = $1`, old)
		exec(`delete from orders where id = $1`, old)
	case k < 89: // another row with the same key, within one transaction
		exec(`delete from orders where id = $1`, old)
		exec(`insert into orders (id, customer_id, status, amount, comment) values ($1, $1, 'anew', 2, $2)`, old, words(r))
	case k < 92:
		exec(`insert into customers (id, email, name, tags, born) values (nextval('customer_ids'), $1::text, $1::text, array[$1::text, null], '1969-07-20')`, words(r))
	case k < 94:
		exec(`delete from customers where id = $1`, old)
	case k < 97: // many rows at once
		exec(`update order_items set quantity = quantity + 1, price = price * 1.01 where order_id between $1 and $1 + 20`, old)
	default: // insert, change and remove again within one transaction
		exec(`insert into orders (id, customer_id, status, amount) values (-$1::bigint, $1, 'draft', 0)`, 1e9+r.Int64N(1e9))
		exec(`update orders set status = 'paid' where id < 0 and customer_id = (select max(customer_id) from orders where id < 0)`)
		exec(`delete from orders where id < 0 and customer_id % 2 = 0`)
	}
	if err != nil {
		return 0, err
	}
	if r.IntN(50) == 0 {
		return 0, tx.Rollback(ctx)
	}
	return n, tx.Commit(ctx)
}

func words(r *rand.Rand) string {
	all := []string{"blue", "Größe", "日本", "\"quoted\"", `back\slash`, "tab\tbed", "new\nline", "🙂", "plain", "it's", "\x01", ""}
	return all[r.IntN(len(all))] + " " + all[r.IntN(len(all))]
}
