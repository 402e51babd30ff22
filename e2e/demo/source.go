package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
)

const postgres = "postgres"

// startSource starts the server of the shop.
func (d *demo) startSource() (name, url string, err error) {
	switch d.source {
	case postgres:
		d.server = servers.Postgres(d, 17)
		return "PostgreSQL 17", d.server.PostgresURL(), nil
	case "mysql":
		d.server = servers.MySQL8(d)
		return "MySQL 8", d.server.MySQLURL(), nil
	case "mariadb":
		d.server = servers.MariaDB(d)
		return "MariaDB", d.server.MySQLURL(), nil
	}
	return "", "", fmt.Errorf("--source %s: want postgres, mysql or mariadb", d.source)
}

// schema is where the shop's tables are.
func (d *demo) schema() string {
	if d.source == postgres {
		return "public"
	}
	return "shop"
}

// spec is the specification for the source: the warehouse has the tables in schema public always.
func (d *demo) spec(yaml string) string {
	if d.source == postgres {
		return yaml
	}
	return strings.NewReplacer(`postgres: {url: "${SHOP_URL}"}`, d.source+`: {url: "${SHOP_URL}"}`, "public.", "shop.",
		`{postgres: {url: "${WAREHOUSE_URL}"}}`, `{postgres: {url: "${WAREHOUSE_URL}", table: "public.{table}"}}`).Replace(yaml)
}

func (d *demo) fill(ctx context.Context) error {
	if d.source != postgres {
		return shop.CreateMySQL(ctx, d.server.Addr, d.rows)
	}
	c, err := pgx.Connect(ctx, d.server.PostgresURL())
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	return shop.Create(ctx, c, d.rows)
}

// table reads a table of the source.
func (d *demo) table(ctx context.Context, t shop.Table) (*equal.Table, error) {
	if d.source != postgres {
		return equal.MySQL(ctx, d.server.Addr, "shop", t.Name, t.Key)
	}
	return equal.Source(ctx, d.env["SHOP_URL"], t.Name, t.Key)
}

// client is a command that runs a statement on the source.
func (d *demo) client() string {
	if d.source != postgres {
		return fmt.Sprintf("mariadb -h 127.0.0.1 -P %d -u root shop -e", d.server.Port)
	}
	return fmt.Sprintf("psql '%s' -c", d.env["SHOP_URL"])
}
