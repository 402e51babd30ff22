package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
)

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// quote quotes identifiers; several are joined by dots.
func quote(names ...string) string { return pgx.Identifier(names).Sanitize() }

func quoteTable(t event.Table) string { return quote(t.Schema, t.Name) }

// literal quotes a string under standard_conforming_strings.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
