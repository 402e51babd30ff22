package clickhouse

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

var _ sink.Swapper = (*Sink)(nil)

// nowhere is the UUID of tables in databases whose tables cannot be exchanged.
const nowhere = "00000000-0000-0000-0000-000000000000"

func nameOf(template string, t event.Table) string {
	return strings.NewReplacer("{schema}", t.Schema, "{table}", t.Name).Replace(template)
}

// Taken names the tables that are there, and views that remember them.
func (s *Sink) Taken(ctx context.Context, schemas []*event.Schema) (taken []string, err error) {
	for _, schema := range schemas {
		name := nameOf(s.template, schema.Table)
		there, err := s.identities(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, n := range []string{name, name + live} {
			if there[n] != "" {
				taken = append(taken, n)
			}
		}
	}
	return taken, nil
}

// End has nothing to end: what is late changes nothing.
func (s *Sink) End(context.Context, int64, int) ([]functions.Point, error) { return nil, nil }

// Marks gives the UUIDs of the copy's tables, which stay with them whatever they are called.
func (s *Sink) Marks(ctx context.Context, w sink.Swap) ([]string, error) {
	marks := make([]string, len(w.Schemas))
	for i, schema := range w.Schemas {
		name, into := nameOf(s.template, schema.Table), nameOf(w.Into, schema.Table)
		there, err := s.identities(ctx, into)
		if err != nil {
			return nil, err
		}
		if there[into] == nowhere {
			return nil, functions.Halt(fmt.Errorf("clickhouse: tables of database %s cannot be exchanged, since its engine is not Atomic: `runnel replay %s --cancel`", quote(s.database), s.function))
		}
		if own, err := s.identities(ctx, name); err != nil {
			return nil, err
		} else if own[name] == nowhere {
			return nil, functions.Halt(fmt.Errorf("clickhouse: %s is not a table that can be exchanged: `runnel replay %s --cancel`", quote(name), s.function))
		}
		marks[i] = there[into]
	}
	return marks, nil
}

// identities are the UUIDs of a table, of its view, and of the names that it has while it is swapped.
func (s *Sink) identities(ctx context.Context, name string) (map[string]string, error) {
	rows, err := s.conn.Query(clickhouse.Context(ctx, clickhouse.WithSettings(settings)),
		"SELECT name, toString(uuid) FROM system.tables WHERE database = ? AND (name IN (?, ?) OR startsWith(name, ?))", s.database, name, name+live, name+swapping)
	if err != nil {
		err, _ = s.classify(err, nil)
		return nil, err
	}
	defer rows.Close()
	found := map[string]string{}
	for rows.Next() {
		var n, uuid string
		if err := rows.Scan(&n, &uuid); err != nil {
			return nil, fmt.Errorf("clickhouse: look for table %s: %w", name, err)
		}
		found[n] = uuid
	}
	err, _ = s.classify(rows.Err(), nil)
	return found, err
}

// swapping is what the names of a table begin with, behind its own, while it is swapped.
const swapping = "_swapping_"

// Swap exchanges table after table. EXCHANGE TABLES has no condition, and sent once more by who is late it would undo what was done:
// so it is sent for a name that nobody else has. Who wants to exchange renames the copy's table first, by which the name that another
// one has used, or is about to use, is gone; and looks then whether it has what it wants.
func (s *Sink) Swap(ctx context.Context, w sink.Swap) error {
	for i, schema := range w.Schemas {
		if i < len(w.Marks) && w.Marks[i] != "" {
			if err := s.exchange(ctx, nameOf(s.template, schema.Table), nameOf(w.Into, schema.Table), w.Marks[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Sink) exchange(ctx context.Context, name, into, mark string) error {
	own, err := s.identities(ctx, name)
	if err != nil {
		return err
	}
	copies, err := s.identities(ctx, into)
	if err != nil {
		return err
	}
	if own[name] != mark {
		held := nameWith(copies, mark)
		if held == "" {
			return fmt.Errorf("clickhouse: the copy %s of table %s is not there", quote(into), quote(name))
		}
		mine := into + swapping + strings.ToLower(rand.Text()[:12])
		if err := s.order(ctx, "RENAME TABLE %s TO %s", held, mine); err != nil {
			return err
		}
		if copies, err = s.identities(ctx, into); err != nil {
			return err
		}
		switch {
		case copies[mine] != mark: // somebody has exchanged it between our look and our rename
		case own[name] == "":
			err = s.order(ctx, "RENAME TABLE %s TO %s", mine, name)
		default:
			err = s.order(ctx, "EXCHANGE TABLES %s AND %s", mine, name)
		}
		if err != nil {
			return err
		}
		if own, err = s.identities(ctx, name); err != nil {
			return err
		}
		if own[name] != mark {
			return fmt.Errorf("clickhouse: table %s was changed by somebody else while its copy came in its place", quote(name))
		}
		if copies, err = s.identities(ctx, into); err != nil {
			return err
		}
		s.log.Info("table_swapped", "table", name, "into", into)
	}
	return s.tidy(ctx, name, into, copies)
}

func nameWith(tables map[string]string, uuid string) string {
	for name, u := range tables {
		if u == uuid {
			return name
		}
	}
	return ""
}

// tidy gives the older table the name that the copy had, and the views what their tables have now.
func (s *Sink) tidy(ctx context.Context, name, into string, copies map[string]string) error {
	for n := range copies {
		if strings.HasPrefix(n, into+swapping) && copies[into] == "" {
			if err := s.order(ctx, "RENAME TABLE %s TO %s", n, into); err != nil {
				return err
			}
			copies[into] = copies[n]
		}
	}
	t := &table{plain: name, name: quote(s.database) + "." + quote(name)}
	rows, err := s.conn.Query(clickhouse.Context(ctx, clickhouse.WithSettings(settings)),
		"SELECT name, type FROM system.columns WHERE database = ? AND table = ? ORDER BY name IN ('_partition', '_version', '_deleted'), position", s.database, name)
	if err != nil {
		err, _ = s.classify(err, t)
		return err
	}
	defer rows.Close()
	var columns []column
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.name, &c.typ); err != nil {
			return fmt.Errorf("clickhouse: columns of %s: %w", t.name, err)
		}
		columns = append(columns, c)
	}
	if err, _ := s.classify(rows.Err(), t); err != nil {
		return err
	}
	if len(columns) <= len(ours) {
		return fmt.Errorf("clickhouse: table %s has no columns", t.name)
	}
	if err := s.view(ctx, t, columns); err != nil {
		return err
	}
	if copies[into+live] == "" {
		return nil
	}
	return s.exec(ctx, nil, "DROP VIEW IF EXISTS "+quote(s.database)+"."+quote(into+live))
}

// order runs a statement about two tables. One that is not there has another name by now: the next look shows it.
func (s *Sink) order(ctx context.Context, sql, a, b string) error {
	a, b = quote(s.database)+"."+quote(a), quote(s.database)+"."+quote(b)
	err := s.conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), fmt.Sprintf(sql, a, b))
	var e *clickhouse.Exception
	if errors.As(err, &e) && e.Code == accessDenied {
		return functions.Halt(fmt.Errorf("clickhouse: code %d: %s; run GRANT SELECT, INSERT, CREATE TABLE, DROP TABLE ON %s.* TO the user of the url, then `runnel resume %s`", e.Code, shorten(e.Message), quote(s.database), s.function))
	}
	err, _ = s.classify(err, nil)
	return err
}
