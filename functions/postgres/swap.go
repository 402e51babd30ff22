package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

var _ sink.Swapper = (*Sink)(nil)

// Taken names the tables that are there.
func (s *Sink) Taken(ctx context.Context, schemas []*event.Schema) (taken []string, err error) {
	for _, schema := range schemas {
		target, err := s.names.target(schema.Table)
		if err != nil {
			return nil, sink.Halt(err)
		}
		if _, there, err := identity(ctx, s.pool, target); err != nil {
			return nil, s.explain(err, target)
		} else if there {
			taken = append(taken, target.String())
		}
	}
	return taken, nil
}

// identity is the number of a table, which stays with it whatever it is called. The catalog itself is read: to_regclass answers from a
// cache of the session.
func identity(ctx context.Context, q queryer, target ident) (oid uint32, there bool, err error) {
	err = q.QueryRow(ctx, "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
		target.schema, target.name).Scan(&oid)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return oid, err == nil, err
}

// pair is a table of the function and the one of its copy.
type pair struct {
	own, copied ident
	mark        string
}

func (s *Sink) pairs(w sink.Swap) ([]pair, error) {
	names, err := parseTemplate(w.Into)
	if err != nil {
		return nil, sink.Halt(err)
	}
	pairs := make([]pair, len(w.Schemas))
	for i, schema := range w.Schemas {
		p := &pairs[i]
		if p.own, err = s.names.target(schema.Table); err == nil {
			p.copied, err = names.target(schema.Table)
		}
		if err == nil && p.own.schema != p.copied.schema {
			err = fmt.Errorf("%s cannot come in the place of %s: the copy's table must be in the same schema", p.copied, p.own)
		}
		if err != nil {
			return nil, sink.Halt(err)
		}
		if i < len(w.Marks) {
			p.mark = w.Marks[i]
		}
	}
	return pairs, nil
}

// End closes the checkpoints of older generations, and gives those of the newest of them: closing waits for who holds them.
func (s *Sink) End(ctx context.Context, generation int64, lanes int) ([]sink.Point, error) {
	if err := s.bootstrap(ctx); err != nil {
		return nil, err
	}
	if err := s.endTransactions(ctx, s.function); err != nil {
		return nil, s.explain(err, ident{})
	}
	points := make([]sink.Point, lanes)
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE runnel.checkpoints SET closed = true WHERE function = $1 AND generation < $2 AND NOT closed", s.function, generation); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT DISTINCT ON (partition) partition, version, sequence FROM runnel.checkpoints WHERE function = $1 AND generation < $2
ORDER BY partition, generation DESC`, s.function, generation)
		if err != nil {
			return err
		}
		var partition int
		var at sink.Point
		_, err = pgx.ForEachRow(rows, []any{&partition, &at.Version, &at.Sequence}, func() error {
			if lanes == 1 && partition == sink.All {
				partition = 0
			}
			if partition >= 0 && partition < lanes {
				points[partition] = at
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, s.explain(fmt.Errorf("end older generations: %w", err), ident{})
	}
	return points, nil
}

// Marks gives the numbers of the copy's tables. What refers to a table by its number would go on to mean the old one: a swap is refused
// while there is something of the kind.
func (s *Sink) Marks(ctx context.Context, w sink.Swap) ([]string, error) {
	pairs, err := s.pairs(w)
	if err != nil {
		return nil, err
	}
	marks := make([]string, len(pairs))
	for i, p := range pairs {
		oid, there, err := identity(ctx, s.pool, p.copied)
		if err != nil {
			return nil, s.explain(err, p.copied)
		}
		if there {
			marks[i] = strconv.FormatUint(uint64(oid), 10)
		}
		if err := s.referred(ctx, p.own); err != nil {
			return nil, err
		}
	}
	return marks, nil
}

func (s *Sink) referred(ctx context.Context, own ident) error {
	oid, there, err := identity(ctx, s.pool, own)
	if err != nil {
		return s.explain(err, own)
	}
	if !there {
		return nil
	}
	rows, err := s.pool.Query(ctx, `SELECT DISTINCT format('DROP %s %I.%I;', CASE v.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END, n.nspname, v.relname)
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND v.oid <> $1
UNION SELECT format('ALTER TABLE %s DROP CONSTRAINT %I;', conrelid::regclass, conname) FROM pg_constraint WHERE confrelid = $1 AND contype = 'f' AND conparentid = 0
ORDER BY 1`, oid)
	if err != nil {
		return s.explain(err, own)
	}
	drops, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return s.explain(err, own)
	}
	if len(drops) > 0 {
		return sink.Halt(fmt.Errorf("views or foreign keys refer to table %s and would go on to mean its old rows; run: %s and make them again after the swap, or withdraw it: `runnel replay %s --cancel`", own, strings.Join(drops, " "), s.function))
	}
	return nil
}

// Swap renames the tables, and hands the copy's checkpoints over to the function's generation, in one transaction. Those of the generations
// before are closed in it: who still writes for one of them has committed before, or never does.
func (s *Sink) Swap(ctx context.Context, w sink.Swap) error {
	pairs, err := s.pairs(w)
	if err != nil {
		return err
	}
	if err := s.bootstrap(ctx); err != nil {
		return err
	}
	for _, function := range []string{s.function, w.Copy} {
		if err := s.endTransactions(ctx, function); err != nil {
			return s.explain(err, ident{})
		}
	}
	var at ident
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for _, function := range []string{s.function, w.Copy} {
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('runnel claim ' || $1, 0))", function); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "UPDATE runnel.checkpoints SET closed = true WHERE (function = $1 AND generation < $2 OR function = $3 AND generation <= $4) AND NOT closed",
			s.function, w.Generation, w.Copy, w.CopyGeneration); err != nil {
			return err
		}
		if err := lockDDL(ctx, tx); err != nil {
			return err
		}
		changed := false
		for _, p := range pairs {
			at = p.own
			one, err := s.exchange(ctx, tx, p, w.Copy)
			if err != nil {
				return err
			}
			changed = changed || one
		}
		if !changed { // it is repeated: whatever came after it counts
			return nil
		}
		_, err := tx.Exec(ctx, `INSERT INTO runnel.checkpoints (function, generation, partition, version, sequence)
SELECT $1::text, $2::bigint, partition, version, sequence FROM runnel.checkpoints WHERE function = $3 AND generation = $4`, s.function, w.Generation, w.Copy, w.CopyGeneration)
		return err
	})
	if err != nil {
		return s.explain(fmt.Errorf("let the copy come in the place of the function's tables: %w", err), at)
	}
	s.forget()
	return nil
}

// exchange lets the copy's table have the name, and the older one that of the copy.
func (s *Sink) exchange(ctx context.Context, tx pgx.Tx, p pair, copyName string) (changed bool, err error) {
	if p.mark == "" {
		return false, nil
	}
	own, there, err := identity(ctx, tx, p.own)
	if err != nil || there && strconv.FormatUint(uint64(own), 10) == p.mark {
		return false, err
	}
	if copied, _, err := identity(ctx, tx, p.copied); err != nil {
		return false, err
	} else if strconv.FormatUint(uint64(copied), 10) != p.mark {
		return false, sink.Halt(fmt.Errorf("table %s is not the one that the copy of function %s has filled: it was dropped or renamed; make another copy", p.copied, s.function))
	}
	var statements []string
	if there {
		if statements, err = grantsOf(ctx, tx, own, p.copied); err != nil {
			return false, err
		}
		statements = append(statements, fmt.Sprintf("ALTER TABLE %s RENAME TO %s", p.own, quote(p.aside())))
	}
	statements = append(statements, fmt.Sprintf("ALTER TABLE %s RENAME TO %s", p.copied, quote(p.own.name)))
	if there {
		statements = append(statements, fmt.Sprintf("ALTER TABLE %s RENAME TO %s", ident{p.own.schema, p.aside()}, quote(p.copied.name)))
	}
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return false, err
		}
	}
	s.log.Info("swapped the table with its copy", "table", p.own.String(), "copy", p.copied.String())
	mine, copied := p.own.String(), p.copied.String()
	for _, one := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO runnel.targets (target, function, source, created) SELECT $1::text, $2::text, source, created FROM runnel.targets WHERE target = $3 AND function = $4
ON CONFLICT (target) DO UPDATE SET function = excluded.function, created = excluded.created`, []any{mine, s.function, copied, copyName}},
		{`DELETE FROM runnel.targets WHERE target = $1 AND function = $2`, []any{copied, copyName}},
		{`DELETE FROM runnel.backfills WHERE target = $1 AND function = $2`, []any{mine, s.function}},
		{`DELETE FROM runnel.seen WHERE target = $1 AND function = $2`, []any{mine, s.function}},
		{`UPDATE runnel.backfills SET target = $1, function = $2 WHERE target = $3 AND function = $4`, []any{mine, s.function, copied, copyName}},
		{`UPDATE runnel.seen SET target = $1, function = $2 WHERE target = $3 AND function = $4`, []any{mine, s.function, copied, copyName}},
	} {
		if _, err := tx.Exec(ctx, one.sql, one.args...); err != nil {
			return false, err
		}
	}
	return true, nil
}

// aside is a name that nothing else has, for a moment.
func (p *pair) aside() string { return "runnel_swap_" + p.mark }

// grantsOf gives the copy's table to those to whom the function's own was given.
func grantsOf(ctx context.Context, tx pgx.Tx, own uint32, to ident) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT format('GRANT %s ON TABLE %s TO %s%s', a.privilege_type, $2::text, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
	CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = $1 AND a.grantee <> c.relowner ORDER BY 1`, own, to.String())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
