package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Bounds of what is published and not acknowledged.
const (
	mostMessages = 512
	mostBytes    = 8 << 20
)

// window is what is on its way. No two of its events are of one row: the second would overtake the first where that one is lost.
type window struct {
	rows  map[string]bool
	sent  []sent
	bytes int
}

// sent is an event whose acknowledgement is waited for.
type sent struct {
	item functions.Item
	row  string
	ack  jetstream.PubAckFuture
}

// Handle publishes a batch.
func (s *Sink) Handle(ctx context.Context, b functions.Batch) error {
	js, err := s.stream(ctx)
	if err != nil {
		return err
	}
	var failed functions.Failures
	items := functions.Items(b)
	w := window{rows: map[string]bool{}}
	for n, i := range items {
		id := i.ID()
		row := i.Table.String() + "\x00" + id
		stop, unsent := false, items[n:]
		if w.rows[row] || len(w.sent) >= mostMessages || w.bytes > mostBytes {
			if stop, err = s.settle(ctx, js, &w, &failed); err != nil {
				return err
			}
		}
		if !stop {
			stop, unsent = s.publish(js, s.message(i, id, b.Generation), i, row, &w, &failed), items[n+1:]
		}
		if stop { // what follows may be of rows that failed
			if _, err := s.settle(ctx, js, &w, &failed); err != nil {
				return err
			}
			for _, later := range unsent {
				failed.Add(later, errUnsent)
			}
			return failed.Err()
		}
	}
	if _, err := s.settle(ctx, js, &w, &failed); err != nil {
		return err
	}
	return failed.Err()
}

// errUnsent: an event waits behind others that failed.
var errUnsent = errors.New("nats: events before this one were not stored")

// publish sends one message. It says whether nothing may follow it.
func (s *Sink) publish(js jetstream.JetStream, m *nats.Msg, i functions.Item, row string, w *window, failed *functions.Failures) (stop bool) {
	ack, err := js.PublishMsgAsync(m, s.expect()...)
	if err != nil {
		failed.Add(i, s.judge(m.Subject, err))
		return !tooLarge(err)
	}
	w.rows[row], w.sent, w.bytes = true, append(w.sent, sent{i, row, ack}), w.bytes+len(m.Data)
	return false
}

// settle waits for what is on its way. It says whether nothing may follow it.
func (s *Sink) settle(ctx context.Context, js jetstream.JetStream, w *window, failed *functions.Failures) (stop bool, err error) {
	for _, one := range w.sent {
		subject := one.ack.Msg().Subject
		select {
		case ack := <-one.ack.Ok():
			if err := s.settled(ctx, js, one, ack); err != nil {
				failed.Add(one.item, s.judge(subject, err))
				stop = true
			}
		case err := <-one.ack.Err():
			failed.Add(one.item, s.judge(subject, err))
			stop = stop || !tooLarge(err)
		case <-ctx.Done():
			if denied := s.denial(); denied != nil {
				return true, denied
			}
			return true, fmt.Errorf("nats: no acknowledgement of %s: %w", subject, ctx.Err())
		}
	}
	clear(w.rows)
	w.sent, w.bytes = w.sent[:0], 0
	return stop, nil
}

// settled notes where an event is. One that was dropped as a duplicate lies where it was stored first; where an older one of its row has
// been stored behind it since, because the stream had forgotten that one, it is stored again, behind that.
func (s *Sink) settled(ctx context.Context, js jetstream.JetStream, one sent, ack *jetstream.PubAck) error {
	if !ack.Duplicate {
		s.places.note(one.row, stored{one.item.Version, ack.Sequence})
		return nil
	}
	last := s.places.of(one.row)
	if last.sequence <= ack.Sequence || last.version >= one.item.Version {
		return nil
	}
	m := one.ack.Msg()
	m.Header.Set(event.HeaderID, m.Header.Get(event.HeaderID)+":"+strconv.FormatUint(last.sequence, 10))
	again, err := js.PublishMsg(ctx, m, s.expect()...)
	if err == nil {
		s.places.note(one.row, stored{one.item.Version, again.Sequence})
	}
	return err
}

// message is an event's.
func (s *Sink) message(i functions.Item, id string, generation int64) *nats.Msg {
	m := nats.NewMsg(s.subject(i, id))
	m.Header.Set(event.HeaderID, s.cfg.Function+":"+strconv.FormatInt(generation, 10)+":"+strconv.FormatInt(int64(i.Version), 10))
	m.Header.Set(event.HeaderVersion, strconv.FormatInt(int64(i.Version), 10))
	m.Data = i.Line
	return m
}

// subject replaces what stands in braces, each as one token.
func (s *Sink) subject(i functions.Item, id string) string {
	return strings.NewReplacer(
		"{source}", event.EscapeToken(i.Source), "{schema}", event.EscapeToken(i.Table.Schema), "{table}", event.EscapeToken(i.Table.Name),
		"{partition}", strconv.Itoa(i.Partition), "{op}", i.Op.String(), "{id}", event.EscapeToken(id),
	).Replace(s.cfg.Subject)
}

func (s *Sink) expect() []jetstream.PublishOpt {
	if s.cfg.Stream == "" {
		return nil
	}
	return []jetstream.PublishOpt{jetstream.WithExpectStream(s.cfg.Stream)}
}

// Preview lists the messages of a batch, with their headers.
func (s *Sink) Preview(_ context.Context, b functions.Batch) ([]byte, error) {
	var out []byte
	for _, i := range functions.Items(b) {
		m := s.message(i, i.ID(), b.Generation)
		out = fmt.Appendf(out, "PUB %s\n%s: %s\n%s: %s\n\n%s\n", m.Subject, event.HeaderID, m.Header.Get(event.HeaderID), event.HeaderVersion, m.Header.Get(event.HeaderVersion), m.Data)
	}
	return out, nil
}
