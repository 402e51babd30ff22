package event_test

import (
	"testing"

	"github.com/runnel-dev/runnel/runtime/event"
)

func BenchmarkAppendLine(b *testing.B) {
	c := sample(b, "Update")
	dst := event.AppendLine(nil, &c)
	b.SetBytes(int64(len(dst)))
	b.ReportAllocs()
	for b.Loop() {
		dst = event.AppendLine(dst[:0], &c)
	}
}

func benchmarkDecode(b *testing.B, lines int) {
	c := sample(b, "Update")
	m := message(c.Schema)
	for range lines {
		m.Data = event.AppendLine(m.Data, &c)
	}
	b.SetBytes(int64(len(m.Data)))
	b.ReportAllocs()
	var events []event.Event
	var err error
	for b.Loop() {
		// A host appends to the batch that it collects.
		if events, err = m.Decode(events[:1]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeOneLine(b *testing.B)  { benchmarkDecode(b, 1) }
func BenchmarkDecode100Lines(b *testing.B) { benchmarkDecode(b, 100) }

func BenchmarkColumn(b *testing.B) {
	row := event.RowOf([]byte(wide))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := row.Column("größe2"); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkAll(b *testing.B) {
	row := event.RowOf(sample(b, "Create").After)
	b.SetBytes(int64(len(row.Raw())))
	b.ReportAllocs()
	for b.Loop() {
		for range row.All() {
		}
	}
}

func BenchmarkAppendKeyAndPartition(b *testing.B) {
	s := keyed("bigint", "citext")
	row := event.RowOf([]byte(`{"k1":1234567890,"k2":"Jane@example.org","other":"text"}`))
	var key []byte
	b.ReportAllocs()
	for b.Loop() {
		key, _ = s.AppendKey(key[:0], row)
		event.Partition(key, 8)
	}
}

func BenchmarkAppendJSONString(b *testing.B) {
	s := "The quick brown fox jumps over the lazy dog.\nThe quick brown fox jumps over the lazy dog, again and again."
	var dst []byte
	b.SetBytes(int64(len(s)))
	b.ReportAllocs()
	for b.Loop() {
		dst = event.AppendJSONString(dst[:0], s)
	}
}

func BenchmarkHeaders(b *testing.B) {
	g := event.Group{From: sample(b, "Create").Position, To: sample(b, "KeyChangeCreate").Position, K: 1, N: 2}
	w := event.Writer{Epoch: 91000000, Base: 69000}
	text, writer := g.String(), w.String()
	var dst []byte
	b.Run("Append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dst = w.Append(g.Append(dst[:0]))
		}
	})
	b.Run("Parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := event.ParseGroup(text); err != nil {
				b.Fatal(err)
			}
			if _, err := event.ParseWriter(writer); err != nil {
				b.Fatal(err)
			}
		}
	})
}
