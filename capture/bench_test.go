package capture

import (
	"context"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// nothing is a stream that keeps nothing.
type nothing struct{ Reader }

func (nothing) Partitions() int { return 8 }

func (nothing) Chain(event.Writer, uint64, stream.ChainOptions) *sink { return &sink{} }

type sink struct{ sent uint64 }

func (s *sink) Publish(context.Context, *stream.Outgoing) (uint64, error) {
	s.sent++
	return s.sent, nil
}
func (s *sink) Flush() error                       { return nil }
func (s *sink) Wait(context.Context, uint64) error { return nil }
func (s *sink) Sent() uint64                       { return s.sent }
func (s *sink) Stored() uint64                     { return s.sent }
func (s *sink) Failed() <-chan struct{}            { return nil }
func (s *sink) Err() error                         { return nil }
func (s *sink) Close()                             {}

type nowhere struct{ Bucket }

func (nowhere) Put(context.Context, string, []byte) (uint64, error) { return 1, nil }

type still struct{ Log }

func (still) Holds(context.Context) error { return nil }

// BenchmarkChange: a change costs the agent one allocation, its message ID, which the chain keeps.
func BenchmarkChange(b *testing.B) {
	a, err := New(Config{Source: "shop", Horizon: time.Second}, nil, nothing{}, nowhere{}, nowhere{}, nowhere{})
	if err != nil {
		b.Fatal(err)
	}
	a.cfg.Epoch = 1 << 62
	w := a.newWriter(still{}, event.Writer{Epoch: 1}, record{}, plan{group: at(event.Position{Commit: 1})})
	schema := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"}, []event.Column{
		{Name: "id", Type: "bigint", Key: 1}, {Name: "note", Type: "text"},
	})
	c := event.Change{Op: event.Update, Schema: schema, After: []byte(`{"id":1234567,"note":"a note of some length"}`), Position: event.Position{Commit: 1, Change: 1}}
	run := Run{Items: []Item{{Kind: Changed, Change: &c, XID: 7}}, More: true}
	b.ReportAllocs()
	for b.Loop() {
		c.Position.Commit++
		c.Position.Change++
		if err := w.take(b.Context(), run); err != nil {
			b.Fatal(err)
		}
	}
}
