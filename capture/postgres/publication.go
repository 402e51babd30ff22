package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// insertSuffix is that of the publication for tables without replica identity.
const insertSuffix = "_insert"

// managed is the comment of publications that we made and may change. Those of users are taken as they are.
const (
	managed = "managed by runnel"
	madeAt  = ", made at "
)

// published is a table as the publications have it.
type published struct {
	name    event.Table
	columns []string // nil: all that are not generated
	filter  string   // a condition, empty for none
}

// publications are the names of those of ours that exist.
func (s *Source) publications(ctx context.Context, q querier) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT pubname::text FROM pg_catalog.pg_publication WHERE pubname = ANY($1) ORDER BY 1`,
		[]string{s.cfg.Publication, s.cfg.Publication + insertSuffix})
	if err != nil {
		return nil, fmt.Errorf("read the publications: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the publications: %w", err)
	}
	return names, nil
}

// published lists the captured tables: those of the publications that the patterns match.
func (s *Source) published(ctx context.Context, q querier, version int) ([]published, error) {
	names, err := s.publications(ctx, q)
	if err != nil {
		return nil, err
	}
	// A table in two publications is filtered only if both filter it. Version 14 has neither lists nor filters.
	sql := `SELECT schemaname::text, tablename::text, attnames::text[], rowfilter FROM pg_catalog.pg_publication_tables WHERE pubname = ANY($1) ORDER BY 1, 2`
	if version < 15 {
		sql = `SELECT schemaname::text, tablename::text, NULL::text[], NULL::text FROM pg_catalog.pg_publication_tables WHERE pubname = ANY($1) ORDER BY 1, 2`
	}
	rows, err := q.Query(ctx, sql, names)
	if err != nil {
		return nil, fmt.Errorf("read the publications' tables: %w", err)
	}
	defer rows.Close()
	var all []published
	for rows.Next() {
		var p published
		var filter *string
		if err := rows.Scan(&p.name.Schema, &p.name.Name, &p.columns, &filter); err != nil {
			return nil, fmt.Errorf("read the publications' tables: %w", err)
		}
		if filter != nil {
			p.filter = *filter
		}
		if n := len(all) - 1; n >= 0 && all[n].name == p.name {
			if all[n].filter != "" && p.filter != "" {
				all[n].filter = "(" + all[n].filter + ") OR (" + p.filter + ")"
			} else {
				all[n].filter = ""
			}
			continue
		}
		if s.wants(p.name) {
			all = append(all, p)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the publications' tables: %w", err)
	}
	return all, nil
}

// wants says whether the patterns match the table.
func (s *Source) wants(t event.Table) bool {
	return len(s.patterns) == 0 || slices.ContainsFunc(s.patterns, func(p capture.Pattern) bool { return p.Matches(t) })
}

// wanted are the tables that the patterns match: permanent ones, and no partition whose root is among them.
func (s *Source) wanted(all []*table) (with, without []*table, err error) {
	chosen := map[uint32]bool{}
	for _, t := range all {
		chosen[t.oid] = t.permanent && s.wants(t.name)
	}
	var faults []error
	for _, p := range s.patterns {
		i := slices.IndexFunc(all, func(t *table) bool { return p.Matches(t.name) })
		switch {
		case i < 0:
			faults = append(faults, setup(fmt.Sprintf("table %s does not exist", p.Text), "%s", near(p, all)))
		case !all[i].permanent && p.Text == all[i].name.String():
			faults = append(faults, setup(fmt.Sprintf("table %s is unlogged", p.Text), "ALTER TABLE %s SET LOGGED;", quoteTable(all[i].name)))
		}
	}
	for _, t := range all {
		if !chosen[t.oid] || slices.ContainsFunc(t.ancestors, func(a uint32) bool { return chosen[a] }) {
			continue
		}
		if err := t.refused(); err != nil {
			faults = append(faults, err)
		}
		if t.identified() {
			with = append(with, t)
		} else {
			without = append(without, t)
		}
	}
	return with, without, errors.Join(faults...)
}

// refused says why a table cannot be captured. Under a deferrable key two rows can have the same key for a while, so that
// deletes and creates of one key arrive in an order that has no meaning.
func (t *table) refused() error {
	if t.deferrable {
		return setup(fmt.Sprintf("table %s: its key is deferrable", t.name),
			"make the constraint NOT DEFERRABLE, or choose another unique index: ALTER TABLE %s REPLICA IDENTITY USING INDEX …;", quoteTable(t.name))
	}
	return nil
}

// publish makes the publications, or brings those that we made in line with the patterns. Both are made at once: decoding
// log that is older than a publication fails, or leaves out what it should have.
func (s *Source) publish(ctx context.Context, pool *pgxpool.Pool, version int) error {
	comments, err := s.comments(ctx, pool)
	if err != nil {
		return err
	}
	if main, exists := comments[s.cfg.Publication]; exists && !strings.HasPrefix(main, managed) {
		return s.usable(ctx, pool, version)
	}
	if len(s.patterns) == 0 {
		return setup("no tables are named", "list them under tables, or make a publication: CREATE PUBLICATION %s FOR TABLE …;", quote(s.cfg.Publication))
	}
	all, err := allTables(ctx, pool)
	if err != nil {
		return err
	}
	with, without, err := s.wanted(all)
	if err != nil {
		return err
	}
	var create, comment, alter []string
	for _, p := range []struct {
		name, actions string
		tables        []*table
	}{
		{s.cfg.Publication, "insert, update, delete, truncate", with},
		{s.cfg.Publication + insertSuffix, "insert, truncate", without},
	} {
		if _, exists := comments[p.name]; !exists {
			create = append(create, createSQL(p.name, p.actions, p.tables))
			comment = append(comment, fmt.Sprintf("COMMENT ON PUBLICATION %s IS %s", quote(p.name), literal(managed)))
			continue
		}
		changes, err := changesSQL(ctx, pool, p.name, p.tables)
		if err != nil {
			return err
		}
		alter = append(alter, changes...)
	}
	if err := s.create(ctx, pool, create, comment); err != nil {
		return err
	}
	return s.alter(ctx, pool, alter, with, without)
}

// create makes publications and then notes in their comment where the log was.
func (s *Source) create(ctx context.Context, pool *pgxpool.Pool, create, comment []string) error {
	if err := s.apply(ctx, pool, create, comment...); err != nil {
		return err
	}
	comments, err := s.comments(ctx, pool)
	if err != nil {
		return err
	}
	for name, c := range comments {
		if c != managed {
			continue
		}
		var lsn string
		if err = pool.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&lsn); err == nil {
			_, err = pool.Exec(ctx, fmt.Sprintf("COMMENT ON PUBLICATION %s IS %s", quote(name), literal(managed+madeAt+lsn)))
		}
		if err != nil {
			return fmt.Errorf("comment on publication %s: %w", name, err)
		}
	}
	return nil
}

// alter changes what we made. Where that is not allowed, the tables that are published already go on.
func (s *Source) alter(ctx context.Context, pool *pgxpool.Pool, statements []string, with, without []*table) error {
	if len(statements) == 0 {
		return nil
	}
	err := s.apply(ctx, pool, statements)
	var refused *capture.SetupError
	if errors.As(err, &refused) && len(with)+len(without) > 0 {
		s.cfg.Log.Error("publication does not have all tables", "error", err)
		return nil
	}
	return err
}

// comments are those of the publications that exist.
func (s *Source) comments(ctx context.Context, q querier) (map[string]string, error) {
	rows, err := q.Query(ctx, `SELECT pubname::text, coalesce(obj_description(oid, 'pg_publication'), '') FROM pg_catalog.pg_publication WHERE pubname = ANY($1)`,
		[]string{s.cfg.Publication, s.cfg.Publication + insertSuffix})
	if err != nil {
		return nil, fmt.Errorf("read the publications: %w", err)
	}
	m := map[string]string{}
	var name, comment string
	_, err = pgx.ForEachRow(rows, []any{&name, &comment}, func() error { m[name] = comment; return nil })
	if err != nil {
		return nil, fmt.Errorf("read the publications: %w", err)
	}
	return m, nil
}

// younger refuses to read log that is older than a publication of ours: its changes are not in what the server sends.
func (s *Source) younger(ctx context.Context, q querier, from pglogrepl.LSN) error {
	comments, err := s.comments(ctx, q)
	if err != nil {
		return err
	}
	for name, c := range comments {
		lsn, found := strings.CutPrefix(c, managed+madeAt)
		if !found {
			continue
		}
		made, err := pglogrepl.ParseLSN(lsn)
		if err != nil {
			return fmt.Errorf("comment of publication %s: %w", name, err)
		}
		if made > from {
			return s.gap("publication %s was made at %s, after the slot's position %s: changes in between were not published", name, made, from)
		}
	}
	return nil
}

// usable checks a publication that somebody else made.
func (s *Source) usable(ctx context.Context, q querier, version int) error {
	have, err := s.published(ctx, q, version)
	if err != nil {
		return err
	}
	if len(have) == 0 && len(s.patterns) == 0 {
		return setup(fmt.Sprintf("publication %s has no tables", s.cfg.Publication), "ALTER PUBLICATION %s ADD TABLE …;", quote(s.cfg.Publication))
	}
	all, err := allTables(ctx, q)
	if err != nil {
		return err
	}
	var faults []error
	for _, p := range s.patterns {
		if slices.ContainsFunc(have, func(h published) bool { return p.Matches(h.name) }) {
			continue
		}
		i := slices.IndexFunc(all, func(t *table) bool { return p.Matches(t.name) })
		if i < 0 {
			faults = append(faults, setup(fmt.Sprintf("table %s does not exist", p.Text), "%s", near(p, all)))
			continue
		}
		faults = append(faults, setup(fmt.Sprintf("publication %s has no table %s", s.cfg.Publication, p.Text),
			"ALTER PUBLICATION %s ADD TABLE %s;", quote(s.cfg.Publication), quoteTable(all[i].name)))
	}
	for _, t := range all {
		if slices.ContainsFunc(have, func(h published) bool { return h.name == t.name }) {
			if err := t.refused(); err != nil {
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}

// apply runs the statements in one transaction, so that no table is in no publication in between. What is printed where the
// right is missing leaves out the comments: a publication that others made is theirs.
func (s *Source) apply(ctx context.Context, pool *pgxpool.Pool, statements []string, comments ...string) error {
	if len(statements) == 0 {
		return nil
	}
	sql := strings.Join(statements, ";\n") + ";"
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for _, st := range slices.Concat(statements, comments) {
			if _, err := tx.Exec(ctx, st); err != nil {
				return err
			}
		}
		return nil
	})
	if code(err) == noPrivilege {
		return &capture.SetupError{Reason: fmt.Sprintf("user %s may not make or change publication %s", s.pool.ConnConfig.User, s.cfg.Publication),
			Fix: "run this as the tables' owner or a superuser:\n" + sql, Err: err}
	}
	if err != nil {
		return fmt.Errorf("make publication %s: %w", s.cfg.Publication, err)
	}
	s.cfg.Log.Info("changed publications", "sql", sql)
	return nil
}
