package pgjson

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Querier is a connection or pool of pgx.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Ref names a type as a column has it.
type Ref struct {
	OID    uint32
	Typmod int32 // -1: none
}

// Catalog finds types by OID in the server's catalog and remembers them. It may be used by several goroutines, which query
// one after the other. The connection must have Settings, so that names are qualified.
type Catalog struct {
	conn  Querier
	mu    sync.Mutex
	types map[Ref]*Type
}

// New makes an empty catalog.
func New(conn Querier) *Catalog { return &Catalog{conn: conn, types: map[Ref]*Type{}} }

// Type gives the type of a column.
func (c *Catalog) Type(ctx context.Context, oid uint32, typmod int32) (*Type, error) {
	t, err := c.Types(ctx, []Ref{{oid, typmod}})
	if err != nil {
		return nil, err
	}
	return t[0], nil
}

// Types gives the types of a table's columns. Those that are not known yet, and all that they are made of, take one query.
func (c *Catalog) Types(ctx context.Context, refs []Ref) ([]*Type, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var oids []uint32
	var typmods []int32
	for _, r := range refs {
		if c.types[r] == nil {
			oids, typmods = append(oids, r.OID), append(typmods, r.Typmod)
		}
	}
	if len(oids) > 0 {
		if err := c.load(ctx, oids, typmods); err != nil {
			return nil, fmt.Errorf("read types from the catalog: %w", err)
		}
	}
	types := make([]*Type, len(refs))
	for i, r := range refs {
		if types[i] = c.types[r]; types[i] == nil {
			types[i] = missing(r.OID)
		}
	}
	return types, nil
}

// Forget makes the catalog read everything anew: after ErrShape, and when the log describes a relation again.
func (c *Catalog) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.types)
}

func missing(oid uint32) *Type {
	return &Type{Name: fmt.Sprintf("type with OID %d", oid), Base: "text", Missing: true}
}

func (c *Catalog) load(ctx context.Context, oids []uint32, typmods []int32) error {
	rows, err := c.conn.Query(ctx, closure, oids, typmods)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[pgType])
	if err != nil {
		return err
	}
	b := builder{rows: make(map[Ref]*pgType, len(found)), types: map[Ref]*Type{}}
	for i := range found {
		b.rows[Ref{found[i].OID, found[i].Typmod}] = &found[i]
	}
	for r := range b.rows {
		c.types[r] = b.build(r)
	}
	return nil
}

// pgType is a row of closure.
type pgType struct {
	OID         uint32
	Typmod      int32
	Name        string
	Typtype     string
	Typcategory string
	Output      string // array_out, int2vectorout and oidvectorout make arrays
	Elem        uint32
	Delim       string // between elements
	Domain      uint32 // a domain's base type
	DomainMod   int32
	AttrNames   []string // of a composite type
	AttrTypes   []uint32
	AttrMods    []int32
	Cast        bool // has a cast function to json
}

// closure selects types and, recursively, all that they are made of.
const closure = `
WITH RECURSIVE need(oid, typmod) AS (
	SELECT * FROM unnest($1::oid[], $2::int4[])
	UNION
	SELECT part.* FROM need JOIN pg_catalog.pg_type t ON t.oid = need.oid, LATERAL (
		SELECT t.typbasetype, t.typtypmod WHERE t.typtype = 'd'
		UNION ALL
		SELECT t.typelem, need.typmod WHERE t.typelem <> 0
		UNION ALL
		SELECT atttypid, atttypmod FROM pg_catalog.pg_attribute
		WHERE t.typtype = 'c' AND attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped
	) part
)
SELECT t.oid, need.typmod, pg_catalog.format_type(t.oid, need.typmod), t.typtype::text, t.typcategory::text, output.proname::text,
	t.typelem, COALESCE(elem.typdelim, ',')::text, t.typbasetype, t.typtypmod, attrs.names, attrs.types, attrs.mods,
	EXISTS (SELECT FROM pg_catalog.pg_cast WHERE castsource = t.oid AND casttarget = 'pg_catalog.json'::regtype AND castmethod = 'f')
FROM need
JOIN pg_catalog.pg_type t ON t.oid = need.oid
JOIN pg_catalog.pg_proc output ON output.oid = t.typoutput
LEFT JOIN pg_catalog.pg_type elem ON elem.oid = t.typelem
CROSS JOIN LATERAL (
	SELECT COALESCE(array_agg(attname::text ORDER BY attnum), '{}') AS names, COALESCE(array_agg(atttypid ORDER BY attnum), '{}') AS types,
		COALESCE(array_agg(atttypmod ORDER BY attnum), '{}') AS mods
	FROM pg_catalog.pg_attribute
	WHERE t.typtype = 'c' AND attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped
) attrs`

// builder makes types of rows; each once, also where types contain one another.
type builder struct {
	rows  map[Ref]*pgType
	types map[Ref]*Type
}

func (b *builder) build(r Ref) *Type {
	if t := b.types[r]; t != nil {
		return t
	}
	row := b.rows[r]
	if row == nil {
		return missing(r.OID)
	}
	t := &Type{Name: row.Name}
	b.types[r] = t
	switch row.Typtype {
	case "d":
		b.domain(t, row)
	case "c":
		b.composite(t, row)
	default:
		b.scalar(t, row)
	}
	return t
}

// domain makes a domain its base type under another name.
func (b *builder) domain(t *Type, row *pgType) {
	base := *b.build(Ref{row.Domain, row.DomainMod})
	if base.Base == "" {
		base.Base = base.Name
	}
	base.Name = t.Name
	*t = base
}

func (b *builder) composite(t *Type, row *pgType) {
	t.kind, t.Base = asComposite, "composite"
	for i, name := range row.AttrNames {
		a := b.build(Ref{row.AttrTypes[i], row.AttrMods[i]})
		t.attrs = append(t.attrs, attr{key: append(event.AppendJSONString(nil, name), ':'), kind: a})
		t.Cast = t.Cast || a.Cast
	}
}

// scalar makes arrays and all types that are no domain or composite.
func (b *builder) scalar(t *Type, row *pgType) {
	switch row.Output {
	case "array_out":
		t.kind, t.elem, t.delim = asArray, b.build(Ref{row.Elem, row.Typmod}), row.Delim[0]
	case "int2vectorout", "oidvectorout":
		t.kind, t.elem = asVector, b.build(Ref{row.Elem, row.Typmod})
	default:
		if row.OID < firstNormalOID {
			t.kind = builtin[row.OID]
			return
		}
		t.Cast = row.Cast
		t.Base = userDefined(row.Typtype)
		return
	}
	t.Cast = t.elem.Cast
	if t.elem.Base != "" {
		t.Base = t.elem.Base + "[]"
	}
}

// firstNormalOID is PostgreSQL's FirstNormalObjectId: json.c looks for casts to json from there on.
const firstNormalOID = 16384

func userDefined(typtype string) string {
	switch typtype {
	case "e":
		return "enum"
	case "r":
		return "range"
	case "m":
		return "multirange"
	}
	return "text"
}

// builtin are the types that are more than a string to JSON. Their OIDs are part of PostgreSQL's protocol.
var builtin = map[uint32]kind{
	16:   asBool,
	20:   asNumber, // int8
	21:   asNumber, // int2
	23:   asNumber, // int4
	700:  asNumber, // float4
	701:  asNumber, // float8
	1700: asNumber, // numeric
	1082: asDate,
	1114: asTimestamp,
	1184: asTimestamptz,
	114:  asJSON,
	3802: asJSONB,
}
