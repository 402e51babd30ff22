package shop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"golang.org/x/sync/errgroup"
)

// RunMySQL is Run for MySQL or MariaDB, whose address is in URL.
func (t *Traffic) RunMySQL(ctx context.Context) error {
	g, ctx2 := errgroup.WithContext(ctx)
	for w := range max(1, t.Writers) {
		g.Go(func() error {
			err := t.mysqlWriter(ctx2, rand.New(rand.NewPCG(t.Seed, uint64(w))))
			if ctx.Err() != nil {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

func (t *Traffic) mysqlWriter(ctx context.Context, r *rand.Rand) error {
	c, err := connectMySQL(ctx, t.URL, MySQLUser, "shop")
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Conn.Conn.Close() })() // a statement may wait for long, a commit for a replica
	for ctx.Err() == nil {
		if err := t.pace(ctx); err != nil {
			return nil
		}
		n, err := mysqlTransaction(c, r)
		switch {
		case err == nil:
			t.transactions.Add(1)
			t.changes.Add(n)
		case MySQLDisturbed(err):
			if _, err := c.Execute("ROLLBACK"); err != nil {
				return fmt.Errorf("traffic: %w", err)
			}
		default:
			return fmt.Errorf("traffic: %w", err)
		}
	}
	return nil
}

// recordChanged is MariaDB's error where another writer changed a row since the snapshot.
const recordChanged = 1020

// MySQLDisturbed says that other transactions were in the way.
func MySQLDisturbed(err error) bool {
	var refused *mysql.MyError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case mysql.ER_LOCK_DEADLOCK, mysql.ER_DUP_ENTRY, mysql.ER_LOCK_WAIT_TIMEOUT, recordChanged:
		return true
	}
	return false
}

// refund writes a row where a transaction else would only delete: the journal's transactions are found in the stream by what they wrote.
const refund = "INSERT INTO orders (customer_id, status, amount) VALUES (%d, 'refund', -1)"

// mysqlTransaction runs one random transaction and returns the number of changed rows.
func mysqlTransaction(c *client.Conn, r *rand.Rand) (n int64, err error) {
	exec := func(format string, args ...any) {
		if err != nil {
			return
		}
		var result *mysql.Result
		if result, err = c.Execute(fmt.Sprintf(format, args...)); err == nil {
			n += int64(result.AffectedRows)
			result.Close()
		}
	}
	exec(newTransaction)
	exec("BEGIN")
	old := 1 + r.IntN(4000)
	switch k := r.IntN(100); {
	case k < 3: // a key that was deleted comes back, or not; it is locked first, so that its changes have their numbers in order
		exec("SELECT id FROM orders WHERE id = %d FOR UPDATE", old)
		exec("INSERT IGNORE INTO orders (id, customer_id, status, amount, comment) VALUES (%d, %d, 'again', 1, 'é€')", old, old)
	case k < 35: // an order with its items
		exec("INSERT INTO orders (customer_id, status, amount, comment) VALUES (%d, 'new', %d / 100, REPEAT('x', %d))", old, r.IntN(1e6), r.IntN(300))
		for l := range 1 + r.IntN(4) {
			exec("INSERT INTO order_items (order_id, line, sku, quantity, price) VALUES (LAST_INSERT_ID(), %d, 'sku-%d', %d, %d * 1.5)", l, l, l, l)
		}
	case k < 60:
		exec("UPDATE orders SET status = '%s', amount = amount + 0.01 WHERE id = %d", []string{"paid", "shipped", "lost"}[r.IntN(3)], old)
	case k < 72:
		exec("UPDATE customers SET balance = balance + %d / 1000, updated_at = NOW(3), vip = 1 - vip, flags = flags ^ 1, rating = rating * 1.1, weight = weight / 3 WHERE id = %d", r.IntN(1000), old)
	case k < 77:
		exec("UPDATE customers SET notes = REPEAT(MD5(%d), 100), profile = JSON_SET(COALESCE(profile, '{}'), '$.n', %[1]d, '$.f', %[1]d / 4e0) WHERE id = %d", r.IntN(1000), old)
	case k < 82: // another primary key
		exec("UPDATE orders SET id = id + 2000000 + %d WHERE id = %d", r.IntN(1e6), old)
	case k < 87:
		exec("DELETE FROM order_items WHERE order_id = %d", old)
		exec("DELETE FROM orders WHERE id = %d", old)
		exec(refund, old)
	case k < 89: // another row with the same key, within one transaction
		exec("DELETE FROM orders WHERE id = %d", old)
		exec("INSERT INTO orders (id, customer_id, status, amount) VALUES (%d, 1, 'anew', 2)", old)
	case k < 91:
		exec("DELETE FROM customers WHERE id = %d", old)
		exec(refund, old)
	case k < 95: // many rows at once
		exec("UPDATE order_items SET quantity = quantity + 1 WHERE order_id BETWEEN %d AND %d", old, old+20)
	case k < 97: // part of it is taken back
		exec("UPDATE orders SET comment = 'kept' WHERE id = %d", old)
		exec("SAVEPOINT s")
		exec("UPDATE orders SET comment = 'taken back' WHERE id BETWEEN %d AND %d", old, old+3)
		exec("ROLLBACK TO SAVEPOINT s")
		exec("UPDATE orders SET amount = amount + 1 WHERE id = %d", old)
	default: // nothing of it is committed
		exec("INSERT INTO orders (customer_id, status, amount) VALUES (1, 'rolled back', 1)")
		if err == nil {
			_, err = c.Execute("ROLLBACK")
		}
		return 0, err
	}
	exec("COMMIT")
	return n, err
}
