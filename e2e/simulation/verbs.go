package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// verbs are what an operator may do with a function that runs.
func (o *operator) verbs(ctx context.Context, f *wanted) error {
	c := o.w.c
	keyless := len(o.w.d.tables) == 3 // such tables can neither be read again for one function, nor be replayed into PostgreSQL
	switch {
	case c.fault("an operator bounds the workers of a function", f.name):
		most := c.intn("workers of a function", f.name, 3)
		o.w.h.note("operator", "bounds %s to %d workers", f.name, most)
		return o.r.ScaleFunction(ctx, f.name, most)
	case c.fault("an operator replays a function", f.name) && (!keyless || f.name != "pg"):
		return o.replay(ctx, f)
	case keyless:
	case c.fault("an operator has a function's tables read again", f.name):
		return o.backfill(ctx, f, "ordered by the operator")
	case c.fault("an operator has rows read again by their keys", f.name):
		return o.backfill(ctx, f, "dead letters are redriven", o.keys(users), o.keys(orders))
	case c.fault("an operator rolls a function back", f.name):
		return o.rollback(ctx, f)
	case c.fault("an operator changes a function", f.name):
		f.filtered = !f.filtered
		o.w.h.note("operator", "changes the filter of %s", f.name)
		return o.apply(ctx, f)
	}
	return nil
}

// keys are rows of a table that are looked for, whether they are there or not.
func (o *operator) keys(t event.Table) registry.KeyList {
	l := registry.KeyList{Table: t}
	for range 1 + o.w.c.intn("keys", t.Name, 5) {
		l.Keys = append(l.Keys, json.RawMessage(fmt.Sprintf(`{"id":%d}`, o.w.c.intn("key", t.Name, 12))))
	}
	return l
}

// rollback deploys the version before once more.
func (o *operator) rollback(ctx context.Context, f *wanted) error {
	files, v, err := o.r.VersionOf(ctx, f.name, 0)
	if err != nil {
		return err
	}
	f.filtered = strings.Contains(v.Spec, "filter")
	_, err = o.r.Deploy(ctx, files)
	o.w.h.note("operator", "rolls %s back to version %d: %v", f.name, v.Version, err)
	return err
}

// backfill of all that a function reads, or of some rows of it.
func (o *operator) backfill(ctx context.Context, f *wanted, why string, keys ...registry.KeyList) error {
	st, err := stream.Open(ctx, o.conn, source)
	if err != nil {
		return err
	}
	end, err := st.End(ctx)
	if err != nil {
		return err
	}
	order := registry.Backfill{Start: sink.Point{Sequence: end.Last}, Why: why}
	if end.Message != nil {
		order.Start.Version = end.Message.Last()
	}
	id, err := o.r.OrderBackfill(ctx, f.name, order, keys...)
	o.w.h.note("operator", "orders backfill %d of %s, since %s: %v", id, f.name, why, err)
	return err
}

// replay begins anywhere in the stream.
func (o *operator) replay(ctx context.Context, f *wanted) error {
	st, err := stream.Open(ctx, o.conn, source)
	if err != nil {
		return err
	}
	end, err := st.End(ctx)
	if err != nil || end.Last < end.First {
		return err
	}
	from, err := host.Before(ctx, st, end.First+uint64(o.w.c.intn("replay from", f.name, int(end.Last-end.First)+1)))
	if err != nil {
		return err
	}
	r, err := o.r.OrderReplay(ctx, f.name, registry.Replay{From: from})
	o.w.h.note("operator", "replays %s after %d, as generation %d: %v", f.name, from.Sequence, r.Generation, err)
	return err
}
