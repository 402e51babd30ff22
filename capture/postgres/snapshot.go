package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Tables implements capture.Snapshotter.
func (l *Log) Tables(ctx context.Context) ([]capture.TableInfo, error) {
	have, err := l.source.published(ctx, l.pool, l.version)
	if err != nil {
		return nil, err
	}
	var all []capture.TableInfo
	for _, p := range have {
		rel, t, err := l.snapshotRelation(ctx, l.pool, p)
		if err != nil {
			return nil, err
		}
		since, err := l.source.publishedSince(ctx, l.pool, l.version, t.oid)
		if err != nil {
			return nil, err
		}
		all = append(all, capture.TableInfo{Schema: rel.schema, EstimatedRows: t.rows, Keyless: len(rel.schema.KeyColumns()) == 0, Published: since})
	}
	return all, nil
}

var errNotPublished = errors.New("not in the publication")

// publishedTable finds one table.
func (l *Log) publishedTable(ctx context.Context, q querier, name event.Table) (published, error) {
	have, err := l.source.published(ctx, q, l.version)
	if err != nil {
		return published{}, err
	}
	i := slices.IndexFunc(have, func(p published) bool { return p.name == name })
	if i < 0 {
		return published{}, fmt.Errorf("table %s: %w", name, errNotPublished)
	}
	return have[i], nil
}

// snapshotRelation describes a table with the columns that the log has.
func (l *Log) snapshotRelation(ctx context.Context, q querier, p published) (*relation, *table, error) {
	t, err := tableByName(ctx, q, p.name)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, nil, fmt.Errorf("table %s is gone", p.name)
	}
	columns, err := columnsOf(ctx, q, t.oid)
	if err != nil {
		return nil, nil, err
	}
	columns = slices.DeleteFunc(columns, func(c column) bool {
		if l.version < 18 && c.generated { // never sent, whatever pg_publication_tables says
			return true
		}
		return p.columns != nil && !slices.Contains(p.columns, c.name)
	})
	rel, err := l.describe(ctx, p.name, columns, t.key)
	if err != nil {
		return nil, nil, err
	}
	rel.from = t.only()
	return rel, t, nil
}

// Waiting implements capture.Snapshotter.
func (l *Log) Waiting(ctx context.Context) ([]uint64, error) {
	// The ids have 32 bits here; widened like the log's, by the newest one that the server has given out. COMMIT PREPARED
	// that waits shows only in pg_prepared_xacts.
	var next uint64
	rows, err := l.pool.Query(ctx, `SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint, x.xid::text::bigint FROM (
		SELECT backend_xid FROM pg_catalog.pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_xid IS NOT NULL
		UNION SELECT transaction FROM pg_catalog.pg_prepared_xacts) x(xid)`)
	if err != nil {
		return nil, fmt.Errorf("read which transactions wait: %w", err)
	}
	var xid uint32
	var all []uint64
	_, err = pgx.ForEachRow(rows, []any{&next, &xid}, func() error {
		all = append(all, widen(next, xid))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read which transactions wait: %w", err)
	}
	return all, nil
}

// Visible implements capture.Snapshotter.
func (l *Log) Visible(ctx context.Context) (func(uint64) bool, error) {
	visible, _, err := currentSnapshot(ctx, l.pool)
	return visible, err
}

// Mark implements capture.Snapshotter.
func (l *Log) Mark(ctx context.Context, id string) error {
	if _, err := l.pool.Exec(ctx, `SELECT pg_catalog.pg_logical_emit_message(true, $1, $2::text)`, markPrefix, id); err != nil {
		return fmt.Errorf("write a marker into the log: %w", err)
	}
	return nil
}
