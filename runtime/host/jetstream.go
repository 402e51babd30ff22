package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Settings of private consumers.
const (
	ackWait           = 24 * time.Hour // nothing is ever sent twice by one consumer
	inactiveThreshold = 30 * time.Second
	requestExpires    = 30 * time.Second
)

type world struct {
	conn    *stream.Conn
	buckets map[string]Bucket
	dead    *stream.DeadLetters
	lines   *lines
}

// JetStream is the real world.
func JetStream(c *stream.Conn, r *registry.Registry) World {
	return &world{conn: c, dead: c.DeadLetters(), lines: &lines{conn: c, open: map[string]*line{}}, buckets: map[string]Bucket{
		registry.BucketCaptures:  r.Captures,
		registry.BucketSchemas:   r.Schemas,
		registry.BucketFunctions: r.Functions,
		registry.BucketOwners:    r.Owners,
		registry.BucketSnapshots: r.Snapshots,
		registry.BucketWorkers:   r.Workers,
	}}
}

func (w *world) Bucket(name string) Bucket { return w.buckets[name] }

func (w *world) Bury(ctx context.Context, l *event.DeadLetter) error { return w.dead.Put(ctx, l) }

func (w *world) Stream(ctx context.Context, source string) (Stream, error) {
	s, err := stream.Open(ctx, w.conn, source)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(w.conn.NC)
	if err != nil {
		return nil, err
	}
	return &sourceStream{s, w.lines, js}, nil
}

type sourceStream struct {
	*stream.Stream
	lines *lines
	js    jetstream.JetStream
}

func (s *sourceStream) Consume(ctx context.Context, t Tap) (Feed, error) {
	nc, err := s.lines.take(ctx, t.Function)
	if err != nil {
		return nil, err
	}
	f := &feed{stream: s, tap: t, nc: nc, inbox: nc.NewInbox()}
	sub, err := nc.Subscribe(f.inbox+".*", f.receive)
	if err != nil {
		s.lines.give(t.Function)
		return nil, err
	}
	f.sub = sub
	// The consumer bounds what is pending by bytes; nats.go must not drop.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		s.lines.give(t.Function)
		return nil, err
	}
	f.cuts = nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	go f.watch()
	// The name may still stand for a consumer from before a loss of continuity.
	_ = s.js.DeleteConsumer(ctx, s.Name(), t.Name)
	_, err = s.js.CreateConsumer(ctx, s.Name(), jetstream.ConsumerConfig{
		Name:              t.Name,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       max(t.From, 1),
		AckPolicy:         jetstream.AckAllPolicy,
		AckWait:           ackWait,
		MaxAckPending:     -1,
		FilterSubject:     t.Subject,
		InactiveThreshold: inactiveThreshold,
		Replicas:          1,
		MemoryStorage:     true,
	})
	if err != nil {
		f.unsubscribe()
		return nil, fmt.Errorf("create consumer %s: %w", t.Name, err)
	}
	return f, nil
}

func (s *sourceStream) Forget(ctx context.Context, name string) error {
	err := s.js.DeleteConsumer(ctx, s.Name(), name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil
	}
	return err
}

// feed is a pull consumer on a connection.
type feed struct {
	stream *sourceStream
	tap    Tap
	nc     *nats.Conn
	inbox  string
	sub    *nats.Subscription
	cuts   chan nats.Status
}

// watch breaks the consumer when the connection does: the server counts what was on its way as delivered.
func (f *feed) watch() {
	if s, open := <-f.cuts; open {
		f.tap.Receive(Packet{Status: Broken, Reason: "the connection to NATS is " + strings.ToLower(s.String())})
	}
}

func (f *feed) unsubscribe() {
	_ = f.sub.Unsubscribe()
	f.nc.RemoveStatusListener(f.cuts) // closes it
	f.stream.lines.give(f.tap.Function)
}

// Request is one pull request.
type Request struct {
	Number    uint64
	Messages  int
	Bytes     int
	Heartbeat time.Duration
}

func (f *feed) Request(r Request) error {
	body, err := json.Marshal(struct {
		Expires   time.Duration `json:"expires"`
		Batch     int           `json:"batch"`
		MaxBytes  int           `json:"max_bytes,omitempty"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{requestExpires, r.Messages, r.Bytes, r.Heartbeat})
	if err != nil {
		return err
	}
	subject := "$JS.API.CONSUMER.MSG.NEXT." + f.stream.Name() + "." + f.tap.Name
	return f.nc.PublishRequest(subject, f.inbox+"."+strconv.FormatUint(r.Number, 10), body)
}

func (f *feed) Ack(d Delivery) { _ = f.nc.Publish(d.reply, []byte("+ACK")) }

func (f *feed) Close(ctx context.Context) {
	f.unsubscribe()
	_ = f.stream.js.DeleteConsumer(ctx, f.stream.Name(), f.tap.Name) // else who has the partition next
}

func (f *feed) receive(m *nats.Msg) {
	if status := m.Header.Get("Status"); status != "" && m.Reply == "" {
		f.tap.Receive(f.status(m, status, m.Header.Get("Description")))
		return
	}
	p, err := packet(m)
	if err != nil {
		p = Packet{Status: Broken, Reason: err.Error()}
	}
	f.tap.Receive(p)
}

func (f *feed) status(m *nats.Msg, status, text string) Packet {
	number, _ := strconv.ParseUint(strings.TrimPrefix(m.Subject, f.inbox+"."), 10, 64)
	p := Packet{Request: number}
	switch {
	case status == "100":
		p.Status = Heartbeat
		p.Delivered, _ = strconv.ParseUint(m.Header.Get("Nats-Last-Consumer"), 10, 64)
	case status == "404", status == "408", status == "409" && strings.HasPrefix(text, "Batch Completed"):
		p.Status = Ended
	case status == "409" && strings.HasPrefix(text, "Message Size Exceeds MaxBytes"):
		p.Status = TooLarge
	case status == "503":
		p.Status, p.Reason = Broken, "no responders"
	default:
		p.Status, p.Reason = Broken, status+" "+text
	}
	return p
}

func packet(m *nats.Msg) (Packet, error) {
	meta, err := m.Metadata()
	if err != nil {
		return Packet{}, fmt.Errorf("message on %s: %w", m.Subject, err)
	}
	d := Delivery{Consumer: meta.Sequence.Consumer, Pending: meta.NumPending, reply: m.Reply}
	d.Message, d.Foreign = stream.Decode(m.Subject, meta.Sequence.Stream, m.Header, meta.Timestamp, m.Data)
	if d.Foreign != nil {
		d.Message = &event.Message{Subject: m.Subject, Sequence: meta.Sequence.Stream}
	}
	return Packet{Delivery: d}, nil
}
