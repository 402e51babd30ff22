package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/runnel-dev/runnel/capture/postgres/pgjson"
	"github.com/runnel-dev/runnel/runtime/event"
)

// relation is a table as the log describes it, or as a snapshot found it.
type relation struct {
	schema    *event.Schema
	columns   []relColumn
	from      string // for FROM: ONLY and the quoted name
	wanted    bool
	announced bool // a Structure was given
}

type relColumn struct {
	column
	label    []byte // `"name":`
	typ      *pgjson.Type
	identity bool // in the replica identity, so that old rows have it
}

// relation reads a Relation message. It comes once in a session for each table, and again after the table was altered.
func (d *decoder) relation(ctx context.Context, r *reader) error {
	id := r.uint32()
	name := event.Table{Schema: r.string(), Name: r.string()}
	identity := r.byte()
	var columns []column
	var flagged []bool
	for range r.uint16() {
		flags := r.byte()
		columns = append(columns, column{name: r.string(), oid: r.uint32(), typmod: int32(r.uint32()), nullable: true})
		flagged = append(flagged, flags&1 != 0)
	}
	if r.err != nil {
		return nil
	}
	if name.Schema == "" {
		name.Schema = "pg_catalog"
	}
	if !d.log.source.wants(name) {
		d.relations[id] = &relation{}
		return nil
	}
	m := described{id, name, identity, columns, flagged}
	rel, err := d.lookUp(ctx, m)
	if err != nil {
		return err
	}
	if old := d.relations[id]; old != nil && old.wanted && old.schema.Fingerprint() == rel.schema.Fingerprint() {
		rel.schema, rel.announced = old.schema, old.announced
	}
	d.relations[id] = rel
	return nil
}

// described is what a Relation message says.
type described struct {
	id       uint32
	name     event.Table
	identity byte
	columns  []column
	flagged  []bool // in the replica identity
}

// lookUp finds what the message does not say: types, which columns may be null, the order of the key's. The table may have
// been altered or dropped since; or it is altered in this very transaction, which is in the log before it is visible: then
// the catalog is asked again when it is.
func (d *decoder) lookUp(ctx context.Context, m described) (*relation, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		visible, _, err := currentSnapshot(ctx, d.log.pool)
		if err != nil {
			return nil, err
		}
		d.log.catalog.Forget() // types may have been altered with the table
		rel, same, err := d.log.fromCatalog(ctx, m)
		if err != nil {
			return nil, err
		}
		if same || visible(d.tx.xid) {
			return rel, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// fromCatalog also says whether message and catalog describe the same columns.
func (l *Log) fromCatalog(ctx context.Context, m described) (rel *relation, same bool, err error) {
	t, err := tableByOID(ctx, l.pool, m.id)
	if err != nil {
		return nil, false, err
	}
	key, from := m.key(), "ONLY "+quoteTable(m.name)
	columns := slices.Clone(m.columns)
	if t != nil {
		same, from = true, t.only()
		current, err := columnsOf(ctx, l.pool, m.id)
		if err != nil {
			return nil, false, err
		}
		for i, c := range columns {
			j := slices.IndexFunc(current, func(x column) bool { return x.name == c.name && x.oid == c.oid && x.typmod == c.typmod })
			if j < 0 {
				same = false
				continue
			}
			columns[i].nullable = current[j].nullable
		}
		if m.identity == 'f' || len(key) == 0 || sameNames(key, t.key) {
			key = t.key
		}
	}
	if rel, err = l.describe(ctx, m.name, columns, key); err != nil {
		return nil, false, err
	}
	rel.from, rel.wanted = from, true
	for i := range rel.columns {
		rel.columns[i].identity = m.flagged[i]
		same = same && !rel.columns[i].typ.Missing
	}
	return rel, same, nil
}

// key are the columns of the replica identity, unless that is the whole row.
func (m described) key() []string {
	var key []string
	for i, c := range m.columns {
		if m.flagged[i] && m.identity != 'f' {
			key = append(key, c.name)
		}
	}
	return key
}

func sameNames(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x string) bool { return !slices.Contains(b, x) })
}

// describe resolves types and makes the schema. A key of which a column is not published is none.
func (l *Log) describe(ctx context.Context, name event.Table, columns []column, key []string) (*relation, error) {
	has := func(k string) bool { return slices.ContainsFunc(columns, func(c column) bool { return c.name == k }) }
	if slices.ContainsFunc(key, func(k string) bool { return !has(k) }) {
		key = nil
	}
	rel := &relation{}
	var list []event.Column
	refs := make([]pgjson.Ref, len(columns))
	for i, c := range columns {
		refs[i] = pgjson.Ref{OID: c.oid, Typmod: c.typmod}
	}
	types, err := l.catalog.Types(ctx, refs)
	if err != nil {
		return nil, err
	}
	for i, c := range columns {
		ordinal, typ := slices.Index(key, c.name)+1, types[i]
		list = append(list, event.Column{Name: c.name, Type: typ.Name, Base: typ.Base, Nullable: c.nullable && ordinal == 0, Key: ordinal})
		rel.columns = append(rel.columns, relColumn{column: c, typ: typ, label: append(event.AppendJSONString(nil, c.name), ':')})
	}
	rel.schema = event.NewSchema(l.source.cfg.Name, connector, l.info.Database, name, list)
	return rel, nil
}
