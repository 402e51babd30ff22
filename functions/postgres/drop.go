package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Drop takes away the tables that the function made, and what it noted of itself. Tables that were there before stay.
func (s *Sink) Drop(ctx context.Context, _ []*event.Schema, dry bool) (dropped, kept []string, err error) {
	missing, err := s.missingTables(ctx, s.pool)
	if err != nil || len(missing) > 0 {
		return nil, nil, err // it has never written anything
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		dropped, kept = nil, nil
		rows, err := tx.Query(ctx, `SELECT target, created FROM runnel.targets WHERE function = $1 AND to_regclass(target) IS NOT NULL ORDER BY target`, s.function)
		if err != nil {
			return err
		}
		var target string
		var created bool
		if _, err := pgx.ForEachRow(rows, []any{&target, &created}, func() error {
			if created {
				dropped = append(dropped, target)
			} else {
				kept = append(kept, target)
			}
			return nil
		}); err != nil || dry {
			return err
		}
		for _, name := range dropped {
			if _, err := tx.Exec(ctx, "DROP TABLE "+name); err != nil { // as it is written there, it is quoted
				return fmt.Errorf("drop table %s: %w", name, err)
			}
		}
		for _, t := range tables {
			if _, err := tx.Exec(ctx, "DELETE FROM runnel."+t.name+" WHERE function = $1", s.function); err != nil {
				return fmt.Errorf("forget the function in runnel.%s: %w", t.name, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, s.explain(err, ident{})
	}
	return dropped, kept, nil
}
