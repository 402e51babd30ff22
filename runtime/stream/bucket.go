package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// Bucket is a KV bucket that is read from its leader. It is an ordinary bucket for the nats CLI.
type Bucket struct {
	conn   *Conn
	name   string
	stream string
}

// BucketConfig of a bucket.
type BucketConfig struct {
	Name    string
	History uint8         // default 1
	TTL     time.Duration // default none
}

// Entry of a bucket.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
	Created  time.Time
	Deleted  bool
}

// OpenBucket creates the bucket if it is missing.
func OpenBucket(ctx context.Context, c *Conn, cfg BucketConfig) (*Bucket, error) {
	b := &Bucket{conn: c, name: cfg.Name, stream: "KV_" + cfg.Name}
	_, err := c.streamInfo(ctx, b.stream)
	if errors.Is(err, ErrNoStream) {
		err = b.create(ctx, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", cfg.Name, explainCreate(err))
	}
	return b, nil
}

func (b *Bucket) create(ctx context.Context, cfg BucketConfig) error {
	want := jetstream.KeyValueConfig{
		Bucket:   cfg.Name,
		History:  cmp.Or(cfg.History, 1),
		TTL:      cfg.TTL,
		Storage:  jetstream.FileStorage,
		Replicas: b.conn.Replicas(),
	}
	create := func(ctx context.Context) error {
		_, err := b.conn.js.CreateKeyValue(ctx, want)
		return err
	}
	err := b.conn.retry(ctx, create)
	if codeOf(err) == codeNotClustered && b.conn.wantReplicas == 0 {
		b.conn.replicas.Store(1)
		want.Replicas = 1
		err = b.conn.retry(ctx, create)
	}
	if errors.Is(err, jetstream.ErrBucketExists) {
		return nil
	}
	return err
}

const (
	headerOperation  = "KV-Operation"
	operationDelete  = "DEL"
	headerLastOnKey  = "Nats-Expected-Last-Subject-Sequence"
	headerMarkReason = "Nats-Marker-Reason"
	readersOfAll     = 16
)

func (b *Bucket) subject(key string) string { return "$KV." + b.name + "." + key }

func (b *Bucket) entry(m *stored) (Entry, error) {
	h, err := m.header()
	if err != nil {
		return Entry{}, err
	}
	return b.entryOf(m.Subject, m.Sequence, h, m.Time, m.Data), nil
}

func (b *Bucket) entryOf(subject string, sequence uint64, h nats.Header, at time.Time, value []byte) Entry {
	return Entry{
		Key:      strings.TrimPrefix(subject, b.subject("")),
		Value:    value,
		Revision: sequence,
		Created:  at,
		Deleted:  h.Get(headerOperation) != "" && h.Get(headerOperation) != "PUT" || h.Get(headerMarkReason) != "",
	}
}

// Get reads from the leader; ErrNotFound (the entry's Revision is still that of a deletion marker, for Swap).
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	m, err := b.conn.get(ctx, b.stream, selector{LastOn: b.subject(key)})
	if errors.Is(err, ErrNoMessage) {
		return Entry{Key: key}, fmt.Errorf("bucket %s, key %s: %w", b.name, key, ErrNotFound)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read bucket %s, key %s: %w", b.name, key, err)
	}
	e, err := b.entry(m)
	if err == nil && e.Deleted {
		e.Value = nil
		err = fmt.Errorf("bucket %s, key %s: %w", b.name, key, ErrNotFound)
	}
	return e, err
}

// Put writes whatever is there. After an error the outcome is unknown.
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return b.write(ctx, &nats.Msg{Subject: b.subject(key), Data: value})
}

// Swap writes if the key's revision is the given one (0: the key never existed): ErrConflict. Another error means that the
// outcome is unknown: read again.
func (b *Bucket) Swap(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.write(ctx, &nats.Msg{Subject: b.subject(key), Data: value, Header: expectRevision(revision)})
}

// Delete marks the key as deleted if its revision is the given one: ErrConflict.
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) error {
	h := expectRevision(revision)
	h.Set(headerOperation, operationDelete)
	_, err := b.write(ctx, &nats.Msg{Subject: b.subject(key), Header: h})
	return err
}

func expectRevision(revision uint64) nats.Header {
	return nats.Header{headerLastOnKey: {strconv.FormatUint(revision, 10)}}
}

// write publishes once, and again only where nothing can have been stored.
func (b *Bucket) write(ctx context.Context, m *nats.Msg) (uint64, error) {
	wait := retryFirst
	for {
		revision, err := b.writeOnce(ctx, m)
		switch {
		case err == nil:
			return revision, nil
		case codeOf(err) == codeWrongLast:
			return 0, fmt.Errorf("write bucket %s, %s: %w", b.name, m.Subject, ErrConflict)
		case ctx.Err() != nil:
			return 0, fmt.Errorf("write bucket %s, %s: %w", b.name, m.Subject, b.conn.gaveUp(ctx, err))
		case !notStored(err):
			return 0, fmt.Errorf("write bucket %s, %s: %w", b.name, m.Subject, b.why(err))
		}
		pause(ctx, wait)
		wait = min(2*wait, retryMost)
	}
}

func (b *Bucket) writeOnce(ctx context.Context, m *nats.Msg) (uint64, error) {
	one, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	answer, err := b.conn.NC.RequestMsgWithContext(one, m)
	if err != nil {
		return 0, err
	}
	a, err := parseAck(answer)
	return a.sequence, err
}

// ackWait is how long a write waits for its answer: most leader changes are over by then.
const ackWait = 5 * time.Second

// notStored says whether an error proves that nothing was stored.
func notStored(err error) bool {
	switch codeOf(err) {
	case codeUnavailable, codeWrongLastInFlight, codeTooManyRequests:
		return true
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

func (b *Bucket) why(err error) error {
	if t := b.conn.trouble(); t != nil {
		return fmt.Errorf("%w (%w)", err, t)
	}
	if outOfStorage(err) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// All are the entries whose keys match a pattern (* and > as in subjects), by key. What was deleted is not among them.
func (b *Bucket) All(ctx context.Context, pattern string) ([]Entry, error) {
	keys, err := b.subjects(ctx, pattern)
	if err != nil {
		return nil, fmt.Errorf("list bucket %s: %w", b.name, err)
	}
	entries := make([]Entry, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readersOfAll)
	for i, key := range keys {
		g.Go(func() error {
			m, err := b.conn.get(ctx, b.stream, selector{LastOn: key})
			if errors.Is(err, ErrNoMessage) {
				entries[i].Deleted = true
				return nil
			}
			if err == nil {
				entries[i], err = b.entry(m)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("list bucket %s: %w", b.name, err)
	}
	return slices.DeleteFunc(entries, func(e Entry) bool { return e.Deleted }), nil
}

// subjects lists the subjects that match, sorted.
func (b *Bucket) subjects(ctx context.Context, pattern string) ([]string, error) {
	var all []string
	for {
		var info streamInfo
		err := b.conn.retry(ctx, func(ctx context.Context) error {
			info = streamInfo{}
			return b.conn.ask(ctx, "$JS.API.STREAM.INFO."+b.stream, map[string]any{"subjects_filter": b.subject(pattern), "offset": len(all)}, &info)
		})
		if err != nil {
			return nil, err
		}
		for s := range info.State.Subjects {
			all = append(all, s)
		}
		if len(info.State.Subjects) == 0 || len(all) >= info.Total {
			slices.Sort(all)
			return slices.Compact(all), nil
		}
	}
}

// History are the entries that are held of a key, deletions included, oldest first.
func (b *Bucket) History(ctx context.Context, key string) ([]Entry, error) {
	var all []Entry
	for from := uint64(1); ; {
		m, err := b.conn.get(ctx, b.stream, selector{Sequence: from, NextOn: b.subject(key)})
		if errors.Is(err, ErrNoMessage) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("history of bucket %s, key %s: %w", b.name, key, err)
		}
		e, err := b.entry(m)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
		from = m.Sequence + 1
	}
}
