package mysql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/runnel-dev/runnel/runtime/event"
)

// A log without GTIDs names a transaction by the place where it begins: the number of the binlog's file and the byte in it, as one number. That
// means nothing on another server, whose UUID is a part of the origin.

const (
	fileBits    = 24
	firstByte   = 4 // of a file, behind its magic number
	placePrefix = event.PlaceOrigin
)

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

// places are all transactions that begin up to a place.
type places struct {
	origin  string // binlog-<server UUID>
	through uint64 // place at which the newest one begins
	next    uint64 // where the log goes on after it
}

func (p place) number() uint64 { return p.file<<(64-fileBits) | p.at }

func placeAt(number uint64) place {
	return place{number >> (64 - fileBits), number & (1<<(64-fileBits) - 1)}
}

func (p places) String() string { return fmt.Sprintf("%s:%d:%d", p.origin, p.through, p.next) }

func parsePlaces(text string) (p places, err error) {
	f := strings.Split(text, ":")
	if len(f) != 3 || !strings.HasPrefix(f[0], placePrefix) {
		return p, fmt.Errorf("place %q: want %s<server UUID>:<number>:<number>", text, placePrefix)
	}
	p.origin = f[0]
	var err1, err2 error
	p.through, err1 = strconv.ParseUint(f[1], 10, 64)
	p.next, err2 = strconv.ParseUint(f[2], 10, 64)
	if err := cmp.Or(err1, err2); err != nil {
		return p, fmt.Errorf("place %q: %w", text, err)
	}
	return p, nil
}

// begun notes where a transaction begins.
func (l *Log) begun(at uint64) {
	const most = 1 << 16
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.starts) >= most {
		l.starts = append(l.starts[:0], l.starts[most/2:]...)
	}
	l.starts = append(l.starts, at)
}

// shows says whether a snapshot shows what begins at a place, if it was opened after the log ended at end and then some transactions were between
// their place in the log and being visible. They become so in the log's order: these are at most the last ones.
func (l *Log) shows(at, end uint64, between int) bool {
	if at >= end {
		return false
	}
	if between == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	first, met := slices.BinarySearch(l.starts, at)
	if met {
		first++
	}
	last, _ := slices.BinarySearch(l.starts, end)
	return last-first >= between
}

// end is where the binlog ends.
func (s *Source) end(ctx context.Context, x *session) (place, error) {
	r, err := x.query(ctx, "SHOW MASTER STATUS")
	if code(err) == mysql.ER_PARSE_ERROR { // MySQL 8.4
		r, err = x.query(ctx, "SHOW BINARY LOG STATUS")
	}
	if err != nil {
		return place{}, s.explain("ask where the binlog ends", err)
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

// snapshotByPlace opens a snapshot by begin. The server names no place that it shows, but counts the transactions without a GTID that are being
// committed: those that it wrote to the log and that are not visible yet are among them.
func (l *Log) snapshotByPlace(ctx context.Context, x *session, begin func() error) (func(uint64) bool, error) {
	at, err := l.source.end(ctx, x)
	if err != nil {
		return nil, err
	}
	var name, count, ordered string
	if err := x.texts(ctx, "SHOW GLOBAL STATUS LIKE 'Ongoing_anonymous_transaction_count'", &name, &count); err != nil {
		return nil, fmt.Errorf("see how many transactions are being committed: %w", err)
	}
	if err := x.texts(ctx, "SELECT @@GLOBAL.binlog_order_commits", &ordered); err != nil {
		return nil, fmt.Errorf("see in which order transactions are committed: %w", err)
	}
	between, err := strconv.Atoi(count)
	if err != nil {
		return nil, fmt.Errorf("see how many transactions are being committed: %w", err)
	}
	if err := begin(); err != nil {
		return nil, fmt.Errorf("open a snapshot: %w", err)
	}
	return func(id uint64) bool {
		return (between == 0 || ordered == "1") && l.shows(id, at.number(), between)
	}, nil
}
