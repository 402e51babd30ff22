package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

var _ capture.Remainder = (*Log)(nil)

// semiSync is how long a commit may wait for a replica, or to come to one, before it counts as lost.
const semiSync = 15 * time.Second

// Check implements capture.Log: the server must have all that was read, and must not have thrown away anything that was not.
func (l *Log) Check(ctx context.Context, from, _ event.Position, _ string) error {
	l.mu.Lock()
	read := l.read.clone()
	resumed := l.resumed
	l.mu.Unlock()
	if !resumed {
		return errors.New("check a position before Resume")
	}
	all := read.clone()
	if from.Change > 0 { // the server has the whole transaction
		if err := all.add(gtidOf(from)); err != nil {
			return err
		}
	}
	if err := l.held(ctx, all); err != nil {
		return err
	}
	gone, err := l.gone(ctx)
	if err != nil {
		return err
	}
	if !read.contains(gone) {
		return l.source.purged("the server has purged binlogs with transactions that were not read: purged are %s, read were %s", gone, read)
	}
	return nil
}

// held waits until the server has what was read. A commit that waits for a replica is in the log before the server counts it.
func (l *Log) held(ctx context.Context, read set) error {
	for end := time.Now().Add(l.source.patience); ; {
		has, text, err := l.has(ctx, read)
		if err != nil || has {
			return err
		}
		if time.Now().After(end) {
			return l.source.gap("the server lacks transactions that were published: it has %s, published were %s; it was restored to the past, or another one took over that had not "+
				"received them", text, read)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// has says whether the server has all of a set. MariaDB's numbers go on where another server takes over, so that there the newest one of each
// server counts: 0-2-7 is not what follows 0-1-6 where 0-1-7 was read.
func (l *Log) has(ctx context.Context, read set) (_ bool, text string, _ error) {
	if l.source.cfg.Flavor == MySQL {
		text, err := l.source.executed(ctx, l.control)
		if err != nil {
			return false, "", err
		}
		executed, err := parseSet(MySQL, text)
		return err == nil && executed.contains(read), executed.String(), err
	}
	if err := l.control.texts(ctx, "SELECT @@GLOBAL.gtid_binlog_state", &text); err != nil {
		return false, "", l.source.explain("read which transactions the server has", err)
	}
	newest := map[string]uint64{}
	for part := range strings.SplitSeq(text, ",") {
		one, err := parseSet(MariaDB, part)
		if err != nil {
			return false, text, err
		}
		for id, d := range one.domains {
			newest[fmt.Sprintf("%d-%d", id, d.server)] = d.number
		}
	}
	for id, d := range read.domains {
		if newest[fmt.Sprintf("%d-%d", id, d.server)] < d.number {
			return false, text, nil
		}
	}
	return true, text, nil
}

// gone is what stood in binlogs that the server has thrown away.
func (l *Log) gone(ctx context.Context) (set, error) {
	var text string
	err := l.control.texts(ctx, "SELECT @@GLOBAL.gtid_purged", &text)
	if l.source.cfg.Flavor == MariaDB {
		var files rows
		if files, err = l.control.query(ctx, "SHOW BINARY LOGS"); err == nil {
			if len(files) == 0 {
				return set{}, errors.New("the server has no binlog")
			}
			err = l.control.texts(ctx, "SELECT COALESCE(BINLOG_GTID_POS("+quote(string(files[0][0]))+", 4), '')", &text)
		}
	}
	if err != nil {
		return set{}, l.source.explain("read what the server has purged", err)
	}
	return parseSet(l.source.cfg.Flavor, text)
}

// Remaining implements capture.Remainder.
func (l *Log) Remaining(ctx context.Context) (event.Position, error) {
	l.mu.Lock()
	read := l.read.clone()
	l.mu.Unlock()
	if err := l.held(ctx, read); err != nil {
		return event.Position{}, err
	}
	gone, err := l.gone(ctx)
	if err != nil {
		return event.Position{}, err
	}
	if err := read.join(gone); err != nil {
		return event.Position{}, fmt.Errorf("GTIDs %s: %w", gone, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resumed, l.read, l.ended, l.open = true, read, nil, gtid{}
	return read.newest(l.server.origin), nil
}
