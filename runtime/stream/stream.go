// Package stream is Runnel's JetStream: connections and the embedded server, the stream of a source, the chain publisher
// that makes it an exact log, and KV buckets that are read from their leader.
//
// What it promises, and what its tests check by reading streams back after faults:
//   - A chain's stream is always an exact prefix of what was published: no gap, no duplicate, nothing out of order, across
//     lost packets, lost acknowledgements, reconnects, restarts, leader changes and a full disk.
//   - What a chain reported as stored was acknowledged by the stream's leader, or read from it.
//   - After a fence nothing of an earlier writer is stored any more, whatever of it is still in flight.
//   - Decisions are taken on what the leader says, never on a replica's answer (Direct Get may be stale).
//   - A payload above the server's limit is kept aside and comes back whole; nothing is truncated or dropped.
package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Errors of this package.
var (
	ErrFenced    = errors.New("another writer has taken over the stream")
	ErrRewound   = errors.New("the stream holds less than it acknowledged")
	ErrMoved     = errors.New("the stream's end has moved")
	ErrNoStream  = errors.New("no such stream")
	ErrNoMessage = errors.New("no such message")
	ErrConflict  = errors.New("the record was changed by someone else") // of Swap
	ErrNotFound  = errors.New("no such key")
	ErrDiskFull  = errors.New("the disk under JetStream's store is full")
	ErrClosed    = errors.New("the chain was closed")
)

// Settings of a source's stream. Zero values mean the defaults; of an existing stream a zero Partitions means its own.
type Settings struct {
	Partitions int           // default 8, 1–256; fixed at creation, kept in the stream's metadata
	MaxAge     time.Duration // default 7 days
	MaxBytes   int64         // default 10 GiB
}

const (
	defaultPartitions = 8
	maxPartitions     = 256
	defaultMaxAge     = 7 * 24 * time.Hour
	defaultMaxBytes   = 10 << 30

	// The server remembers message IDs this long. The chain does not rely on it, and each remembered ID costs memory.
	duplicateWindow = 2 * time.Second

	metaPartitions = "runnel-partitions"
	metaFormat     = "runnel-format"
	format         = "1"
)

// Stream is the stream of one source.
type Stream struct {
	conn       *Conn
	source     string
	name       string
	partitions int
	created    time.Time
}

// Source is the source's name, Name the stream's.
func (s *Stream) Source() string { return s.source }

// Name is the stream's name in JetStream.
func (s *Stream) Name() string { return s.name }

// Partitions is the number of partitions that it was created with.
func (s *Stream) Partitions() int { return s.partitions }

// Created says when: the metadata of a new stream reaches the disk only some time later.
func (s *Stream) Created() time.Time { return s.created }

func (s Settings) check() error {
	var errs []error
	if s.Partitions < 0 || s.Partitions > maxPartitions {
		errs = append(errs, fmt.Errorf("partitions: %d is not between 1 and %d", s.Partitions, maxPartitions))
	}
	if s.MaxAge < 0 {
		errs = append(errs, fmt.Errorf("max_age: %s is negative", s.MaxAge))
	}
	if s.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("max_bytes: %d is negative", s.MaxBytes))
	}
	return errors.Join(errs...)
}

// Create makes the stream or checks the one that exists: changed limits are applied, settings that differ and cannot be
// changed are an error.
func Create(ctx context.Context, c *Conn, source string, s Settings) (*Stream, error) {
	name := event.StreamName(source)
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	want := streamConfig(c, source, s)
	info, err := c.streamInfo(ctx, name)
	if errors.Is(err, ErrNoStream) {
		info, err = c.addStream(ctx, want)
	}
	if err != nil {
		return nil, fmt.Errorf("create stream %s: %w", name, explainCreate(err))
	}
	if err := matches(&info.Config, &want, s, c.wantReplicas); err != nil {
		return nil, fmt.Errorf("stream %s exists but %w", name, err)
	}
	if info.Config.MaxAge != want.MaxAge || info.Config.MaxBytes != want.MaxBytes {
		changed := info.Config
		changed.MaxAge, changed.MaxBytes, changed.Duplicates = want.MaxAge, want.MaxBytes, want.Duplicates
		if err := c.retry(ctx, func(ctx context.Context) error {
			_, err := c.js.UpdateStream(ctx, changed)
			return err
		}); err != nil {
			return nil, fmt.Errorf("change the limits of stream %s: %w", name, explainCreate(err))
		}
	}
	if err := c.openLarge(ctx, want.MaxAge); err != nil {
		return nil, err
	}
	if s, ok := c.inProcess.(*Server); ok {
		s.forgetSooner()
	}
	return c.stream(source, info)
}

// Open finds an existing one: ErrNoStream.
func Open(ctx context.Context, c *Conn, source string) (*Stream, error) {
	name := event.StreamName(source)
	info, err := c.streamInfo(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", name, err)
	}
	return c.stream(source, info)
}

func (c *Conn) stream(source string, info *streamInfo) (*Stream, error) {
	n, err := strconv.Atoi(info.Config.Metadata[metaPartitions])
	if f := info.Config.Metadata[metaFormat]; f != format || err != nil || n < 1 || n > maxPartitions {
		return nil, fmt.Errorf("stream %s was not made by this version of Runnel (%s %q, %s %q): delete it, or run the version that made it",
			info.Config.Name, metaFormat, f, metaPartitions, info.Config.Metadata[metaPartitions])
	}
	return &Stream{conn: c, source: source, name: info.Config.Name, partitions: n, created: info.Created}, nil
}

func streamConfig(c *Conn, source string, s Settings) jetstream.StreamConfig {
	if s.Partitions == 0 {
		s.Partitions = defaultPartitions
	}
	if s.MaxAge == 0 {
		s.MaxAge = defaultMaxAge
	}
	if s.MaxBytes == 0 {
		s.MaxBytes = defaultMaxBytes
	}
	return jetstream.StreamConfig{
		Name:               event.StreamName(source),
		Description:        "Runnel: changes of source " + source,
		Subjects:           []string{"cdc." + event.EscapeToken(source) + ".>"},
		Storage:            jetstream.FileStorage,
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardOld,
		MaxAge:             s.MaxAge,
		MaxBytes:           s.MaxBytes,
		Replicas:           c.Replicas(),
		Duplicates:         min(duplicateWindow, s.MaxAge),
		AllowDirect:        true,
		AllowAtomicPublish: true,
		DenyDelete:         true,
		DenyPurge:          true,
		Metadata:           map[string]string{metaPartitions: strconv.Itoa(s.Partitions), metaFormat: format},
	}
}

// matches says what of an existing stream differs and cannot be changed.
func matches(have, want *jetstream.StreamConfig, s Settings, replicas int) error {
	var errs []error
	differs := func(what string, have, want any) {
		if have != want {
			errs = append(errs, fmt.Errorf("has %s %v, not %v", what, have, want))
		}
	}
	if s.Partitions != 0 && have.Metadata[metaPartitions] != want.Metadata[metaPartitions] {
		errs = append(errs, fmt.Errorf("has %s partitions, not %s: the number is fixed when a stream is created; set partitions: %[1]s, or load into a source of another name",
			have.Metadata[metaPartitions], want.Metadata[metaPartitions]))
	}
	if replicas != 0 {
		differs("replicas", have.Replicas, replicas)
	}
	if len(have.Subjects) != 1 || have.Subjects[0] != want.Subjects[0] {
		errs = append(errs, fmt.Errorf("has subjects %v, not %v", have.Subjects, want.Subjects))
	}
	differs("storage", have.Storage, want.Storage)
	differs("retention", have.Retention, want.Retention)
	differs("discard", have.Discard, want.Discard)
	differs("allow_direct", have.AllowDirect, want.AllowDirect)
	differs("allow_atomic", have.AllowAtomicPublish, want.AllowAtomicPublish)
	differs("deny_delete", have.DenyDelete, want.DenyDelete)
	differs("deny_purge", have.DenyPurge, want.DenyPurge)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; correct it with `nats stream edit %s`, or delete it if nothing needs it", err, have.Name)
	}
	return nil
}
