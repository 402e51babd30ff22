package main

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// messages: 400,000 are enough to meet, but for one time in fifty, what happens to one in a hundred thousand.
var messages = flag.Int("messages", 20_000, "messages to publish")

// TestManyMessages publishes them and reads all back: each is there once, in order.
func TestManyMessages(t *testing.T) {
	t.Parallel()
	many := *messages
	server, err := stream.Start(stream.Embedded{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	conn, err := server.Connect(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := stream.Create(t.Context(), conn, "many", stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int) event.Position { return event.Position{Timeline: 1, Commit: uint64(n)} }
	w, err := s.Fence(t.Context(), 0, 1, event.Group{From: at(0), To: at(0), K: 1, N: 1}, "test")
	if err != nil {
		t.Fatal(err)
	}
	c := s.Chain(w, w.Base, stream.ChainOptions{})
	defer c.Close()
	schema := event.NewSchema("many", "postgresql", "many", event.Table{Schema: "public", Name: "rows"}, []event.Column{{Name: "id", Type: "bigint", Key: 1}})
	subject := event.Subject("many", schema.Table, 0)
	for n := 1; n <= many; n++ {
		line := event.AppendLine(nil, &event.Change{Op: event.Create, Schema: schema, After: []byte(`{"id":1}`), TxID: uint64(n), Order: 1, Position: at(n)})
		_, err := c.Publish(t.Context(), &stream.Outgoing{
			Subject: subject, ID: event.MessageID("many", at(n)), Group: event.Group{From: at(n - 1), To: at(n), K: 1, N: 1}, Data: line,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Wait(t.Context(), c.Sent()); err != nil {
		t.Fatal(err)
	}
	all := read(t, conn)
	var r check.Report
	if err := r.Stream(check.Stream{Source: "many", Messages: check.Of(all)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	want := make([]string, many)
	for n := range want {
		want[n] = at(n + 1).ID()
	}
	if err := check.Complete(all, want); err != nil {
		t.Error(err)
	}
}

// read takes the whole stream through an ordered consumer, which is much faster than message by message.
func read(t *testing.T, conn *stream.Conn) (all []*event.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js, err := jetstream.New(conn.NC)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(ctx, event.StreamName("many"), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	deliveries, err := consumer.Messages(jetstream.PullMaxMessages(10_000))
	if err != nil {
		t.Fatal(err)
	}
	defer deliveries.Stop()
	for {
		m, err := deliveries.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatalf("after %d messages: %v", len(all), err)
		}
		at, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := stream.Decode(m.Subject(), at.Sequence.Stream, m.Headers(), at.Timestamp, m.Data())
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, decoded); at.NumPending == 0 {
			return all
		}
	}
}
