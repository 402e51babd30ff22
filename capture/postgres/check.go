package postgres

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/runnel-dev/runnel/runtime/event"
)

// fork is where a timeline ended and the next one began.
type fork struct {
	timeline uint32
	end      pglogrepl.LSN
}

// readHistory reads how the server's timeline came to be. It must be read before the replication starts.
func readHistory(ctx context.Context, conn *pgconn.PgConn, timeline uint32) ([]fork, error) {
	r, err := pglogrepl.TimelineHistory(ctx, conn, int32(timeline))
	if err != nil {
		return nil, fmt.Errorf("read the history of timeline %d: %w", timeline, err)
	}
	return parseHistory(r.Content)
}

// parseHistory reads lines of `timeline LSN reason`, oldest first; # begins a comment.
func parseHistory(b []byte) ([]fork, error) {
	var forks []fork
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		timeline, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil || len(fields) < 2 {
			return nil, fmt.Errorf("timeline history: line %q", s.Text())
		}
		end, err := pglogrepl.ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("timeline history: line %q: %w", s.Text(), err)
		}
		forks = append(forks, fork{uint32(timeline), end})
	}
	return forks, nil
}

// Check implements capture.Log.
func (l *Log) Check(ctx context.Context, from, first event.Position, identity string) error {
	s := l.source
	if identity != "" && identity != l.info.Identity {
		return s.gap("this is another server: its system identifier is %s, that of the one that was read is %s", l.info.Identity, identity)
	}
	if from.IsZero() {
		return nil
	}
	if err := l.checkTimeline(from); err != nil {
		return err
	}
	var text string
	if err := l.pool.QueryRow(ctx, `SELECT pg_catalog.pg_current_wal_flush_lsn()::text`).Scan(&text); err != nil {
		return fmt.Errorf("read the end of the server's log: %w", err)
	}
	flushed, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return fmt.Errorf("read the end of the server's log: %w", err)
	}
	// A change lies before its commit record, whose end is flushed; the end of a transaction may be the end of the log.
	if from.Commit > uint64(flushed) || from.Change > 0 && from.Commit == uint64(flushed) {
		return s.gap("the server's log ends at %s, before %s, which was published: it was restored to the past", flushed, from.ID())
	}
	confirmed := max(pglogrepl.LSN(l.info.Confirmed.Commit), l.wire.position())
	switch {
	case uint64(confirmed) <= from.Commit:
		return nil
	case l.info.NewSlot:
		return s.gap("slot %s is gone, a new one begins at %s, and the stream ends at %s", l.info.Slot, confirmed, from.ID())
	case confirmed != pglogrepl.LSN(first.Commit):
		return s.gap("slot %s has been moved on to %s, beyond the stream's end %s", l.info.Slot, confirmed, from.ID())
	}
	return nil
}

// checkTimeline refuses a position that is no part of the server's own history.
func (l *Log) checkTimeline(from event.Position) error {
	if from.Timeline == l.info.Timeline || from.Timeline == 0 {
		return nil
	}
	s := l.source
	if from.Timeline > l.info.Timeline {
		return s.gap("the server is on timeline %d, the stream was read from timeline %d", l.info.Timeline, from.Timeline)
	}
	if l.historyErr != nil {
		return fmt.Errorf("check timeline %d: %w", from.Timeline, l.historyErr)
	}
	for _, f := range l.history {
		if f.timeline != from.Timeline {
			continue
		}
		if end := uint64(f.end); from.Commit > end || from.Change > 0 && from.Commit == end {
			return s.gap("the server left timeline %d at %s, before %s, which was published: a failover lost it", f.timeline, f.end, from.ID())
		}
		return nil
	}
	return s.gap("timeline %d, which the stream was read from, is not in the history of the server's timeline %d", from.Timeline, l.info.Timeline)
}
