package stream_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// record is a stored message as the checker sees it. Writers number their messages from 0.
type record struct {
	Sequence uint64
	Writer   event.Writer
	Name     string // of the writer; empty for a fence's marker
	N        uint64
}

// check reports what violates the promises of a chain: a hole in the sequences, a message of a writer that is missing, stored
// twice or out of order, a writer's message after its successor's, and messages that were acknowledged but are not there.
func check(records []record, acked map[string]uint64) []string {
	var faults []string
	fault := func(format string, v ...any) { faults = append(faults, fmt.Sprintf(format, v...)) }
	next := map[string]uint64{}
	var epoch uint32
	for i, r := range records {
		if i > 0 && r.Sequence != records[i-1].Sequence+1 {
			fault("sequence %d follows %d", r.Sequence, records[i-1].Sequence)
		}
		if r.Writer.Epoch < epoch {
			fault("sequence %d: epoch %d after epoch %d", r.Sequence, r.Writer.Epoch, epoch)
		}
		epoch = max(epoch, r.Writer.Epoch)
		if r.Name == "" {
			continue
		}
		switch want := next[r.Name]; {
		case r.N < want:
			fault("sequence %d: message %d of %s again, or late", r.Sequence, r.N, r.Name)
		case r.N > want:
			fault("sequence %d: message %d of %s, but %d is missing", r.Sequence, r.N, r.Name, want)
		}
		next[r.Name] = max(next[r.Name], r.N+1)
	}
	for name, n := range acked {
		if next[name] < n {
			fault("%s: %d messages acknowledged, %d stored", name, n, next[name])
		}
	}
	return faults
}

func TestChecker(t *testing.T) {
	t.Parallel()
	good := func() []record {
		a, b := event.Writer{Epoch: 1, Base: 1}, event.Writer{Epoch: 2, Base: 4}
		return []record{{1, a, "", 0}, {2, a, "a", 0}, {3, a, "a", 1}, {4, b, "", 0}, {5, b, "b", 0}, {6, b, "b", 1}}
	}
	acked := map[string]uint64{"a": 2, "b": 2}
	tests := []struct {
		name  string
		plant func([]record) []record
		fault string
	}{
		{"Good", func(r []record) []record { return r }, ""},
		{"Hole", func(r []record) []record { return slices.Delete(r, 3, 4) }, "sequence 5 follows 3"},
		{"Missing", func(r []record) []record { r[4].N = 1; return r }, "but 0 is missing"},
		{"Twice", func(r []record) []record { r[2].N = 0; return r }, "again, or late"},
		{"Disorder", func(r []record) []record { r[1].N, r[2].N = 1, 0; return r }, "again, or late"},
		{"Interleaved", func(r []record) []record { r[5].Writer.Epoch, r[5].Name, r[5].N = 1, "a", 2; return r }, "epoch 1 after epoch 2"},
		{"Lost", func(r []record) []record { return r[:5] }, "b: 2 messages acknowledged, 1 stored"},
	}
	for _, test := range tests {
		got := strings.Join(check(test.plant(good()), acked), "\n")
		if test.fault == "" && got != "" || !strings.Contains(got, test.fault) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.fault)
		}
	}
}

// verify reads the whole stream back and fails the test on any violation.
func verify(t testing.TB, c *stream.Conn, s *stream.Stream, acked map[string]uint64) []record {
	t.Helper()
	records := readBack(t, c, s)
	faults := check(records, acked)
	if e, err := s.End(deadline(t, *patience)); err != nil || e.Deleted != 0 {
		t.Errorf("end of the stream: %+v, %v", e, err)
	}
	if len(faults) > 10 {
		faults = append(faults[:10], fmt.Sprintf("and %d more", len(faults)-10))
	}
	for _, f := range faults {
		t.Error(f)
	}
	return records
}

func readBack(t testing.TB, c *stream.Conn, s *stream.Stream) []record {
	t.Helper()
	ctx := deadline(t, *patience)
	end, err := s.End(ctx)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(c.NC)
	if err != nil {
		t.Fatal(err)
	}
	var messages jetstream.MessagesContext
	for messages == nil {
		// A cluster that has just lost a server needs a moment.
		if consumer, err := js.OrderedConsumer(ctx, s.Name(), jetstream.OrderedConsumerConfig{}); err == nil {
			if messages, err = consumer.Messages(jetstream.PullMaxMessages(5000)); err != nil {
				t.Fatal(err)
			}
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	defer messages.Stop()
	records := make([]record, 0, end.Messages)
	for len(records) == 0 || records[len(records)-1].Sequence < end.Last {
		raw, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatalf("read back after %d of %d messages: %v", len(records), end.Messages, err)
		}
		meta, err := raw.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.Decode(raw.Subject(), meta.Sequence.Stream, raw.Headers(), meta.Timestamp, raw.Data())
		if err != nil {
			t.Fatal(err)
		}
		r := record{Sequence: m.Sequence, Writer: m.Writer}
		if !m.Marker() {
			parts := strings.Split(m.ID, ":")
			r.Name = parts[1]
			if r.N, err = strconv.ParseUint(parts[2], 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		records = append(records, r)
	}
	return records
}
