package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/e2e/shop"
)

// What applications do that hurts.

func (d *mysql) long(ctx context.Context, w *World, r *rand.Rand) error {
	for {
		err := d.use(ctx, w.Source, "root", func(c *client.Conn) error {
			run := func(statements ...string) error {
				for _, sql := range statements {
					if _, err := c.Execute(sql); err != nil {
						return fmt.Errorf("%s: %w", sql, err)
					}
				}
				return nil
			}
			if err := run(newTransaction, "BEGIN"); err != nil {
				return err
			}
			for i := range 6 {
				if err := run("SAVEPOINT s", fmt.Sprintf("INSERT INTO orders (customer_id, status, amount) SELECT %d, 'long', n FROM %s", i, numbers(50)),
					fmt.Sprintf("UPDATE customers SET balance = balance + 1 WHERE id BETWEEN %d AND %d", 500+i*10, 505+i*10)); err != nil {
					return err
				}
				if r.IntN(3) == 0 {
					if err := run("ROLLBACK TO SAVEPOINT s"); err != nil {
						return err
					}
				}
				if err := pause(ctx, between(r, 100*time.Millisecond, 1200*time.Millisecond)); err != nil {
					return err
				}
			}
			return run("COMMIT")
		})
		if !shop.MySQLDisturbed(err) {
			return err
		}
	}
}

func (d *mysql) huge(ctx context.Context, w *World, r *rand.Rand) error {
	return d.exec(ctx, w.Source, fmt.Sprintf("INSERT INTO order_items (order_id, line, sku, quantity, price) SELECT %d + n, 1, 'huge', n %% 1000, 1 FROM %s", (1+r.Int64N(1e6))*1e6, numbers(10_000)))
}

// extraColumn begins the names of columns that are added.
const extraColumn = "extra_"

func (d *mysql) columns(ctx context.Context, w *World, r *rand.Rand) error {
	column := fmt.Sprintf("%s%d", extraColumn, w.others.Add(1)) // a name that comes back would find its old values in the targets
	kind := []string{"int unsigned", "varchar(40)", "decimal(20,5)", "datetime(3)", "json"}[r.IntN(5)]
	value := map[string]string{"int unsigned": "%d", "varchar(40)": "'v%d'", "decimal(20,5)": "%d.5", "datetime(3)": "NOW(3) + INTERVAL %d SECOND", "json": `'{"n": %d}'`}[kind]
	place := []string{"", " FIRST", " AFTER status"}[r.IntN(3)]
	if err := d.exec(ctx, w.Source, fmt.Sprintf("ALTER TABLE orders ADD COLUMN %s %s%s", column, kind, place)); err != nil {
		return err
	}
	for i := range 5 + r.IntN(10) {
		err := d.exec(ctx, w.Source, fmt.Sprintf("UPDATE orders SET %s = "+value+" WHERE id %% 50 = %d", column, i, i))
		if err != nil && !shop.MySQLDisturbed(err) {
			return err
		}
		if err := pause(ctx, between(r, 0, 100*time.Millisecond)); err != nil {
			return err
		}
	}
	if r.IntN(3) == 0 {
		return nil
	}
	return d.exec(ctx, w.Source, "ALTER TABLE orders DROP COLUMN "+column)
}

func (d *mysql) swap(ctx context.Context, w *World, _ *rand.Rand) error {
	if err := w.Traffic.Pause(ctx); err != nil {
		return err
	}
	defer w.Traffic.Resume()
	return shop.SwapMySQL(ctx, w.Source.Addr, "order_items", fmt.Sprintf("%s%d int", extraColumn, w.others.Add(1)))
}

func (d *mysql) synchronous(ctx context.Context, w *World, r *rand.Rand) error {
	if err := w.Resnapshot(ctx); err != nil {
		return err
	}
	for range 8 {
		held := between(r, 50*time.Millisecond, 1500*time.Millisecond)
		err := d.exec(ctx, w.Source, "SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC'", "SET GLOBAL rpl_semi_sync_master_timeout = 60000", "SET GLOBAL rpl_semi_sync_master_enabled = ON")
		if err == nil {
			err = pause(ctx, held)
		}
		if e := d.exec(context.WithoutCancel(ctx), w.Source, "SET GLOBAL rpl_semi_sync_master_enabled = OFF"); err == nil {
			err = e
		}
		if err == nil {
			err = pause(ctx, between(r, 0, 300*time.Millisecond))
		}
		if err != nil {
			return err
		}
	}
	_, err := w.AwaitLog(ctx, w.Agents, "load finished")
	return err
}

// numbers is a table of that many of them, up to a million, in the column n.
func numbers(n int) string {
	const digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)"
	return fmt.Sprintf("(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d n FROM %[1]s a, %[1]s b, %[1]s c, %[1]s e, %[1]s f HAVING n < %d) numbers", digits, n)
}
