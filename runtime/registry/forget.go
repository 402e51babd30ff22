package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// ForgetSource deletes what is remembered of a source whose stream is deleted: the agent's record, how far its loads are, and the
// schemas of its tables. A source of that name then begins anew.
func (r *Registry) ForgetSource(ctx context.Context, name string) error {
	for _, place := range []struct {
		bucket  *stream.Bucket
		pattern string
	}{
		{r.Captures, name},
		{r.Snapshots, event.KeyToken(name) + ".>"},
		{r.Schemas, event.KeyToken(name) + ".>"},
	} {
		entries, err := place.bucket.All(ctx, place.pattern)
		if err != nil {
			return fmt.Errorf("forget source %s: %w", name, err)
		}
		for _, e := range entries {
			if err := place.bucket.Delete(ctx, e.Key, e.Revision); err != nil && !errors.Is(err, stream.ErrConflict) {
				return fmt.Errorf("forget source %s: %w", name, err)
			}
		}
	}
	return nil
}
