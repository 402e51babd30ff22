package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres/pgjson"
	"github.com/runnel-dev/runnel/runtime/event"
)

var (
	_ capture.Log         = (*Log)(nil)
	_ capture.Snapshotter = (*Log)(nil)
)

// Log is a slot that this process holds. It implements capture.Log and capture.Snapshotter.
type Log struct {
	source       *Source
	pool         *pgxpool.Pool
	wire         *wire
	version      int // major
	log          *slog.Logger
	info         capture.Info
	publications []string
	catalog      *pgjson.Catalog
	history      []fork
	historyErr   error

	readers chan struct{} // sessions that snapshots may have at once: others need some too

	mu       sync.Mutex // guards snapshot against Start
	snapshot string     // name of the slot's exported snapshot

	dec     decoder
	broken  error // why there is no next run
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Info implements capture.Log.
func (l *Log) Info() capture.Info { return l.info }

// begin starts what runs beside the reader, until Close.
func (l *Log) begin(ctx context.Context) {
	l.dec.init(l)
	l.readers = make(chan struct{}, sessions/2)
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.running.Go(func() { l.reportStatus(ctx) })
	l.running.Go(func() { l.beat(ctx) })
}

// Start implements capture.Log.
func (l *Log) Start(ctx context.Context, after, met event.Position) error {
	if l.snapshotName() != "" {
		l.mu.Lock()
		l.snapshot = "" // the next command ends it
		l.mu.Unlock()
		if err := l.wire.start(ctx, l.info.Slot, l.publications, pglogrepl.LSN(l.info.Confirmed.Commit)); err != nil {
			return l.refused(err)
		}
	}
	l.dec.start(after, met)
	return nil
}

func (l *Log) snapshotName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.snapshot
}

// Next implements capture.Log. After an error, but for the end of ctx while nothing was there, there is no next.
func (l *Log) Next(ctx context.Context) (capture.Run, error) {
	if l.broken != nil {
		return capture.Run{}, l.broken
	}
	d := &l.dec
	d.reset()
	defer l.wire.watch(ctx)()
	for {
		if err := l.buffered(ctx); err != nil {
			l.broken = err // what was decoded in part is lost
			return capture.Run{}, err
		}
		if d.ready() && (d.full() || !l.gather(ctx)) {
			items, err := d.finish(ctx)
			l.broken = err
			return capture.Run{Items: items, More: l.wire.frames.more()}, err
		}
		waited, err := l.wire.fill(ctx, d.late())
		if waited > calm {
			d.caughtUp()
		}
		switch {
		case errors.Is(err, errSilent):
			if err := l.alive(ctx); err != nil {
				return capture.Run{}, err
			}
		case err != nil:
			return capture.Run{}, err
		}
	}
}

// gather reads more of a backlog into a run, as long as much comes. An error comes again, once the run was given.
func (l *Log) gather(ctx context.Context) bool {
	if !l.wire.low.on {
		return false
	}
	more, err := l.wire.fillMuch(ctx)
	return more && err == nil
}

// buffered handles the messages that were read already, as far as they fit into a run.
func (l *Log) buffered(ctx context.Context) error {
	for !l.dec.full() {
		kind, body, ok, err := l.wire.frames.next()
		if err != nil || !ok {
			return err
		}
		if err := l.message(ctx, kind, body); err != nil {
			return err
		}
	}
	return nil
}

// message handles one message of the copy mode.
func (l *Log) message(ctx context.Context, kind byte, body []byte) error {
	switch kind {
	case 'd':
		return l.copyData(ctx, body)
	case 'E':
		return l.refused(serverError(body))
	case 'c', 'C', 'Z':
		return errors.New("read the log: the server ended the replication (it is shutting down)")
	case 'N', 'S', 'A': // notices, parameter changes, notifications
		return nil
	default:
		return fmt.Errorf("read the log: message of unknown type %q", kind)
	}
}

func (l *Log) copyData(ctx context.Context, body []byte) error {
	if len(body) == 0 {
		return errors.New("read the log: empty message")
	}
	switch body[0] {
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(body[1:])
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		return l.dec.decode(ctx, uint64(x.WALStart), x.WALData)
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(body[1:])
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if k.ReplyRequested {
			if err := l.wire.status(false); err != nil {
				return err
			}
		}
		return l.dec.keepalive(uint64(k.ServerWALEnd))
	default:
		return fmt.Errorf("read the log: copy message of unknown type %q", body[0])
	}
}

// refused explains what ended the replication. Whether the slot is lost is no matter of the error's code, which a server that
// waits for its standby while it shuts down gives too (55000): the next start asks the slot itself.
func (l *Log) refused(err error) error {
	if code(err) == undefinedObject { // of older log: the publication was made after the slot
		return &capture.SetupError{Reason: "read slot " + l.info.Slot, Err: err,
			Fix: "a publication was dropped or is younger than the slot; make it again, then run: runnel capture " + l.source.cfg.Name + " --resnapshot"}
	}
	return l.source.explain("read slot "+l.info.Slot, err)
}

// Confirm implements capture.Log.
func (l *Log) Confirm(_ context.Context, p event.Position) error {
	if p.Change != 0 {
		return fmt.Errorf("confirm %s: not the end of a transaction", p)
	}
	return l.wire.confirm(pglogrepl.LSN(p.Commit))
}

// Holds implements capture.Log.
func (l *Log) Holds(ctx context.Context) error {
	if err := l.wire.failure(); err != nil {
		return err
	}
	var holds bool
	err := l.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active_pid = $2)
		OR $3 AND EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid = $2 AND application_name = $4)`,
		l.info.Slot, int32(l.wire.conn.PID()), l.snapshotName() != "", l.source.application()).Scan(&holds)
	if err != nil {
		return fmt.Errorf("see who holds slot %s: %w", l.info.Slot, err)
	}
	if !holds {
		return fmt.Errorf("slot %s is not held by this process any more", l.info.Slot)
	}
	return nil
}

// alive asks, on another connection, after a walsender that says nothing: it may be busy with a large transaction that does
// not concern us.
func (l *Log) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := l.Holds(ctx); err != nil {
		return fmt.Errorf("the server said nothing for %s: %w", silence, err)
	}
	return nil
}

// Close implements capture.Log: it gives the slot back.
func (l *Log) Close(ctx context.Context) error {
	l.cancel()
	l.wire.close(ctx)
	l.running.Wait()
	l.pool.Close()
	return nil
}

const statusInterval = 5 * time.Second

// reportStatus repeats the confirmed position, so that the server keeps the connection however long nobody calls Next, and
// asks for an answer, so that Next hears from an idle server.
func (l *Log) reportStatus(ctx context.Context) {
	for tick := time.NewTicker(l.statusInterval(ctx)); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		if err := l.wire.status(true); err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.wire.fail(err)
			}
			return
		}
	}
}

// statusInterval stays well below the server's wal_sender_timeout.
func (l *Log) statusInterval(ctx context.Context) time.Duration {
	var ms int64
	err := l.pool.QueryRow(ctx, `SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'`).Scan(&ms)
	if err != nil || ms <= 0 {
		return statusInterval
	}
	return min(statusInterval, max(time.Duration(ms)*time.Millisecond/4, 10*time.Millisecond))
}
