package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Limits of RUNNEL_DLQ. It is bounded, so that it never fills the disk on which the streams of the sources lie, and what does not
// fit is refused, never dropped. An operator may change them.
const (
	deadBytes  = 1 << 30
	deadLeast  = 16 << 20 // where the server has no room for more
	deadWindow = 2 * time.Minute
)

// ErrLetterTooLarge says that an event does not fit into a message of RUNNEL_DLQ.
var ErrLetterTooLarge = errors.New("larger than a message of " + event.DeadLetterStream + " may be")

// DeadLetters is the stream RUNNEL_DLQ. The first letter makes it.
type DeadLetters struct {
	conn *Conn
	turn chan struct{} // held by who makes it; whoever else needs it waits as long as its context
	made atomic.Bool
}

// DeadLetters of all functions.
func (c *Conn) DeadLetters() *DeadLetters { return &DeadLetters{conn: c, turn: make(chan struct{}, 1)} }

// Letter is a stored dead letter.
type Letter struct {
	ID uint64 // its sequence in RUNNEL_DLQ
	event.DeadLetter
}

// create makes the stream where it is missing.
func (d *DeadLetters) create(ctx context.Context) error {
	if d.made.Load() {
		return nil
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("create stream %s: %w", event.DeadLetterStream, ctx.Err())
	}
	defer func() { <-d.turn }()
	if d.made.Load() {
		return nil
	}
	_, err := d.conn.streamInfo(ctx, event.DeadLetterStream)
	for bytes := int64(deadBytes); errors.Is(err, ErrNoStream) || codeOf(err) == codeNoStorage && bytes >= deadLeast; bytes /= 4 {
		_, err = d.conn.addStream(ctx, jetstream.StreamConfig{
			Name:        event.DeadLetterStream,
			Description: "Runnel: events that their function could never write",
			Subjects:    []string{event.DeadLetterPrefix + ">"},
			Storage:     jetstream.FileStorage,
			Retention:   jetstream.LimitsPolicy,
			Discard:     jetstream.DiscardNew,
			MaxBytes:    bytes,
			Replicas:    d.conn.Replicas(),
			Duplicates:  deadWindow,
		})
	}
	if err != nil {
		return fmt.Errorf("create stream %s: %w", event.DeadLetterStream, explainCreate(err))
	}
	d.made.Store(true)
	return nil
}

// Put stores a letter and returns nil once the stream's leader has acknowledged it. The same letter again within two minutes is one.
// ErrLetterTooLarge will not get better; any other error may.
func (d *DeadLetters) Put(ctx context.Context, l *event.DeadLetter) error {
	headers, err := l.Headers()
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	if len(l.Line) > d.conn.MaxMessage() {
		return fmt.Errorf("%w: %d bytes, %d are allowed", ErrLetterTooLarge, len(l.Line), d.conn.MaxMessage())
	}
	if err := d.create(ctx); err != nil {
		return err
	}
	m := &nats.Msg{Subject: l.Subject(), Header: nats.Header{}, Data: l.Line}
	for _, h := range headers {
		m.Header.Set(h.Name, h.Value)
	}
	ack, err := d.conn.js.PublishMsg(ctx, m)
	switch {
	case err != nil:
		d.made.Store(false) // it may have been deleted
		if codeOf(err) == codeStoreFailed {
			return fmt.Errorf("store a dead letter in %s: %w; where it is full, look at what lies there with `runnel dlq list`, take away what is settled with `runnel dlq purge`, or raise its limit: `nats stream edit %[1]s --max-bytes 4GB`", event.DeadLetterStream, err)
		}
		return fmt.Errorf("store a dead letter in %s: %w", event.DeadLetterStream, err)
	case ack.Stream != event.DeadLetterStream:
		return fmt.Errorf("a dead letter on %s went to stream %s: take the subjects %s> from that, they belong to %s", m.Subject, ack.Stream, event.DeadLetterPrefix, event.DeadLetterStream)
	}
	return nil
}

// Counts of letters by function.
func (d *DeadLetters) Counts(ctx context.Context) (map[string]uint64, error) {
	counts := map[string]uint64{}
	for seen := 0; ; {
		var info streamInfo
		err := d.conn.retry(ctx, func(ctx context.Context) error {
			info = streamInfo{}
			return d.conn.ask(ctx, "$JS.API.STREAM.INFO."+event.DeadLetterStream, map[string]any{"subjects_filter": event.DeadLetterPrefix + ">", "offset": seen}, &info)
		})
		if codeOf(err) == codeNoStream {
			return counts, nil
		}
		if err != nil {
			return nil, fmt.Errorf("count dead letters: %w", err)
		}
		for subject, n := range info.State.Subjects {
			token, _, _ := strings.Cut(strings.TrimPrefix(subject, event.DeadLetterPrefix), ".")
			if function, err := event.UnescapeToken(token); err == nil {
				counts[function] += n
			}
		}
		seen += len(info.State.Subjects)
		if len(info.State.Subjects) == 0 || seen >= info.Total {
			return counts, nil
		}
	}
}

// Each gives the letters of a function, or of all ("") that are there now, oldest first, without their payload.
func (d *DeadLetters) Each(ctx context.Context, function string, f func(*Letter) error) error {
	info, err := d.conn.streamInfo(ctx, event.DeadLetterStream)
	if errors.Is(err, ErrNoStream) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read stream %s: %w", event.DeadLetterStream, err)
	}
	subject := event.DeadLetterPrefix + ">"
	if function != "" {
		subject = event.DeadLetterSubject(function, ">")
	}
	if _, err := d.conn.get(ctx, event.DeadLetterStream, selector{Sequence: 1, NextOn: subject}); errors.Is(err, ErrNoMessage) {
		return nil // an iterator would wait for the first
	} else if err != nil {
		return fmt.Errorf("read stream %s: %w", event.DeadLetterStream, err)
	}
	consumer, err := d.conn.js.OrderedConsumer(ctx, event.DeadLetterStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject}, DeliverPolicy: jetstream.DeliverAllPolicy, HeadersOnly: true,
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", event.DeadLetterStream, err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read stream %s: %w", event.DeadLetterStream, err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read stream %s: %w", event.DeadLetterStream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read stream %s: %w", event.DeadLetterStream, err)
		}
		letter, err := event.ParseDeadLetter(m.Subject(), m.Headers().Get, nil)
		if err != nil {
			return err
		}
		if err := f(&Letter{meta.Sequence.Stream, *letter}); err != nil {
			return err
		}
		if meta.NumPending == 0 || meta.Sequence.Stream >= info.State.LastSeq {
			return nil
		}
	}
}

// Get reads a letter whole: ErrNoMessage.
func (d *DeadLetters) Get(ctx context.Context, id uint64) (*Letter, error) {
	m, err := d.conn.get(ctx, event.DeadLetterStream, selector{Sequence: id})
	if errors.Is(err, ErrNoStream) {
		err = ErrNoMessage
	}
	if err != nil {
		return nil, fmt.Errorf("read dead letter %d: %w", id, err)
	}
	h, err := m.header()
	if err != nil {
		return nil, err
	}
	letter, err := event.ParseDeadLetter(m.Subject, h.Get, m.Data)
	if err != nil {
		return nil, err
	}
	return &Letter{id, *letter}, nil
}

// Delete removes a letter for ever, and erases it on the disk; one that is gone already is no error.
func (d *DeadLetters) Delete(ctx context.Context, id uint64) error {
	err := d.conn.retry(ctx, func(ctx context.Context) error {
		var done answer
		return d.conn.ask(ctx, "$JS.API.STREAM.MSG.DELETE."+event.DeadLetterStream, map[string]any{"seq": id}, &done)
	})
	if err == nil {
		return nil
	}
	if _, gone := d.conn.get(ctx, event.DeadLetterStream, selector{Sequence: id}); errors.Is(gone, ErrNoMessage) || errors.Is(gone, ErrNoStream) {
		return nil
	}
	return fmt.Errorf("delete dead letter %d: %w", id, err)
}
