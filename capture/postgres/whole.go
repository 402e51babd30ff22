package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Bounds of a portion that Whole gives.
const (
	wholeRows  = 4096
	wholeBytes = 4 << 20
)

// Whole implements capture.Snapshotter.
func (l *Log) Whole(ctx context.Context, name event.Table, f func(*capture.Chunk) error) error {
	snapshot := l.snapshotName()
	if snapshot == "" {
		return capture.ErrNoSnapshot
	}
	if err := l.enter(ctx); err != nil {
		return err
	}
	defer l.leave()
	err := pgx.BeginTxFunc(ctx, l.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT "+literal(snapshot)); err != nil {
			return err
		}
		return l.whole(ctx, tx, name, f)
	})
	if err != nil {
		return fmt.Errorf("read table %s: %w", name, err)
	}
	return nil
}

func (l *Log) whole(ctx context.Context, tx pgx.Tx, name event.Table, f func(*capture.Chunk) error) error {
	visible, ms, err := currentSnapshot(ctx, tx)
	if err != nil {
		return err
	}
	p, err := l.publishedTable(ctx, tx, name)
	if err != nil {
		return err
	}
	rel, _, err := l.snapshotRelation(ctx, tx, p)
	if err != nil {
		return err
	}
	where := ""
	if p.filter != "" {
		where = " WHERE " + p.filter
	}
	portion := func() *capture.Chunk { return &capture.Chunk{Schema: rel.schema, Visible: visible, ReadMS: ms} }
	chunk, size := portion(), 0
	out := &copyLines{line: func(fields [][]byte) error {
		row, err := rel.row(slices.Clone(fields[0]))
		if err != nil {
			return err
		}
		chunk.Rows, size = append(chunk.Rows, row), size+len(row.JSON)
		if len(chunk.Rows) < wholeRows && size < wholeBytes {
			return nil
		}
		done := chunk
		chunk, size = portion(), 0
		return f(done)
	}}
	sql := fmt.Sprintf("COPY (SELECT pg_catalog.row_to_json(__row.*) FROM (SELECT %s FROM %s s%s) __row) TO STDOUT", rel.selection(), rel.from, where)
	if _, err := tx.Conn().PgConn().CopyTo(ctx, out, sql); err != nil {
		return err
	}
	if len(chunk.Rows) > 0 {
		return f(chunk)
	}
	return nil
}
