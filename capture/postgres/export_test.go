package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Unpublished is what the watch for drift finds.
func Unpublished(ctx context.Context, l capture.Log) ([]event.Table, error) {
	x := l.(*Log)
	return x.source.unpublished(ctx, x.pool, x.version)
}

// OldestOpen names the oldest open transaction of a server that has written, or that has not, and how it ends.
func OldestOpen(ctx context.Context, c *pgx.Conn, writes bool) (what, ending string, err error) {
	x, _, err := oldestOpen(ctx, c, writes)
	return x.what, x.ending, err
}
