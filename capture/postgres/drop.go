package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Drop takes the slot and the publications away, for a source that is not to come back: the server keeps its log for nobody then. It
// waits until nobody reads the slot, and may be repeated.
func (s *Source) Drop(ctx context.Context) error {
	pool, err := s.openPool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	for {
		_, err := pool.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, s.cfg.Slot)
		var refused *pgconn.PgError
		if err == nil || errors.As(err, &refused) && refused.Code == undefinedObject {
			break
		}
		if !errors.As(err, &refused) || refused.Code != objectInUse {
			return s.explain("drop the slot "+s.cfg.Slot, err)
		}
		t := time.NewTimer(dropAgain)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("drop the slot %s: %w; end the agent that reads it, then SELECT pg_drop_replication_slot('%s')", s.cfg.Slot, err, s.cfg.Slot)
		}
	}
	for _, name := range []string{s.cfg.Publication, s.cfg.Publication + insertSuffix} {
		if _, err := pool.Exec(ctx, "DROP PUBLICATION IF EXISTS "+quote(name)); err != nil {
			return s.explain("drop the publication "+name, err)
		}
	}
	return nil
}

// dropAgain is how often a slot is tried that somebody reads.
const dropAgain = 200 * time.Millisecond
