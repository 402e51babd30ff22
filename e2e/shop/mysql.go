package shop

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-mysql-org/go-mysql/client"
)

// MySQLUser is who writes into the shop in MySQL or MariaDB, without a password.
const MySQLUser = "shop"

// mysqlSchema is the shop in MySQL or MariaDB, with the types and habits that hurt there: UNSIGNED, character sets, ENUM, SET, BIT, BINARY keys,
// TIME beyond a day, JSON, and a column whose name is a word of the language.
var mysqlSchema = []string{
	"CREATE DATABASE shop",
	"USE shop",
	`CREATE TABLE customers (
		id bigint unsigned PRIMARY KEY, email varchar(100) NOT NULL, name varchar(80) CHARACTER SET latin1, vip tinyint(1) NOT NULL DEFAULT 0,
		profile json, level enum('new','gold','ßlver') NOT NULL DEFAULT 'new', flags set('a','b','c') NOT NULL DEFAULT '', bits bit(12),
		balance decimal(14,4) NOT NULL DEFAULT 0, rating double, weight float, born date, ref binary(16), avatar blob, notes mediumtext, spent time, since year,
		created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), updated_at datetime(3), half decimal(15,5) AS (balance / 2) STORED, ` + "`change` bigint)",
	`CREATE TABLE orders (
		id bigint PRIMARY KEY AUTO_INCREMENT, customer_id bigint unsigned NOT NULL, status varchar(20) NOT NULL, amount decimal(12,2) NOT NULL,
		placed_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, comment text, ` + "`change`" + ` bigint, CONSTRAINT few CHECK (amount >= -1000000)) AUTO_INCREMENT = 1000000`,
	`CREATE TABLE order_items (
		order_id bigint NOT NULL, line int unsigned NOT NULL, sku varchar(20) NOT NULL, quantity smallint NOT NULL, price decimal(10,2) NOT NULL, ` + "`change`" + ` bigint,
		PRIMARY KEY (order_id, line))`,
	"CREATE USER " + MySQLUser + "@'%'",
	"GRANT ALL ON shop.* TO " + MySQLUser + "@'%'",
}

// CreateMySQL makes the tables in database shop, with the journal that Create makes too, and fills them with about `rows` existing rows.
func CreateMySQL(ctx context.Context, address string, rows int) error {
	c, err := connectMySQL(ctx, address, "root", "")
	if err != nil {
		return err
	}
	defer c.Close()
	for _, sql := range mysqlSchema {
		if _, err := c.Execute(sql); err != nil {
			return fmt.Errorf("create the shop: %s: %w", sql, err)
		}
	}
	if err := fillMySQL(c, rows/5); err != nil {
		return err
	}
	if err := writeJournal(c); err != nil {
		return err
	}
	if _, err := c.Execute(fmt.Sprintf("ALTER TABLE changes AUTO_INCREMENT = %d", rows+1)); err != nil {
		return fmt.Errorf("create the journal: %w", err)
	}
	return nil
}

// fillMySQL writes n customers, with what they bought, before there are triggers.
func fillMySQL(c *client.Conn, n int) error {
	for from := 1; from <= n; from += 500 {
		if _, err := c.Execute("BEGIN"); err != nil {
			return fmt.Errorf("fill the shop: %w", err)
		}
		for i := from; i < min(from+500, n+1); i++ {
			for _, sql := range []string{
				fmt.Sprintf(`INSERT INTO customers (id, email, name, vip, profile, level, flags, bits, balance, rating, weight, born, ref, avatar, notes, spent, since, updated_at, %[7]s)
					VALUES (%[1]d, 'c%[1]d@example.org', 'Cust%[2]cmer %[1]d', %[3]d, JSON_OBJECT('n', %[1]d, 'list', JSON_ARRAY(1, 2.5, NULL, 'x"\\y')), %[4]d, %[5]d, %[6]d, %[1]d * 1.2345,
					%[1]d / 7e0, %[1]d / 3e0, ADDDATE('1970-01-01', %[1]d %% 15000), UNHEX(MD5(%[1]d)), UNHEX(MD5(%[1]d + 1)), IF(%[1]d %% 4 = 0, REPEAT(MD5(%[1]d), 100), NULL),
					SEC_TO_TIME(%[1]d * 100 - 200000), 1990 + %[1]d %% 40, '2026-01-01 00:00:00.5', %[8]d)`, i, 'ö', i%2, 1+i%3, i%8, i%4096, "`change`", 5*i-4),
				fmt.Sprintf(`INSERT INTO orders (id, customer_id, status, amount, comment, %[4]s) VALUES (%[1]d, 1 + %[1]d %% %[2]d, 'new', %[1]d * 0.37, 'line\n\ttab "q" \\ é', %[5]d),
					(%[3]d, %[1]d, 'paid', 1, NULL, %[5]d + 1)`, i, n, n+i, "`change`", 5*i-3),
				fmt.Sprintf(`INSERT INTO order_items VALUES (%[1]d, 1, 'sku-%[1]d', 1, %[1]d * 0.11, %[2]d), (%[1]d, 2, 'sku-2', 2, 2.20, %[2]d + 1)`, i, 5*i-1),
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

// ExecMySQL runs statements in database shop as root, each as a transaction that the journal knows.
func ExecMySQL(ctx context.Context, address string, statements ...string) error {
	c, err := connectMySQL(ctx, address, "root", "shop")
	if err != nil {
		return err
	}
	defer c.Close()
	for _, sql := range statements {
		for _, s := range []string{newTransaction, sql} {
			if _, err := c.Execute(s); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
	}
	return nil
}

// newTransaction begins one as far as the journal is concerned.
const newTransaction = "SET @txn = UUID_SHORT()"

func connectMySQL(ctx context.Context, address, user, database string) (*client.Conn, error) {
	c, err := client.ConnectWithContext(ctx, address, user, "", database, 0)
	if err != nil {
		return nil, fmt.Errorf("shop: %w", err)
	}
	if _, err := c.Execute("SET NAMES utf8mb4, time_zone = '+00:00'"); err != nil {
		return nil, errors.Join(fmt.Errorf("shop: %w", err), c.Close())
	}
	return c, nil
}
