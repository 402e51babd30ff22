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
	resumed := l.resumed
	read, err := l.progress.all()
	l.mu.Unlock()
	if !resumed {
		return errors.New("check a position before Resume")
	}
	if err != nil {
		return err
	}
	all := read.clone()
	if from.Change > 0 { // the server has the whole transaction
		if err := all.add(gtidOf(from), 0); err != nil {
			return err
		}
	}
	if err := l.held(ctx, all); err != nil {
		return err
	}
	gone, err := l.thrown(ctx)
	if err != nil {
		return err
	}
	if !read.contains(gone) {
		return l.source.purged("the server has purged binlogs with transactions that were not read: purged are %s, read were %s", gone, read)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = gone
	missed, err := l.progress.purge(gone)
	if err == nil && missed != "" {
		err = l.source.purged("the server has purged binlogs with the first phase of the XA transaction %s, whose second one was not read", missed)
	}
	return err
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
	switch l.server.kind {
	case placeSets:
		at, err := l.source.end(ctx, l.control)
		end := at.number()
		return err == nil && end >= read.places.next && end > read.places.through, fmt.Sprintf("its binlog up to %d:%d", at.file, at.at), err
	case uuidSets:
		text, err := l.source.executed(ctx, l.control)
		if err != nil {
			return false, "", err
		}
		executed, err := parseSet(uuidSets, text)
		return err == nil && executed.contains(read), executed.String(), err
	case domainSets:
	}
	if err := l.control.texts(ctx, "SELECT @@GLOBAL.gtid_binlog_state", &text); err != nil {
		return false, "", l.source.explain("read which transactions the server has", err)
	}
	newest := map[string]uint64{}
	for part := range strings.SplitSeq(text, ",") {
		one, err := parseSet(domainSets, part)
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

// thrown is what stood in binlogs that the server has thrown away.
func (l *Log) thrown(ctx context.Context) (set, error) {
	var text string
	var err error
	if l.server.kind == uuidSets {
		err = l.control.texts(ctx, "SELECT @@GLOBAL.gtid_purged", &text)
	} else {
		var files rows
		if files, err = l.control.query(ctx, "SHOW BINARY LOGS"); err == nil && len(files) == 0 {
			return set{}, errors.New("the server has no binlog")
		}
		switch {
		case err != nil:
		case l.server.kind == placeSets:
			first, err := placeOf(string(files[0][0]), firstByte)
			return set{places: &places{origin: l.server.origin, through: first.number() - 1, next: first.number()}}, err
		default:
			err = l.control.texts(ctx, "SELECT COALESCE(BINLOG_GTID_POS("+quote(string(files[0][0]))+", 4), '')", &text)
		}
	}
	if err != nil {
		return set{}, l.source.explain("read what the server has purged", err)
	}
	return parseSet(l.server.kind, text)
}

// Remaining implements capture.Remainder.
func (l *Log) Remaining(ctx context.Context) (event.Position, error) {
	l.mu.Lock()
	read, err := l.progress.all()
	l.mu.Unlock()
	if err != nil {
		return event.Position{}, err
	}
	if err := l.held(ctx, read); err != nil {
		return event.Position{}, err
	}
	gone, err := l.thrown(ctx)
	if err != nil {
		return event.Position{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	prepared := l.progress.prepared
	if err := read.join(gone); err != nil {
		return event.Position{}, fmt.Errorf("transactions %s: %w", gone, err)
	}
	l.resumed, l.ended, l.gone, l.progress = true, nil, gone, newProgress(read)
	for xid, e := range prepared {
		if !gone.has(e.gtid) {
			l.progress.prepared[xid] = e
		}
	}
	return read.newest(l.server.origin), nil
}
