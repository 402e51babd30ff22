package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// Check looks whether the target can be reached, whether its structure fits and whether we may do what will be necessary. It
// changes nothing. All faults are reported at once.
func (s *Sink) Check(ctx context.Context, schemas []*event.Schema) error {
	var standby bool
	if err := s.pool.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return s.explain(fmt.Errorf("reach the target: %w", err), ident{})
	}
	if standby {
		return errors.New("the target is a standby and takes no writes: point the function's url to the primary")
	}
	missing, err := s.missingTables(ctx, s.pool)
	if err != nil {
		return s.explain(fmt.Errorf("look at the target: %w", err), ident{})
	}
	faults := []error{s.checkBookkeeping(ctx, len(missing) > 0)}
	for _, schema := range schemas {
		err := s.checkTable(ctx, schema, len(missing) == 0)
		if err != nil && !sink.IsHalt(err) {
			return err
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// checkBookkeeping looks at our own schema.
func (s *Sink) checkBookkeeping(ctx context.Context, missing bool) error {
	var there, create, use bool
	if err := s.pool.QueryRow(ctx, `SELECT to_regnamespace('runnel') IS NOT NULL,
	CASE WHEN to_regnamespace('runnel') IS NULL THEN has_database_privilege(current_database(), 'CREATE') ELSE has_schema_privilege('runnel', 'CREATE') END,
	CASE WHEN to_regclass('runnel.checkpoints') IS NULL THEN true ELSE has_table_privilege('runnel.checkpoints', 'SELECT') AND has_table_privilege('runnel.checkpoints', 'INSERT') AND has_table_privilege('runnel.checkpoints', 'UPDATE') END`).
		Scan(&there, &create, &use); err != nil {
		return fmt.Errorf("look at schema runnel: %w", err)
	}
	if missing && !create || !use {
		return sink.Halt(fmt.Errorf("role %s may not keep its checkpoints: %s", s.role, s.grantRunnel()))
	}
	return nil
}

func (s *Sink) checkTable(ctx context.Context, schema *event.Schema, ready bool) error {
	target, err := s.names.target(schema.Table)
	if err != nil {
		return sink.Halt(err)
	}
	if err := s.take(target, source{schema.Source, schema.Table}); err != nil {
		return err
	}
	c, err := s.compare(ctx, s.pool, schema, target, ready)
	if err != nil {
		return s.explain(fmt.Errorf("look at %s: %w", target, err), target)
	}
	if c.table != nil && !c.table.writable {
		return sink.Halt(fmt.Errorf("role %s may not write %s; as its owner or a superuser run: %s", s.role, target, s.grant(target)))
	}
	if len(c.ddl) == 0 {
		return nil
	}
	may := c.table != nil && c.table.owned
	if c.create {
		if err := s.pool.QueryRow(ctx, `SELECT coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1), has_database_privilege(current_database(), 'CREATE'))`,
			target.schema).Scan(&may); err != nil {
			return fmt.Errorf("look at schema %s: %w", quote(target.schema), err)
		}
	}
	if !may {
		return sink.Halt(fmt.Errorf("role %s may not create or alter %s; as the owner of its schema or table run: %s %s", s.role, target, strings.Join(c.ddl, " "), s.grant(target)))
	}
	return nil
}
