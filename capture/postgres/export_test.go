package postgres

import (
	"context"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Unpublished is what the watch for drift finds.
func Unpublished(ctx context.Context, l capture.Log) ([]event.Table, error) {
	x := l.(*Log)
	return x.source.unpublished(ctx, x.pool, x.version)
}
