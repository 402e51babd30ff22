package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/runnel-dev/runnel/capture/postgres/pgjson"
	"github.com/runnel-dev/runnel/runtime/event"
)

// captured finds the relation of a change and the change's position; nil for one that was read before or is not wanted.
func (d *decoder) captured(lsn uint64, r *reader) (*relation, event.Position, error) {
	id := r.uint32()
	if r.err != nil {
		return nil, event.Position{}, nil
	}
	if !d.tx.open {
		return nil, event.Position{}, errors.New("pgoutput: change outside of a transaction")
	}
	p := d.position(lsn)
	if d.tx.skip {
		return nil, p, nil
	}
	rel := d.relations[id]
	if rel == nil {
		return nil, p, fmt.Errorf("pgoutput: change of relation %d, which was not described", id)
	}
	if !rel.wanted {
		return nil, p, nil
	}
	return rel, p, nil
}

func (d *decoder) insert(ctx context.Context, lsn uint64, r *reader) error {
	rel, p, err := d.captured(lsn, r)
	if rel == nil || err != nil {
		return err
	}
	if r.byte() != 'N' {
		return errors.New("pgoutput: insert without a new row")
	}
	d.old = d.old[:0]
	if d.new = r.tuple(d.new[:0]); r.err != nil {
		return nil
	}
	after, err := d.row(ctx, rel, d.new, false, true)
	if err == nil {
		d.add(rel, event.Create, p, nil, after)
	}
	return err
}

func (d *decoder) update(ctx context.Context, lsn uint64, r *reader) error {
	rel, p, err := d.captured(lsn, r)
	if rel == nil || err != nil {
		return err
	}
	d.old = d.old[:0]
	kind := r.byte()
	if kind == 'K' || kind == 'O' {
		d.old = r.tuple(d.old)
	}
	hasOld, whole := kind != 'N', kind == 'O'
	if hasOld {
		kind = r.byte()
	}
	if r.err == nil && kind != 'N' {
		return errors.New("pgoutput: update without a new row")
	}
	if d.new = r.tuple(d.new[:0]); r.err != nil {
		return nil
	}
	if hasOld && len(d.old) != len(d.new) {
		return errors.New("pgoutput: the old row has not as many columns as the new one")
	}
	for i := range d.old { // a key column that was not changed may be too large to be sent twice
		if d.new[i].kind == 'u' && d.old[i].kind != 'u' && (whole || rel.columns[i].identity) {
			d.new[i] = d.old[i]
		}
	}
	var before []byte
	moved := hasOld && rel.moved(d.old, d.new)
	if hasOld && (whole || moved) {
		if before, err = d.row(ctx, rel, d.old, !whole, false); err != nil {
			return err
		}
	}
	if moved {
		d.add(rel, event.Delete, p, before, nil)
		p.Part, before = 1, nil
	}
	after, err := d.row(ctx, rel, d.new, false, true)
	if err != nil {
		return err
	}
	op := event.Update
	if moved {
		op = event.Create
	}
	d.add(rel, op, p, before, after)
	return nil
}

func (d *decoder) delete(ctx context.Context, lsn uint64, r *reader) error {
	rel, p, err := d.captured(lsn, r)
	if rel == nil || err != nil {
		return err
	}
	kind := r.byte()
	if r.err == nil && kind != 'K' && kind != 'O' {
		return errors.New("pgoutput: delete without an old row")
	}
	if d.old = r.tuple(d.old[:0]); r.err != nil {
		return nil
	}
	before, err := d.row(ctx, rel, d.old, kind == 'K', false)
	if err == nil {
		d.add(rel, event.Delete, p, before, nil)
	}
	return err
}

// truncate gives one change for each table, numbered by its place in the statement.
func (d *decoder) truncate(lsn uint64, r *reader) error {
	n := r.uint32()
	r.byte() // CASCADE, RESTART IDENTITY
	if r.err != nil {
		return nil
	}
	if !d.tx.open {
		return errors.New("pgoutput: truncate outside of a transaction")
	}
	p := d.position(lsn)
	for i := range n {
		id := r.uint32()
		if r.err != nil {
			return nil
		}
		rel := d.relations[id]
		if d.tx.skip || rel != nil && !rel.wanted {
			continue
		}
		if rel == nil {
			return fmt.Errorf("pgoutput: truncate of relation %d, which was not described", id)
		}
		p.Part = i * 256
		d.add(rel, event.Truncate, p, nil, nil)
	}
	return nil
}

// moved says whether the key changed.
func (rel *relation) moved(old, new []field) bool {
	for _, i := range rel.schema.KeyColumns() {
		if old[i].kind != new[i].kind || !bytes.Equal(old[i].text, new[i].text) {
			return true
		}
	}
	return false
}

// row appends a row to the arena. keyOnly leaves out what is not in the replica identity: it was not sent. Values that were
// not sent because they did not change are left out and, where that is possible, read again later.
func (d *decoder) row(ctx context.Context, rel *relation, fields []field, keyOnly, refetch bool) ([]byte, error) {
	if len(fields) != len(rel.columns) {
		return nil, fmt.Errorf("pgoutput: row of %s has %d columns, its description %d", rel.schema.Table, len(fields), len(rel.columns))
	}
	from := len(d.arena)
	b := append(d.arena, '{')
	missing := false
	for i, f := range fields {
		c := &rel.columns[i]
		if keyOnly && !c.identity {
			continue
		}
		if f.kind == 'u' {
			missing = true
			continue
		}
		if len(b) > from+1 {
			b = append(b, ',')
		}
		b = append(b, c.label...)
		if f.kind == 'n' {
			b = append(b, "null"...)
			continue
		}
		var err error
		if b, err = d.value(ctx, b, c, f.text); err != nil {
			return nil, fmt.Errorf("table %s, column %s: %w", rel.schema.Table, c.name, err)
		}
	}
	d.arena = append(b, '}')
	if missing && refetch {
		d.toast.add(rel, len(d.changes), fields, d.tx.xid)
	}
	return d.arena[from:len(d.arena):len(d.arena)], nil
}

// value appends one value. A composite type may have been altered since its definition was read.
func (d *decoder) value(ctx context.Context, b []byte, c *relColumn, text []byte) ([]byte, error) {
	b, err := c.typ.Append(b, text)
	if !errors.Is(err, pgjson.ErrShape) {
		return b, err
	}
	d.log.catalog.Forget()
	t, err := d.log.catalog.Type(ctx, c.oid, c.typmod)
	if err != nil {
		return b, err
	}
	c.typ = t
	b, err = t.Append(b, text)
	if errors.Is(err, pgjson.ErrShape) {
		return t.AppendText(b, text), nil
	}
	return b, err
}
