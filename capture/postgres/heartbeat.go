package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// markPrefix of our messages in the log: without transaction a heartbeat, else a marker of a snapshot.
const markPrefix = "runnel"

// beat writes into the server's log, so that the slot moves also while only other databases are written to. Where that fails
// because the server shuts down, it ends the replication connection: the walsender would wait until everything is confirmed,
// which takes longer than the operator's patience.
func (l *Log) beat(ctx context.Context) {
	if l.source.cfg.Heartbeat < 0 {
		return
	}
	tick := time.NewTicker(l.source.cfg.Heartbeat)
	defer tick.Stop()
	failing := false
	drift := newDrift(l)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := l.heartbeat(ctx)
		if code(err) == adminShutdown { // that session was ended; the next one says whether the server is
			err = l.heartbeat(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case code(err) == cannotConnectNow:
			l.wire.fail(fmt.Errorf("the server is shutting down: %w", err))
			return
		case err != nil && !failing:
			l.log.Warn("heartbeat failed", "error", err)
		case err == nil && failing:
			l.log.Info("heartbeat works again")
		}
		failing = err != nil
		drift.look(ctx)
	}
}

func (l *Log) heartbeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, min(writeTimeout, max(l.source.cfg.Heartbeat, time.Second)))
	defer cancel()
	_, err := l.pool.Exec(ctx, `SELECT pg_catalog.pg_logical_emit_message(false, $1, '')`, markPrefix)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("heartbeat: no answer: %w", err)
	}
	return err
}
