package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// Begin notes that a backfill of a table has begun in a partition: from here on every span's transaction also keeps which
// keys it wrote. It moves the checkpoint past the m, and does nothing if it is past it already.
func (s *Sink) Begin(ctx context.Context, c sink.Claim, schema *event.Schema, at sink.Point) error {
	pl, err := s.plan(ctx, schema)
	if err != nil {
		return err
	}
	id := claimed{c.Generation, c.Partition}
	p := s.remembered(id)
	if p == nil {
		return fmt.Errorf("partition %d was not claimed: %w", c.Partition, sink.ErrBehind)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		cp, err := checkpoint(ctx, tx, id, s.function, p.at)
		switch {
		case err != nil || cp.Version >= at.Version:
			return err
		case cp.Version != p.at: // somebody else is between: what lies there must not be skipped
			return fmt.Errorf("partition %d: %w: it is at version %d, not %d", c.Partition, sink.ErrBehind, cp.Version, p.at)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO runnel.backfills (function, target, partition, version) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
			s.function, pl.target.String(), c.Partition, at.Version); err != nil {
			return err
		}
		return moveCheckpoint(ctx, tx, id, s.function, at)
	})
	if err != nil {
		return s.failed(ctx, fmt.Errorf("begin a backfill in partition %d: %w", c.Partition, err), pl.target)
	}
	s.reached(id, at.Version)
	return s.reloadBackfills(ctx, id)
}

// loadBackfills remembers which targets' keys are to be kept in a partition.
func (s *Sink) loadBackfills(ctx context.Context, q queryer, part int, p *partition) error {
	rows, err := q.Query(ctx, "SELECT DISTINCT target FROM runnel.backfills WHERE function = $1 AND partition = $2", s.function, part)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, n := range names {
		p.backfills[n] = true
	}
	return err
}

func (s *Sink) reloadBackfills(ctx context.Context, id claimed) error {
	fresh := &partition{backfills: map[string]bool{}}
	if err := s.loadBackfills(ctx, s.pool, id.partition, fresh); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.partitions[id]; p != nil {
		fresh.at = p.at
		s.partitions[id] = fresh
	}
	return nil
}

// Truncate lets the last partition that stops before a t execute it for all of them. Whoever comes earlier moves its
// checkpoint right before its t, which says that it stopped there, and is told to wait.
func (s *Sink) Truncate(ctx context.Context, t sink.Barrier) (sink.Outcome, error) {
	pl, err := s.plan(ctx, t.Schema)
	if err != nil {
		return sink.Wait, err
	}
	id := claimed{t.Generation, t.Partition}
	b := &barrier{Barrier: t, sink: s, plan: pl}
	var outcome sink.Outcome
	if t.Cutoff != 0 { // a sweep reads the whole table: cut short by the caller's deadline it would never end
		ctx = context.WithoutCancel(ctx)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		outcome, err = b.pass(ctx, tx)
		return err
	})
	if err != nil {
		return sink.Wait, s.failed(ctx, fmt.Errorf("truncate %s: %w", pl.target, err), pl.target)
	}
	if outcome == sink.Passed {
		s.reached(id, t.At[t.Partition].Version)
		return outcome, s.reloadBackfills(ctx, id)
	}
	s.reached(id, t.At[t.Partition].Version-1)
	return outcome, nil
}

// failed classifies an error; what is not there any more is looked up again at the next try.
func (s *Sink) failed(ctx context.Context, err error, target ident) error {
	if classOf(err) != structure || sink.IsHalt(err) {
		return s.explain(err, target)
	}
	if s.gone(ctx) {
		return fmt.Errorf("%w: the target knows no checkpoints: %w", sink.ErrBehind, err)
	}
	s.forget()
	return err
}

type barrier struct {
	sink.Barrier
	sink *Sink
	plan *plan
}

// standing is a checkpoint row.
type standing struct {
	version event.Version
	closed  bool
}

// pass decides with all checkpoints of the generation locked, so that no partition can write, or pass, at the same time.
func (b *barrier) pass(ctx context.Context, tx pgx.Tx) (sink.Outcome, error) {
	rows, err := b.lock(ctx, tx)
	if err != nil {
		return sink.Wait, err
	}
	at := b.At[b.Partition]
	own, there := rows[b.Partition]
	switch {
	case there && own.closed:
		return sink.Wait, fmt.Errorf("partition %d: %w", b.Partition, sink.ErrClosed)
	case !there || own.version < b.After.Version:
		return sink.Wait, fmt.Errorf("partition %d: %w: it is at version %d, the caller at %d", b.Partition, sink.ErrBehind, own.version, b.After.Version)
	case own.version >= at.Version:
		return sink.Passed, nil
	}
	before := sink.Point{Sequence: at.Sequence - 1, Version: at.Version - 1}
	rows[b.Partition] = standing{version: before.Version}
	for q, t := range b.At {
		cp, there := rows[q]
		switch {
		case t.Version == 0:
			return sink.Wait, b.move(ctx, tx, b.Partition, before)
		case there && cp.version >= t.Version: // executed already, and this is a part of it that was repeated
			return sink.Passed, b.move(ctx, tx, b.Partition, at)
		case !there || cp.version == 0 || cp.version != t.Version-1: // at 0 it has read nothing, so it stands before no t
			return sink.Wait, b.move(ctx, tx, b.Partition, before)
		}
	}
	if err := b.execute(ctx, tx); err != nil {
		return sink.Wait, err
	}
	for q, t := range b.At {
		if err := b.move(ctx, tx, q, t); err != nil {
			return sink.Wait, err
		}
	}
	return sink.Passed, nil
}

func (b *barrier) lock(ctx context.Context, tx pgx.Tx) (map[int]standing, error) {
	r, err := tx.Query(ctx, "SELECT partition, version, closed FROM runnel.checkpoints WHERE function = $1 AND generation = $2 ORDER BY partition FOR UPDATE",
		b.sink.function, b.Generation)
	if err != nil {
		return nil, err
	}
	rows := map[int]standing{}
	var part int
	var st standing
	_, err = pgx.ForEachRow(r, []any{&part, &st.version, &st.closed}, func() error {
		rows[part] = st
		return nil
	})
	return rows, err
}

func (b *barrier) move(ctx context.Context, tx pgx.Tx, part int, to sink.Point) error {
	return moveCheckpoint(ctx, tx, claimed{b.Generation, part}, b.sink.function, to)
}

// execute removes the rows. It may take long on a large table; locks are still not waited for longer than lockTimeout.
func (b *barrier) execute(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil {
		return err
	}
	if b.Cutoff != 0 {
		return b.sweep(ctx, tx)
	}
	_, err := tx.Exec(ctx, "TRUNCATE "+b.plan.target.String())
	if codeOf(err) == featureNotSupported {
		return b.referenced(ctx, err)
	}
	if err == nil {
		b.sink.log.Info("truncated the target as the source was", "table", b.plan.target.String())
	}
	return err
}

// referenced names the foreign keys that forbid TRUNCATE. The transaction has failed: another connection looks.
func (b *barrier) referenced(ctx context.Context, err error) error {
	rows, e := b.sink.pool.Query(ctx, `SELECT format('ALTER TABLE %s DROP CONSTRAINT %I;', conrelid::regclass, conname)
FROM pg_constraint WHERE confrelid = $1 AND contype = 'f' AND conparentid = 0 ORDER BY 1`, b.plan.table.oid)
	if e != nil {
		return e
	}
	drops, e := pgx.CollectRows(rows, pgx.RowTo[string])
	if e != nil {
		return e
	}
	return sink.Halt(fmt.Errorf("the source truncated %s, the target cannot: %w; run: %s or set `truncate: ignore` in the function", b.Schema.Table, err, strings.Join(drops, " ")))
}

// sweep ends a backfill: rows that no event at or above the cutoff has shown vanished in the source meanwhile. It removes
// nothing unless the backfill's beginning was noted in every partition, for only then the keys are complete.
func (b *barrier) sweep(ctx context.Context, tx pgx.Tx) error {
	name := b.plan.target.String()
	begun := map[int][]event.Version{} // by partition: versions of the m's that wait for their t
	for q := range b.At {
		begun[q] = nil
	}
	if b.Partition == sink.All {
		begun[sink.All] = nil
	}
	rows, err := tx.Query(ctx, "SELECT partition, version FROM runnel.backfills WHERE function = $1 AND target = $2 ORDER BY version", b.sink.function, name)
	if err != nil {
		return err
	}
	var part int
	var v event.Version
	if _, err = pgx.ForEachRow(rows, []any{&part, &v}, func() error {
		if _, ours := begun[part]; ours {
			begun[part] = append(begun[part], v)
		}
		return nil
	}); err != nil {
		return err
	}
	ended, whole := 0, true // how many backfills end here: the versions of one m differ by partition, their order does not
	for _, vs := range begun {
		n, _ := slices.BinarySearch(vs, b.Cutoff+1)
		ended, whole = max(ended, n), whole && len(vs) > 0
	}
	if len(b.plan.keys) == 0 || ended == 0 || !whole {
		b.sink.log.Warn("the end of a backfill without its beginning: rows that vanished in the source stay in the target", "table", name)
	} else if err := b.removeUnseen(ctx, tx); err != nil {
		return err
	}
	return b.clear(ctx, tx, begun, ended)
}

func (b *barrier) removeUnseen(ctx context.Context, tx pgx.Tx) error {
	tag, err := tx.Exec(ctx, fmt.Sprintf("DELETE FROM %s AS old WHERE NOT EXISTS (SELECT FROM runnel.seen AS s WHERE s.function = $1 AND s.target = $2 AND s.version >= $3 AND s.key = %s)",
		b.plan.target, b.plan.digest()), b.sink.function, b.plan.target.String(), b.Cutoff)
	if err == nil {
		b.sink.log.Info("a backfill has ended", "table", b.plan.target.String(), "rows_removed", tag.RowsAffected())
	}
	return err
}

// clear forgets the backfills that ended, and the keys once no other one runs.
func (b *barrier) clear(ctx context.Context, tx pgx.Tx, begun map[int][]event.Version, ended int) error {
	running := false
	for part, vs := range begun {
		n := min(ended, len(vs))
		running = running || n < len(vs)
		if n == 0 {
			continue
		}
		if _, err := tx.Exec(ctx, "DELETE FROM runnel.backfills WHERE function = $1 AND target = $2 AND partition = $3 AND version <= $4",
			b.sink.function, b.plan.target.String(), part, vs[n-1]); err != nil {
			return err
		}
	}
	if running {
		return nil
	}
	_, err := tx.Exec(ctx, "DELETE FROM runnel.seen WHERE function = $1 AND target = $2", b.sink.function, b.plan.target.String())
	return err
}
