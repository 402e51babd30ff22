package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// watchCheck is how often a quiet watch asks whether the bucket still holds what it has seen.
const watchCheck = 5 * time.Second

// Watch calls f for every entry that matches, present ones first, then ready once, then changes as they come, until ctx
// ends: nil. Deletions are entries too. After an interruption present entries may be told again; the newest one of a key
// is always the last one told.
func (b *Bucket) Watch(ctx context.Context, pattern string, f func(Entry), ready func()) error {
	w := watch{b: b, pattern: pattern, f: f, ready: ready}
	wait, missing := retryFirst, 0
	for {
		told, err := w.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		// A server that has just started may not know the bucket yet.
		if missing++; !errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, ErrNoStream) {
			missing = 0
		}
		if missing > watchMissing || errors.Is(err, nats.ErrConnectionClosed) {
			return fmt.Errorf("watch bucket %s: %w", b.name, err)
		}
		if told {
			wait = retryFirst
		}
		pause(ctx, wait)
		wait = min(2*wait, retryMost)
	}
}

// watchMissing is how often in a row a bucket may be missing.
const watchMissing = 10

type watch struct {
	b       *Bucket
	pattern string
	f       func(Entry)
	ready   func()
	seen    uint64 // highest revision told
}

var errWatchAgain = errors.New("the bucket may have lost what was seen of it")

// follow tells entries until something goes wrong.
func (w *watch) follow(ctx context.Context) (told bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := w.b.conn.js.OrderedConsumer(ctx, w.b.stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{w.b.subject(w.pattern)},
		DeliverPolicy:  jetstream.DeliverLastPerSubjectPolicy,
		// By default it tries for ever to make itself anew, whatever becomes of ctx: nobody could stop while NATS is away.
		MaxResetAttempts: 1,
	})
	if err != nil {
		return false, err
	}
	messages, err := c.Messages(jetstream.PullHeartbeat(time.Second))
	if err != nil {
		return false, err
	}
	defer messages.Stop()
	began := c.CachedInfo()
	if began.NumPending == 0 {
		w.isReady()
	}
	for {
		m, err := w.next(ctx, messages)
		// The client makes a lost consumer anew behind what was seen last. The server may have lost just that meanwhile, and may
		// have given its revisions out again.
		if now := c.CachedInfo(); now == nil || now.Name != began.Name {
			return told, errWatchAgain
		}
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			if err := w.check(ctx); err != nil {
				return told, err
			}
			continue
		}
		if err != nil {
			return told, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return told, err
		}
		told = true
		w.seen = max(w.seen, meta.Sequence.Stream)
		w.f(w.b.entryOf(m.Subject(), meta.Sequence.Stream, m.Headers(), meta.Timestamp, m.Data()))
		if meta.NumPending == 0 {
			w.isReady()
		}
	}
}

func (w *watch) next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, watchCheck)
	defer cancel()
	return messages.Next(jetstream.NextContext(ctx))
}

// check finds that a bucket lost its tail: a consumer beyond the end would wait there in silence. And that an entry was lost on its
// way: the client sees that by the next one, which may never come.
func (w *watch) check(ctx context.Context) error {
	info, err := w.b.conn.streamInfo(ctx, w.b.stream)
	if err != nil {
		return err
	}
	if info.State.LastSeq < w.seen {
		w.seen = 0
		return errWatchAgain
	}
	if info.State.LastSeq == w.seen {
		return nil
	}
	newest, err := w.b.conn.get(ctx, w.b.stream, selector{LastOn: w.b.subject(w.pattern)})
	switch {
	case errors.Is(err, ErrNoMessage):
		return nil
	case err != nil:
		return err
	case newest.Sequence > w.seen:
		return errWatchAgain
	}
	return nil
}

func (w *watch) isReady() {
	if w.ready != nil {
		w.ready()
		w.ready = nil
	}
}
