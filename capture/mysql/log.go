package mysql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
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

	mu       sync.Mutex
	resumed  bool
	progress progress // at the oldest position that may be asked for
	ended    []ended  // what ended since, in the log's order
	gone     set      // what the server has thrown away, as of Check
	origins  []string
	starts   []uint64 // places where transactions begin, of a log without GTIDs
	marks    []mark
	lost     error // of the lock
	wake     chan struct{}

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
	l.resumed, l.ended, l.gone = true, nil, set{}
	if text == "" {
		l.progress = newProgress(l.server.executed.clone())
		return nil
	}
	if places := strings.HasPrefix(text, placePrefix); places != (l.server.kind == placeSets) {
		was, now := "with GTIDs", "without"
		if places {
			was, now = now, was
		}
		return l.source.gap("the log was read %s, and the server writes it %s now: what was read cannot be found in it", was, now)
	}
	p, err := parseProgress(l.server.kind, text)
	if err != nil {
		return err
	}
	if own := l.server.executed.places; own != nil && p.read.places.origin != own.origin {
		return l.source.gap("the source is another server: it is %s, and the log of %s was read by files and bytes, which mean nothing on another one", own.origin, p.read.places.origin)
	}
	if _, err := p.follow(since); err != nil {
		return err
	}
	l.progress = p
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
		if found = l.ended[n].gtid == g; found && p.Change > 0 {
			break
		}
		n++
	}
	if !found && p.Change == 0 { // it was asked for before
		n = 0
	}
	for _, e := range l.ended[:n] {
		if err := l.progress.end(e); err != nil {
			return "", err
		}
	}
	l.ended = append(l.ended[:0], l.ended[n:]...)
	return l.progress.String(), nil
}

// complete notes that a transaction is read.
func (l *Log) complete(e ended) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, e)
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
	l.mu.Lock()
	from, err := l.progress.start(l.gone)
	l.dec.init(l, after, from)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	l.syncer = replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: l.serverID, Flavor: s.cfg.Flavor, Host: host, Port: uint16(n), User: s.user, Password: s.password, TLSConfig: s.tls,
		HeartbeatPeriod: heartbeat, ReadTimeout: s.silence, DisableRetrySync: true, DiscardGTIDSet: true, EventCacheCount: queued, VerifyChecksum: true,
		Localhost: "runnel." + s.cfg.Name, Dialer: dial, Logger: slog.New(slog.DiscardHandler), RowsEventDecodeFunc: rawRows,
	})
	if l.events, err = l.dump(ctx, from); err != nil {
		return l.refused(err)
	}
	return ctx.Err()
}

// dump asks the server for its log but for a set of transactions.
func (l *Log) dump(ctx context.Context, from set) (*replication.BinlogStreamer, error) {
	if from.places == nil {
		gtids, err := mysql.ParseGTIDSet(l.source.cfg.Flavor, from.String())
		if err != nil {
			return nil, fmt.Errorf("GTID set %q: %w", from, err)
		}
		return l.syncer.StartSyncGTID(gtids)
	}
	at := placeAt(from.places.next)
	files, err := l.control.query(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if p, err := placeOf(string(f[0]), at.at); err == nil && p == at && at.at <= math.MaxUint32 {
			return l.syncer.StartSync(mysql.Position{Name: string(f[0]), Pos: uint32(at.at)})
		}
	}
	return nil, l.source.purged("the server has no binlog with the number %d any more", at.file)
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
		if err := l.decode(ctx); err != nil {
			l.broken = err
			if l.dec.ready() { // what came before is good
				return l.dec.run(false), nil
			}
			return capture.Run{}, err
		}
		if l.dec.full() {
			return l.dec.run(true), nil
		}
		l.dec.met()
		if l.dec.ready() {
			return l.dec.run(false), nil
		}
		if err := l.fill(ctx); err != nil {
			return capture.Run{}, err
		}
	}
}

// decode decodes what is there, until the run is full.
func (l *Log) decode(ctx context.Context) error {
	if err := l.dec.replayed(ctx); err != nil {
		return err
	}
	for n, e := range l.queue {
		if l.dec.full() {
			l.queue = l.queue[n:]
			return nil
		}
		err := l.dec.event(ctx, e)
		if err == nil {
			err = l.dec.replayed(ctx)
		}
		if err != nil {
			return err
		}
		l.queue[n] = nil
	}
	l.queue = l.queue[:0]
	return nil
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
		if len(l.dec.expected) > 0 && l.server.kind != placeSets {
			return fmt.Errorf("the server has thrown away a part of its log since it was looked at: %s", e.Message)
		}
		return l.source.purged("the server cannot go on where the stream ends: %s", e.Message)
	}
	if gap := (*capture.GapError)(nil); errors.As(err, &gap) {
		return gap
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
	l.dec.close()
	l.control.close()
	return nil
}

// Mark implements capture.Snapshotter: the log will have come to where the binlog ends now, which is behind all that any snapshot
// shows by now.
func (l *Log) Mark(ctx context.Context, id string) error {
	at, err := l.source.end(ctx, l.control)
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
