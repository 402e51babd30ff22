package capture

import (
	"context"
	"fmt"

	"github.com/runnel-dev/runnel/runtime/event"
)

// storeSchemas writes the structures that the captured tables have now to KV where it lacks them: one that KV has lost is there
// again after a start, before anything uses it.
func (a *Agent) storeSchemas(ctx context.Context, tables []TableInfo) error {
	entries, err := a.schemas.All(ctx, event.KeyToken(a.cfg.Source)+".>")
	if err != nil {
		return fmt.Errorf("list the schemas of %s: %w", a.cfg.Source, err)
	}
	have := map[string]bool{}
	for _, e := range entries {
		have[e.Key] = have[e.Key] || !e.Deleted
	}
	for _, t := range tables {
		if have[t.Schema.KVKey()] {
			continue
		}
		if err := a.storeSchema(ctx, t.Schema); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) storeSchema(ctx context.Context, s *event.Schema) error {
	if _, err := a.schemas.Put(ctx, s.KVKey(), s.Marshal()); err != nil {
		return fmt.Errorf("write the schema of %s: %w", s.Table, err)
	}
	return nil
}
