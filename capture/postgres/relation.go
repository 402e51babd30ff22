package postgres

import (
	"context"
	"slices"

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
	d.log.catalog.Forget() // types may have been altered with the table
	// What the message does not say, which columns may be null and the order of the key's, is looked up: the table may
	// have been altered or dropped since.
	t, err := tableByOID(ctx, d.log.pool, id)
	if err != nil {
		return err
	}
	key := identityKey(columns, flagged, identity)
	from := "ONLY " + quoteTable(name)
	if t != nil {
		from = t.only()
		current, err := columnsOf(ctx, d.log.pool, id)
		if err != nil {
			return err
		}
		for i, c := range columns {
			if j := slices.IndexFunc(current, func(x column) bool { return x.name == c.name }); j >= 0 {
				columns[i].nullable = current[j].nullable
			}
		}
		if identity == 'f' || identity == 'n' || len(key) == 0 || sameNames(key, t.key) {
			key = t.key
		}
	}
	rel, err := d.log.describe(ctx, name, columns, key)
	if err != nil {
		return err
	}
	rel.from, rel.wanted = from, true
	for i := range rel.columns {
		rel.columns[i].identity = flagged[i]
	}
	if old := d.relations[id]; old != nil && old.wanted && old.schema.Fingerprint() == rel.schema.Fingerprint() {
		rel.schema, rel.announced = old.schema, old.announced
	}
	d.relations[id] = rel
	return nil
}

// identityKey are the columns of the replica identity, unless that is the whole row.
func identityKey(columns []column, flagged []bool, identity byte) []string {
	var key []string
	for i, c := range columns {
		if flagged[i] && identity != 'f' {
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
	var described []event.Column
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
		described = append(described, event.Column{Name: c.name, Type: typ.Name, Base: typ.Base, Nullable: c.nullable && ordinal == 0, Key: ordinal})
		rel.columns = append(rel.columns, relColumn{column: c, typ: typ, label: append(event.AppendJSONString(nil, c.name), ':')})
	}
	rel.schema = event.NewSchema(l.source.cfg.Name, connector, l.info.Database, name, described)
	return rel, nil
}
