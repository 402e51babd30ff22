package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

func tableList(tables []*table) string {
	var names []string
	for _, t := range tables {
		names = append(names, t.only())
	}
	return strings.Join(names, ", ")
}

func createSQL(name, actions string, tables []*table) string {
	list := ""
	if len(tables) > 0 {
		list = " FOR TABLE " + tableList(tables)
	}
	return fmt.Sprintf("CREATE PUBLICATION %s%s WITH (publish = '%s', publish_via_partition_root = true)", quote(name), list, actions)
}

// changesSQL brings a publication's list of tables in line.
func changesSQL(ctx context.Context, q querier, name string, tables []*table) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT r.prrelid FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE p.pubname = $1`, name)
	if err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	have, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	var add, drop []*table
	for _, t := range tables {
		if !slices.Contains(have, t.oid) {
			add = append(add, t)
		}
	}
	for _, oid := range have {
		if slices.ContainsFunc(tables, func(t *table) bool { return t.oid == oid }) {
			continue
		}
		t, err := tableByOID(ctx, q, oid)
		if err != nil {
			return nil, err
		}
		if t != nil {
			drop = append(drop, t)
		}
	}
	var sql []string
	if len(add) > 0 {
		sql = append(sql, fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", quote(name), tableList(add)))
	}
	if len(drop) > 0 {
		sql = append(sql, fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s", quote(name), tableList(drop)))
	}
	return sql, nil
}
