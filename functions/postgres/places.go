package postgres

import (
	"context"
	"strings"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// place executes a t or an m among the events of a transaction, and gives the place behind it.
func (t *transaction) place(ctx context.Context, events []event.Event, at int) (int, error) {
	if at == len(events) {
		return at, nil
	}
	e := &events[at]
	if t.covers(e) {
		return at + 1, nil
	}
	pl, err := t.plan(ctx, e)
	if err != nil {
		return at, err
	}
	t.w.at = pl.target
	switch {
	case e.Op == event.Mark:
		_, err := t.tx.Exec(ctx, "INSERT INTO runnel.backfills (function, target, partition, version) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
			t.sink.function, pl.target.String(), t.id.partition, e.Version)
		t.p.backfills[pl.target.String()] = true
		return at + 1, err
	case e.Cutoff != 0:
		b := t.barrier(e, pl)
		if err := b.execute(ctx, t.tx); err != nil {
			return at, err
		}
		clear(t.p.backfills)
		return at + 1, t.sink.loadBackfills(ctx, t.tx, t.id.partition, t.p)
	}
	return t.truncate(ctx, events, at)
}

func (t *transaction) barrier(e *event.Event, pl *plan) *barrier {
	c := sink.Claim{Function: t.sink.function, Generation: t.id.generation, Partition: t.id.partition}
	return &barrier{Barrier: sink.Barrier{Claim: c, Schema: e.Schema, Cutoff: e.Cutoff}, sink: t.sink, plan: pl}
}

// truncate empties all tables of one TRUNCATE at once: PostgreSQL refuses a table that another one refers to, unless that is
// truncated with it.
func (t *transaction) truncate(ctx context.Context, events []event.Event, from int) (int, error) {
	var targets []string
	at := events[from].Position
	to := from
	for ; to < len(events) && events[to].Op == event.Truncate && events[to].Cutoff == 0; to++ {
		e := &events[to]
		is := e.Position
		is.Part, at.Part = 0, 0
		if to > from && (is != at || at.IsZero()) {
			break
		}
		pl, err := t.plan(ctx, e)
		if err != nil {
			return from, err
		}
		targets = append(targets, pl.target.String())
	}
	pl, err := t.plan(ctx, &events[from])
	if err != nil {
		return from, err
	}
	// A table whose rows wait for the check of a constraint cannot be truncated.
	if _, err := t.tx.Exec(ctx, "SET LOCAL statement_timeout = 0; SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"); err != nil {
		return from, err
	}
	_, err = t.tx.Exec(ctx, "TRUNCATE "+strings.Join(targets, ", "))
	if codeOf(err) == featureNotSupported {
		return from, t.barrier(&events[from], pl).referenced(ctx, err)
	}
	if err == nil {
		t.sink.log.Info("truncated the target as the source was", "tables", targets)
	}
	return to, err
}
