package stream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// BenchmarkPublish compares the chain with bare core publishes of messages with as many headers, all of 500 bytes.
func BenchmarkPublish(b *testing.B) {
	data := make([]byte, 500)
	b.Run("chain", func(b *testing.B) {
		c := embedded(b)
		s := create(b, c, "bench")
		ch := chain(b, s, 1, stream.ChainOptions{})
		m := outgoing("bench", "a", 0, data)
		ids := make([]string, 4096)
		for i := range ids {
			ids[i] = outgoing("bench", "a", uint64(i), nil).ID
		}
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			// Repeated within the server's window an ID would be a duplicate, so most messages of this benchmark go without.
			m.ID = ""
			if n < len(ids) {
				m.ID = ids[n]
			}
			n++
			if _, err := ch.Publish(b.Context(), m); err != nil {
				b.Fatal(err)
			}
		}
		if err := ch.Wait(deadline(b, time.Minute), ch.Sent()); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("core", func(b *testing.B) {
		c := embedded(b)
		create(b, c, "bench")
		m := &nats.Msg{Subject: "cdc.bench.public.orders.0", Data: data, Header: nats.Header{
			"Nats-Msg-Id": {""}, "Runnel-Epoch": {"1:512"}, "Runnel-Group": {"0@0/100000:0/3E8:0;0@0/100000:0/3E8:0;1/1"},
		}}
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			if err := c.NC.PublishMsg(m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
