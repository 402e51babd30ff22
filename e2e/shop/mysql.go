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

// mysqlSchema is the shop in MySQL or MariaDB, with the types and habits that hurt there: UNSIGNED, character sets, ENUM, SET, BIT, BINARY keys,
// TIME beyond a day, and JSON.
var mysqlSchema = []string{
	"CREATE DATABASE shop",
	"USE shop",
	`CREATE TABLE customers (
		id bigint unsigned PRIMARY KEY, email varchar(100) NOT NULL, name varchar(80) CHARACTER SET latin1, vip tinyint(1) NOT NULL DEFAULT 0,
		profile json, level enum('new','gold','ßlver') NOT NULL DEFAULT 'new', flags set('a','b','c') NOT NULL DEFAULT '', bits bit(12),
		balance decimal(14,4) NOT NULL DEFAULT 0, rating double, weight float, born date, ref binary(16), avatar blob, notes mediumtext, spent time, since year,
		created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), updated_at datetime(3), half decimal(15,5) AS (balance / 2) STORED)`,
	`CREATE TABLE orders (
		id bigint PRIMARY KEY AUTO_INCREMENT, customer_id bigint unsigned NOT NULL, status varchar(20) NOT NULL, amount decimal(12,2) NOT NULL,
		placed_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, comment text, CONSTRAINT few CHECK (amount >= -1000000)) AUTO_INCREMENT = 1000000`,
	`CREATE TABLE order_items (
		order_id bigint NOT NULL, line int unsigned NOT NULL, sku varchar(20) NOT NULL, quantity smallint NOT NULL, price decimal(10,2) NOT NULL,
		PRIMARY KEY (order_id, line))`,
}

// CreateMySQL makes the tables in database shop and fills them with about `rows` existing rows.
func CreateMySQL(ctx context.Context, address string, rows int) error {
	c, err := connectMySQL(ctx, address, "")
	if err != nil {
		return err
	}
	defer c.Close()
	n := rows / 5
	for _, sql := range mysqlSchema {
		if _, err := c.Execute(sql); err != nil {
			return fmt.Errorf("create the shop: %s: %w", sql, err)
		}
	}
	for from := 1; from <= n; from += 500 {
		if _, err := c.Execute("BEGIN"); err != nil {
			return fmt.Errorf("fill the shop: %w", err)
		}
		for i := from; i < min(from+500, n+1); i++ {
			for _, sql := range []string{
				fmt.Sprintf(`INSERT INTO customers (id, email, name, vip, profile, level, flags, bits, balance, rating, weight, born, ref, avatar, notes, spent, since, updated_at)
					VALUES (%[1]d, 'c%[1]d@example.org', 'Cust%[2]cmer %[1]d', %[3]d, JSON_OBJECT('n', %[1]d, 'list', JSON_ARRAY(1, 2.5, NULL, 'x"\\y')), %[4]d, %[5]d, %[6]d, %[1]d * 1.2345,
					%[1]d / 7e0, %[1]d / 3e0, ADDDATE('1970-01-01', %[1]d %% 15000), UNHEX(MD5(%[1]d)), UNHEX(MD5(%[1]d + 1)), IF(%[1]d %% 4 = 0, REPEAT(MD5(%[1]d), 100), NULL),
					SEC_TO_TIME(%[1]d * 100 - 200000), 1990 + %[1]d %% 40, '2026-01-01 00:00:00.5')`, i, 'ö', i%2, 1+i%3, i%8, i%4096),
				fmt.Sprintf(`INSERT INTO orders (id, customer_id, status, amount, comment) VALUES (%[1]d, 1 + %[1]d %% %[2]d, 'new', %[1]d * 0.37, 'line\n\ttab "q" \\ é'),
					(%[3]d, %[1]d, 'paid', 1, NULL)`, i, n, n+i),
				fmt.Sprintf(`INSERT INTO order_items VALUES (%[1]d, 1, 'sku-%[1]d', 1, %[1]d * 0.11), (%[1]d, 2, 'sku-2', 2, 2.20)`, i),
			} {
				if _, err := c.Execute(sql); err != nil {
					return fmt.Errorf("fill the shop: %w", err)
				}
			}
		}
		if _, err := c.Execute("COMMIT"); err != nil {
			return fmt.Errorf("fill the shop: %w", err)
		}
	}
	return nil
}

func connectMySQL(ctx context.Context, address, database string) (*client.Conn, error) {
	c, err := client.ConnectWithContext(ctx, address, "root", "", database, 0)
	if err != nil {
		return nil, fmt.Errorf("shop: %w", err)
	}
	if _, err := c.Execute("SET NAMES utf8mb4"); err != nil {
		return nil, errors.Join(fmt.Errorf("shop: %w", err), c.Close())
	}
	return c, nil
}

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
	c, err := connectMySQL(ctx, t.URL, "shop")
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		if err := t.pace(ctx); err != nil {
			return nil
		}
		n, err := mysqlTransaction(c, r)
		var refused *mysql.MyError
		switch {
		case err == nil:
			t.transactions.Add(1)
			t.changes.Add(n)
		case errors.As(err, &refused) && (refused.Code == mysql.ER_LOCK_DEADLOCK || refused.Code == mysql.ER_DUP_ENTRY || refused.Code == mysql.ER_LOCK_WAIT_TIMEOUT || refused.Code == 1020):
			if _, err := c.Execute("ROLLBACK"); err != nil { // 1020: MariaDB, the row was changed by another writer
				return fmt.Errorf("traffic: %w", err)
			}
		default:
			return fmt.Errorf("traffic: %w", err)
		}
	}
	return nil
}

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
	exec("BEGIN")
	old := 1 + r.IntN(4000)
	switch k := r.IntN(100); {
	case k < 3: // a key that was deleted comes back, or not
		exec("INSERT IGNORE INTO orders (id, customer_id, status, amount, comment) VALUES (%d, %d, 'again', 1, 'é€')", old, old)
	case k < 35: // an order with its items
		exec("INSERT INTO orders (customer_id, status, amount, comment) VALUES (%d, 'new', %d / 100, REPEAT('x', %d))", old, r.IntN(1e6), r.IntN(300))
		for l := range 1 + r.IntN(4) {
			exec("INSERT INTO order_items VALUES (LAST_INSERT_ID(), %d, 'sku-%d', %d, %d * 1.5)", l, l, l, l)
		}
	case k < 60:
		exec("UPDATE orders SET status = '%s', amount = amount + 0.01 WHERE id = %d", []string{"paid", "shipped", "lost"}[r.IntN(3)], old)
	case k < 72:
		exec("UPDATE customers SET balance = balance + %d / 1000, updated_at = NOW(3), vip = 1 - vip, flags = flags ^ 1, rating = rating * 1.1, weight = weight / 3 WHERE id = %d", r.IntN(1000), old)
	case k < 77:
		exec("UPDATE customers SET notes = REPEAT(MD5(%d), 100), profile = JSON_SET(COALESCE(profile, '{}'), '$.n', %[1]d, '$.f', %[1]d / 4e0) WHERE id = %d", r.IntN(1000), old)
	case k < 82: // another primary key
		exec("UPDATE orders SET id = id + 2000000 + %d WHERE id = %d", r.IntN(1e6), old)
	case k < 88:
		exec("DELETE FROM order_items WHERE order_id = %d", old)
		exec("DELETE FROM orders WHERE id = %d", old)
	case k < 90: // another row with the same key, within one transaction
		exec("DELETE FROM orders WHERE id = %d", old)
		exec("INSERT INTO orders (id, customer_id, status, amount) VALUES (%d, 1, 'anew', 2)", old)
	case k < 95: // many rows at once
		exec("UPDATE order_items SET quantity = quantity + 1 WHERE order_id BETWEEN %d AND %d", old, old+20)
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
