package mysql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

var (
	_ capture.Log         = (*Log)(nil)
	_ capture.Snapshotter = (*Log)(nil)
	_ capture.Tracker     = (*Log)(nil)
	_ capture.KeyReader   = (*Log)(nil)
)

// Bounds of the log.
const (
	heartbeat = time.Second // of an idle server: says how far it has sent
	queued    = 256         // events between the connection and Next
	runItems  = 1024
	runBytes  = 1 << 20
)

// Log is a binlog that this process reads. It implements capture.Log, capture.Tracker and capture.Snapshotter.
type Log struct {
	source     *Source
	server     server
	info       capture.Info
	control    *session // holds the lock
	serverID   uint32
	collations map[uint64]collation

	mu      sync.Mutex
	resumed bool
	read    set    // the transactions complete at the oldest position that may be asked for
	ended   []gtid // those that ended since, in the log's order
	open    gtid   // a transaction of which something was read before Start
	origins []string
	marks   []mark
	lost    error // of the lock
	wake    chan struct{}

	syncer *replication.BinlogSyncer
	events *replication.BinlogStreamer
	queue  []*replication.BinlogEvent
	dec    decoder
	broken error

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// mark is a place that the log must come to.
type mark struct {
	id string
	at place
}

// place is a file of the binlog and a byte in it.
type place struct {
	file uint64 // the number in its name
	at   uint64
}

func (p place) before(q place) bool { return p.file < q.file || p.file == q.file && p.at < q.at }

// placeOf reads a file's name, binlog.000017.
func placeOf(name string, at uint64) (place, error) {
	n, err := strconv.ParseUint(name[strings.LastIndexByte(name, '.')+1:], 10, 64)
	if err != nil {
		return place{}, fmt.Errorf("binlog %q has no number", name)
	}
	return place{n, at}, nil
}

// Info implements capture.Log.
func (l *Log) Info() capture.Info { return l.info }

func (l *Log) begin(ctx context.Context) {
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.running.Go(func() { l.keep(ctx) })
}

// keep keeps the session that holds the lock.
func (l *Log) keep(ctx context.Context) {
	for tick := time.NewTicker(l.source.tick); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		c, cancel := context.WithTimeout(ctx, l.source.silence/2)
		_, err := l.control.query(c, "DO 1")
		if c.Err() != nil {
			err = fmt.Errorf("no answer within %s", l.source.silence/2)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			tick.Stop()
			l.mu.Lock()
			l.lost = fmt.Errorf("the session that holds the lock %s is lost: %w", l.source.lockName(), err)
			l.mu.Unlock()
			l.rouse()
			return
		}
	}
}

// Resume implements capture.Tracker.
func (l *Log) Resume(text string, since []event.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resumed, l.ended, l.open = true, nil, gtid{}
	if text == "" {
		l.read = l.server.executed.clone()
		return nil
	}
	var err error
	if l.read, err = parseSet(l.source.cfg.Flavor, text); err != nil {
		return err
	}
	for _, p := range since { // a transaction is complete where the next one begins
		g := gtidOf(p)
		if l.open != g && l.open.origin != "" {
			if err := l.read.add(l.open); err != nil {
				return err
			}
		}
		l.open = g
		if p.Change == 0 {
			l.open = gtid{}
			if p.Commit > 0 && !l.read.has(g) {
				if err := l.read.add(g); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Executed implements capture.Tracker.
func (l *Log) Executed(p event.Position) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.resumed {
		return "", errors.New("nothing was read yet")
	}
	g, n := gtidOf(p), 0
	found := false
	for n < len(l.ended) && !found {
		if found = l.ended[n] == g; found && p.Change > 0 {
			break
		}
		n++
	}
	if !found && p.Change == 0 { // it was asked for before
		n = 0
	}
	for _, e := range l.ended[:n] {
		if err := l.read.add(e); err != nil {
			return "", err
		}
	}
	l.ended = append(l.ended[:0], l.ended[n:]...)
	return l.read.String(), nil
}

// complete notes that a transaction is read.
func (l *Log) complete(g gtid) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, g)
}

// Start implements capture.Log.
func (l *Log) Start(ctx context.Context, after, _ event.Position) error {
	s := l.source
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("port %q: %w", port, err)
	}
	l.dec.init(l, after)
	l.mu.Lock()
	from := l.read.String()
	l.mu.Unlock()
	gtids, err := mysql.ParseGTIDSet(s.cfg.Flavor, from)
	if err != nil {
		return fmt.Errorf("GTID set %q: %w", from, err)
	}
	l.syncer = replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: l.serverID, Flavor: s.cfg.Flavor, Host: host, Port: uint16(n), User: s.user, Password: s.password, TLSConfig: s.tls,
		HeartbeatPeriod: heartbeat, ReadTimeout: s.silence, DisableRetrySync: true, DiscardGTIDSet: true, EventCacheCount: queued, VerifyChecksum: true,
		Localhost: "runnel." + s.cfg.Name, Dialer: dial, Logger: slog.New(slog.DiscardHandler), RowsEventDecodeFunc: rawRows,
	})
	if l.events, err = l.syncer.StartSyncGTID(gtids); err != nil {
		return l.refused(err)
	}
	return ctx.Err()
}

// Next implements capture.Log. After an error, but for the end of ctx while nothing was there, there is no next.
func (l *Log) Next(ctx context.Context) (capture.Run, error) {
	if l.broken != nil {
		return capture.Run{}, l.broken
	}
	l.dec.reset()
	for {
		l.mu.Lock()
		l.broken = l.lost
		l.mu.Unlock()
		if l.broken != nil {
			return capture.Run{}, l.broken
		}
		for n, e := range l.queue {
			if err := l.dec.event(ctx, e); err != nil {
				l.broken = err
				return capture.Run{}, err
			}
			l.queue[n] = nil
			if l.dec.full() {
				l.queue = l.queue[n+1:]
				return l.dec.run(len(l.queue) > 0), nil
			}
		}
		l.queue = l.queue[:0]
		l.dec.met()
		if l.dec.ready() {
			return l.dec.run(false), nil
		}
		if err := l.fill(ctx); err != nil {
			return capture.Run{}, err
		}
	}
}

// fill waits for an event, or for a mark to look at, and takes what is there.
func (l *Log) fill(ctx context.Context) error {
	c, cancel := context.WithCancel(ctx)
	defer cancel()
	woken := make(chan struct{})
	go func() {
		defer close(woken)
		select {
		case <-l.wake:
			cancel()
		case <-c.Done():
		}
	}()
	e, err := l.events.GetEvent(c)
	cancel()
	<-woken
	switch {
	case err == nil:
		l.queue = append(append(l.queue, e), l.events.DumpEvents()...)
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, context.Canceled):
		return nil
	}
	l.broken = l.refused(err)
	return l.broken
}

// lacks is what the server answers when it lacks a part of the log.
const lacks = 1236

// refused explains what ended the log.
func (l *Log) refused(err error) error {
	var e *mysql.MyError
	if errors.As(err, &e) && e.Code == lacks && !strings.Contains(e.Message, "server_id") && !strings.Contains(e.Message, "server_uuid") {
		return l.source.purged("the server cannot go on where the stream ends: %s", e.Message)
	}
	return l.source.explain("read the binlog", err)
}

// Confirm implements capture.Log. The server's binlog is kept for nobody.
func (l *Log) Confirm(context.Context, event.Position) error { return nil }

// Holds implements capture.Log.
func (l *Log) Holds(ctx context.Context) error {
	c, cancel := context.WithTimeout(ctx, l.source.silence/2)
	defer cancel()
	var own string
	err := l.control.texts(c, "SELECT COALESCE(IS_USED_LOCK("+quote(l.source.lockName())+") = CONNECTION_ID(), 0)", &own)
	if c.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("no answer within %s", l.source.silence/2)
	}
	if err != nil {
		return fmt.Errorf("see who holds the lock %s: %w", l.source.lockName(), err)
	}
	if own != "1" {
		return fmt.Errorf("the lock %s is not held by this process any more", l.source.lockName())
	}
	return nil
}

// Close implements capture.Log: it gives the lock back.
func (l *Log) Close(context.Context) error {
	l.cancel()
	l.running.Wait()
	if l.syncer != nil {
		l.syncer.Close()
	}
	l.control.close()
	return nil
}

// Mark implements capture.Snapshotter: the log will have come to where the binlog ends now, which is behind all that any snapshot
// shows by now.
func (l *Log) Mark(ctx context.Context, id string) error {
	at, err := l.end(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.marks = append(l.marks, mark{id, at})
	l.mu.Unlock()
	l.rouse()
	return nil
}

// rouse makes Next look again.
func (l *Log) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// end is where the binlog ends.
func (l *Log) end(ctx context.Context) (place, error) {
	r, err := l.control.query(ctx, "SHOW MASTER STATUS")
	if err != nil {
		r, err = l.control.query(ctx, "SHOW BINARY LOG STATUS") // MySQL 8.4
	}
	if err != nil {
		return place{}, l.source.explain("ask where the binlog ends", err)
	}
	if len(r) == 0 {
		return place{}, errors.New("the server writes no binlog")
	}
	at, err := strconv.ParseUint(string(r[0][1]), 10, 64)
	if err != nil {
		return place{}, fmt.Errorf("end of the binlog: %w", err)
	}
	return placeOf(string(r[0][0]), at)
}
