package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// plan finds how a version of a table is written. The first time it creates or alters the target.
func (s *Sink) plan(ctx context.Context, schema *event.Schema) (*plan, error) {
	id := structured{schema.Source, schema.Fingerprint()}
	if p := s.planned(id); p != nil {
		return p, nil
	}
	p, err := s.makePlan(ctx, schema, func(ctx context.Context, do func(pgx.Tx) error) error { return pgx.BeginFunc(ctx, s.pool, do) })
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans[id] = p
	return p, nil
}

func (s *Sink) planner(ctx context.Context) func(*event.Schema) (*plan, error) {
	return func(schema *event.Schema) (*plan, error) { return s.plan(ctx, schema) }
}

func (s *Sink) planned(id structured) *plan {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.plans[id]
}

// makePlan brings the target into shape, within a transaction of the caller's choice.
func (s *Sink) makePlan(ctx context.Context, schema *event.Schema, within func(context.Context, func(pgx.Tx) error) error) (*plan, error) {
	target, err := s.names.target(schema.Table)
	if err != nil {
		return nil, sink.Halt(err)
	}
	if err := s.take(target, source{schema.Source, schema.Table}); err != nil {
		return nil, err
	}
	// A change of the structure may take longer than a write may: it would be begun again and again. It is harmless where the
	// caller has lost its partition meanwhile.
	ctx = context.WithoutCancel(ctx)
	var t *table
	err = within(ctx, func(tx pgx.Tx) (err error) {
		t, err = s.ensure(ctx, tx, schema, target)
		return err
	})
	if err != nil && !sink.IsHalt(err) && classOf(err) == structure && s.gone(ctx) {
		return nil, fmt.Errorf("%w: the target knows no checkpoints: %w", sink.ErrBehind, err)
	}
	if err != nil {
		return nil, s.explain(err, target)
	}
	return newPlan(schema, target, t), nil
}

// forget makes the sink look at all tables again.
func (s *Sink) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.plans)
}

// take refuses two tables of the source in one table of the target: their rows would overwrite each other.
func (s *Sink) take(target ident, from source) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, ok := s.sources[target]; ok && other != from {
		return sink.Halt(fmt.Errorf("%s and %s would both be written to %s: use {schema} and {table} in the function's `table`, or a function for each", other, from, target))
	}
	s.sources[target] = from
	return nil
}

// ensure makes the target what the schema needs.
func (s *Sink) ensure(ctx context.Context, tx pgx.Tx, schema *event.Schema, target ident) (*table, error) {
	if err := lockDDL(ctx, tx); err != nil {
		return nil, err
	}
	c, err := s.compare(ctx, tx, schema, target, true)
	if err != nil {
		return nil, err
	}
	if c.create && !c.adopt { // made anew it would hold what comes from now on, and seem to be whole
		return nil, sink.Halt(fmt.Errorf("table %s was dropped or renamed while the function %s wrote it: run `runnel delete %s`, then `runnel deploy`, and it is filled again from the stream's beginning; or, to go on without the rows that it had, run: %s then `runnel resume %s`",
			target, s.function, s.function, strings.Join(c.ddl, " "), s.function))
	}
	if len(c.ddl) > 0 {
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil { // a wider type may rewrite the table
			return nil, err
		}
	}
	for _, ddl := range c.ddl {
		if _, err := tx.Exec(ctx, ddl); err != nil {
			return nil, s.refusedDDL(err, ddl, target)
		}
		s.log.Info("changed the target", "table", target.String(), "statement", ddl)
	}
	if c.adopt {
		if _, err := tx.Exec(ctx, "INSERT INTO runnel.targets (target, function, source, created) VALUES ($1, $2, $3, $4)",
			target.String(), s.function, source{schema.Source, schema.Table}.String(), c.create); err != nil {
			return nil, err
		}
	}
	if len(c.ddl) == 0 {
		return c.table, nil
	}
	if c, err = s.compare(ctx, tx, schema, target, true); err == nil && len(c.ddl) > 0 {
		err = sink.Halt(fmt.Errorf("table %s still does not fit after it was changed; run: %s", target, strings.Join(c.ddl, " ")))
	}
	return c.table, err
}

// refusedDDL prints what we may not do, so that somebody else can.
func (s *Sink) refusedDDL(err error, ddl string, target ident) error {
	switch classOf(err) {
	case transient:
		return err
	case data, structure, wrong:
	case denied:
		if schema, ok := strings.CutPrefix(ddl, "CREATE SCHEMA "); ok {
			return sink.Halt(fmt.Errorf("role %s may not create a schema: %w; as the database's owner run: CREATE SCHEMA %s AUTHORIZATION %s;", s.role, err, strings.TrimSuffix(schema, ";"), quote(s.role)))
		}
		return sink.Halt(fmt.Errorf("role %s may not change the target: %w; as the owner of its schema or table run: %s %s", s.role, err, ddl, s.grant(target)))
	}
	return sink.Halt(fmt.Errorf("the target refuses a change of its structure: %w; adapt and run: %s", err, ddl))
}

// comparison of a schema with its target.
type comparison struct {
	table  *table
	ddl    []string // what we would do
	create bool     // the table is missing
	adopt  bool     // Runnel has not written it before
}

// compare finds out what is missing in the target. What is wrong with it and not ours to change is a Halt with the exact
// statement. A table that somebody else made must have all columns when it is met first: a table that only shares a name
// would be overwritten otherwise. From then on it follows the source like one of ours.
func (s *Sink) compare(ctx context.Context, q queryer, schema *event.Schema, target ident, ready bool) (*comparison, error) {
	t, err := readTable(ctx, q, target)
	if err != nil {
		return nil, err
	}
	types, err := s.targetTypes(ctx, q, schema)
	if err != nil {
		return nil, err
	}
	c := &comparison{table: t, create: t == nil, adopt: true}
	if ready {
		var function string
		err := q.QueryRow(ctx, "SELECT function FROM runnel.targets WHERE target = $1", target.String()).Scan(&function)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil:
			return nil, err
		case function != s.function:
			return nil, sink.Halt(fmt.Errorf("%s is written by the function %s already, and two would overwrite each other's rows: choose another `table`; or if that function is gone, run: DELETE FROM runnel.targets WHERE target = %s;",
				target, function, literal(target.String())))
		default:
			c.adopt = false
		}
	}
	if t == nil {
		c.ddl, err = s.creation(ctx, q, schema, target, types)
		return c, err
	}
	if t.kind != "r" && t.kind != "p" {
		return nil, sink.Halt(fmt.Errorf("%s is not a table: choose another `table` in the function, or drop it", target))
	}
	var fix []string
	for i, col := range schema.Columns {
		tc := t.column(col.Name)
		switch {
		case tc == nil:
			ddl := fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s;", target, quote(col.Name), types[i])
			if c.adopt {
				fix = append(fix, ddl)
			} else {
				c.ddl = append(c.ddl, ddl)
			}
		case tc.generated:
		case schema.Connector == "postgresql" && tc.accepts(col.Type), tc.accepts(types[i]):
		default:
			ddl := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s;", target, quote(col.Name), types[i])
			if !c.adopt && fits(tc.typ, types[i]) && castable(tc.typ, types[i]) {
				c.ddl = append(c.ddl, ddl)
			} else {
				fix = append(fix, strings.TrimSuffix(ddl, ";")+fmt.Sprintf(" USING %s::text::%s;", quote(col.Name), types[i]))
			}
		}
	}
	fix = append(fix, t.misfits(schema, target)...)
	if crossing := t.crossing(schema, target); !s.inOrder && len(crossing) > 0 {
		return nil, sink.Halt(fmt.Errorf("table %s has constraints between its rows, or to other tables, and partitions are written side by side: rows that exchange a unique value, or refer to each other, would fail against each other for ever; set `ordering: source` in the function, which applies whole transactions in their order; or run: %s",
			target, strings.Join(append(fix, crossing...), " ")))
	}
	if len(fix) > 0 {
		return nil, sink.Halt(fmt.Errorf("table %s does not fit %s; run: %s", target, schema.Table, strings.Join(fix, " ")))
	}
	return c, nil
}

// accepts says whether a column takes what the source sends.
func (c *column) accepts(src string) bool {
	return fits(src, c.typ) || c.base != "" && fits(src, c.base)
}

// misfits are the statements that would make a table fit in what has nothing to do with single columns of the source.
func (t *table) misfits(schema *event.Schema, target ident) []string {
	var fix, keys []string
	for _, i := range schema.KeyColumns() {
		keys = append(keys, schema.Columns[i].Name)
	}
	for _, c := range t.columns {
		i := schema.Index(c.name)
		if i < 0 && c.notNull && !c.hasValue {
			fix = append(fix, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL;", target, quote(c.name)))
		}
		if i >= 0 && c.identity == 'a' && schema.Columns[i].Key == 0 {
			fix = append(fix, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET GENERATED BY DEFAULT;", target, quote(c.name)))
		}
	}
	if len(keys) > 0 {
		if arbiter := t.arbiter(keys); arbiter == nil {
			fix = append(fix, fmt.Sprintf("CREATE UNIQUE INDEX ON %s (%s);", target, quoted(keys, "")))
		} else {
			for i, n := range arbiter.columns {
				t.equal[n] = arbiter.equal[i]
			}
		}
	}
	return fix
}

// crossing are the statements that would take away what only whole transactions in their order can keep.
func (t *table) crossing(schema *event.Schema, target ident) []string {
	var fix, keys []string
	for _, i := range schema.KeyColumns() {
		keys = append(keys, schema.Columns[i].Name)
	}
	var arbiter *index
	if len(keys) > 0 {
		arbiter = t.arbiter(keys)
	}
	for i := range t.unique {
		if x := &t.unique[i]; x != arbiter && (len(keys) == 0 || !x.covers(keys)) {
			fix = append(fix, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s; DROP INDEX IF EXISTS %s;", target, quote(x.name), ident{target.schema, x.name}))
		}
	}
	for _, o := range t.obstacles {
		fix = append(fix, fmt.Sprintf("%s /* %s */", o.drop, o.what))
	}
	return fix
}

// creation are the statements that make the table: columns in the source's order, none of them NOT NULL but the key's.
func (s *Sink) creation(ctx context.Context, q queryer, schema *event.Schema, target ident, types []string) ([]string, error) {
	var ddl []string
	var there bool
	if err := q.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", target.schema).Scan(&there); err != nil {
		return nil, err
	}
	if !there {
		ddl = append(ddl, "CREATE SCHEMA "+quote(target.schema)+";")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", target)
	for i, c := range schema.Columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quote(c.Name) + " " + types[i])
	}
	if key := schema.KeyColumns(); len(key) > 0 {
		var names []string
		for _, i := range key {
			names = append(names, schema.Columns[i].Name)
		}
		fmt.Fprintf(&b, ", PRIMARY KEY (%s)", quoted(names, ""))
	}
	return append(ddl, b.String()+");"), nil
}

// targetTypes are the types of the schema's columns as the target can have them: the declared one where it knows it, else
// what the type is based on. Both stand in DDL later, so both must be types and nothing else: to_regtype parses them.
func (s *Sink) targetTypes(ctx context.Context, q queryer, schema *event.Schema) ([]string, error) {
	declared, bases := make([]string, len(schema.Columns)), make([]string, len(schema.Columns))
	for i, c := range schema.Columns {
		declared[i], bases[i] = c.Type, standIn(c.BaseType())
		if v := vectors[c.Type]; v != "" {
			declared[i] = v
		}
		if schema.Connector != "postgresql" { // names of types that mean something else here
			declared[i] = bases[i]
		}
	}
	rows, err := q.Query(ctx, `SELECT CASE WHEN to_regtype(d) IS NOT NULL THEN d WHEN to_regtype(b) IS NOT NULL THEN b ELSE 'text' END
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS x(d, b, n) ORDER BY n`, declared, bases)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// literal quotes a string for a statement that is printed.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
