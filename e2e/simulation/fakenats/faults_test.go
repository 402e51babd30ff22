package fakenats_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/e2e/simulation/fakenats"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// troubled is a bit of everything.
var troubled = fakenats.Faults{
	LatencyMin: 100 * time.Microsecond, LatencyMax: 2 * time.Millisecond,
	Late: 0.01, LateMost: 700 * time.Millisecond, Split: 0.1, Cut: 0.002,
	PublishLost: 0.0005, AckLost: 0.01, AckLate: 0.01, InFlight: 0.05, NoResponders: 0.0005, StoreRefuses: 0.0005, AnswerUnknown: 0.3,
	RequestLost: 0.05, ReplyLost: 0.05, Unavailable: 0.05, DirectStale: 0.3,
	DeliveryLost: 0.02, ConsumerGone: 0.005, ConsumerLate: 0.2,
}

// TestChainUnderFaults publishes while everything goes wrong: what is stored is exactly what was sent. Each fault must have
// happened in some of the schedules.
func TestChainUnderFaults(t *testing.T) {
	schedules := 40
	if testing.Short() {
		schedules = 5
	}
	total := map[string]int{}
	for seed := range schedules {
		synctest.Test(t, func(t *testing.T) {
			for name, n := range underFaults(t, uint64(seed)) {
				total[name] += n
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if testing.Short() {
		return
	}
	for _, name := range []string{
		"bytes late", "connection cut", "connection cut in a message", "connection cut with publishes under way", "publish lost",
		"acknowledgement lost", "acknowledgement late", "write in flight", "publish without responders", "store refuses",
		"cut when a batch is stored", "request lost", "reply lost", "unavailable", "stale leader", "restart", "dial refused",
		"wrong last sequence", "batch with a hole", "delivery lost", "consumer gone", "consumer late",
	} {
		if total[name] == 0 {
			t.Errorf("%s: never happened in %d schedules; what did: %v", name, schedules, total)
		}
	}
}

func underFaults(t *testing.T, seed uint64) map[string]int {
	const messages = 1500
	r := rand.New(rand.NewPCG(seed, 7))
	s := server(t, fakenats.Options{Rand: rand.New(rand.NewPCG(seed, 8))})
	c := connect(t, s, "agent")
	st, err := stream.Create(t.Context(), c, "shop", stream.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := stream.OpenBucket(t.Context(), c, stream.BucketConfig{Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	s.SetFaults(troubled)
	ctx, calm := context.WithCancel(t.Context())
	var trouble sync.WaitGroup
	defer trouble.Wait()
	defer calm()
	trouble.Go(func() { disturb(ctx, s, rand.New(rand.NewPCG(seed, 9))) })
	trouble.Go(func() { count(ctx, t, b) })
	trouble.Go(func() { _ = b.Watch(ctx, ">", func(stream.Entry) {}, nil) })

	w := fence(t, st)
	chain := st.Chain(w, w.Base, stream.ChainOptions{})
	defer chain.Close()
	for n := range uint64(messages) {
		if _, err := chain.Publish(t.Context(), outgoing("shop", n)); err != nil {
			t.Fatal(err)
		}
		if r.IntN(20) == 0 {
			time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
		}
	}
	if err := chain.Wait(t.Context(), chain.Sent()); err != nil {
		t.Fatal(err)
	}
	calm()
	stored := s.Messages(st.Name())[event.FenceMarkers:]
	if len(stored) != messages {
		t.Fatalf("%d messages are stored after the fence, want %d", len(stored), messages)
	}
	for n, m := range stored {
		if got, want := m.Header.Get(event.HeaderID), outgoing("shop", uint64(n)).ID; got != want {
			t.Fatalf("message %d: got %s, want %s", m.Sequence, got, want)
		}
	}
	return s.Counts()
}

func fence(t *testing.T, st *stream.Stream) event.Writer {
	for epoch := uint32(1); ; epoch++ {
		end, err := st.End(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w, err := st.Fence(t.Context(), end.Last, epoch, event.Group{K: 1, N: 1}, fmt.Sprint("instance", epoch))
		if err == nil {
			return w
		}
		if !errors.Is(err, stream.ErrMoved) {
			t.Fatal(err)
		}
	}
}

// disturb does what servers and machines do.
func disturb(ctx context.Context, s *fakenats.Server, r *rand.Rand) {
	name := event.StreamName("shop")
	for sleep(ctx, time.Duration(r.IntN(3000))*time.Millisecond) {
		switch r.IntN(4) {
		case 0:
			s.Client("agent").Cut()
		case 1:
			s.Restart(time.Duration(r.IntN(1000)) * time.Millisecond)
		case 2:
			s.StaleLeader(name, 500*time.Millisecond)
		case 3:
			s.KillConsumers("KV_b")
		}
	}
}

// count keeps a number in a bucket by compare-and-swap: it never goes back.
func count(ctx context.Context, t *testing.T, b *stream.Bucket) {
	value := 0
	for sleep(ctx, 50*time.Millisecond) {
		e, err := b.Get(ctx, "n")
		if err != nil && !errors.Is(err, stream.ErrNotFound) {
			continue
		}
		have := 0
		if len(e.Value) > 0 {
			if _, err := fmt.Sscan(string(e.Value), &have); err != nil {
				t.Error(err)
			}
		}
		if have < value {
			t.Errorf("the number went from %d back to %d", value, have)
		}
		if _, err := b.Swap(ctx, "n", fmt.Append(nil, have+1), e.Revision); err == nil {
			value = have + 1
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// plain is a connection of nats.go's with a stream of one subject.
func plainStream(t *testing.T, s *fakenats.Server, client string) (*nats.Conn, jetstream.Stream) {
	nc, err := nats.Connect("", nats.InProcessServer(s.Client(client)), nats.ReconnectWait(10*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowAtomicPublish: true})
	if err != nil {
		t.Fatal(err)
	}
	return nc, st
}

func publish(t *testing.T, nc *nats.Conn, n int) {
	t.Helper()
	for i := range n {
		if _, err := nc.Request("s.a", fmt.Append(nil, i), time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

func lastOf(s *fakenats.Server) uint64 {
	_, last := s.Ends("S")
	return last
}

// TestFreeze holds back what a client writes, and lets it arrive when the client goes on.
func TestFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, fakenats.Options{Faults: fakenats.Faults{LatencyMin: time.Millisecond, LatencyMax: 2 * time.Millisecond}})
		nc, _ := plainStream(t, s, "zombie")
		publish(t, nc, 1)
		c := s.Client("zombie")
		c.Freeze()
		if err := nc.Publish("s.a", []byte("from the past")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		if got, want := lastOf(s), uint64(1); got != want {
			t.Errorf("while it is frozen: got %d messages, want %d", got, want)
		}
		if _, err := s.Dial("zombie"); !errors.Is(err, fakenats.ErrFrozen) {
			t.Errorf("dial while frozen: %v", err)
		}
		c.Thaw()
		time.Sleep(time.Second)
		if got, want := lastOf(s), uint64(2); got != want {
			t.Errorf("after that: got %d messages, want %d", got, want)
		}
	})
}

// TestCrash lets what a dead process has written arrive now and then, and nothing after that.
func TestCrash(t *testing.T) {
	arrived := map[bool]int{}
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			s := server(t, fakenats.Options{
				Rand:   rand.New(rand.NewPCG(seed, 1)),
				Faults: fakenats.Faults{LatencyMin: time.Millisecond, LatencyMax: 2 * time.Millisecond, LateMost: time.Second},
			})
			nc, _ := plainStream(t, s, "mortal")
			_ = nc.Publish("s.a", nil)
			_ = nc.Flush()
			_ = nc.Publish("s.a", []byte("last words"))
			_ = nc.FlushTimeout(time.Nanosecond)
			s.Client("mortal").Crash()
			if _, err := s.Dial("mortal"); !errors.Is(err, fakenats.ErrDead) {
				t.Errorf("dial of a dead process: %v", err)
			}
			_ = nc.Publish("s.a", []byte("from beyond"))
			time.Sleep(5 * time.Second)
			n := lastOf(s)
			if n == 0 || n > 2 {
				t.Errorf("%d messages are stored, want 1 or 2", n)
			}
			arrived[n == 2]++
		})
	}
	if arrived[true] == 0 || arrived[false] == 0 {
		t.Errorf("last words that arrived and that did not: %v", arrived)
	}
}

// TestPowerLoss loses a tail that was not durable yet, never more, and gives the sequences out again.
func TestPowerLoss(t *testing.T) {
	lost := 0
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			s := server(t, fakenats.Options{Rand: rand.New(rand.NewPCG(seed, 1)), SyncInterval: time.Second})
			nc, _ := plainStream(t, s, "client")
			publish(t, nc, 5)
			time.Sleep(1500 * time.Millisecond)
			publish(t, nc, 5)
			s.PowerLoss(100 * time.Millisecond)
			kept := lastOf(s)
			if kept < 5 || kept > 10 {
				t.Fatalf("%d messages are left of 5 that are durable and 5 that are not", kept)
			}
			if kept < 10 {
				lost++
			}
			time.Sleep(time.Second)
			publish(t, nc, 1)
			if got := lastOf(s); got != kept+1 {
				t.Errorf("the next sequence: got %d, want %d", got, kept+1)
			}
			for i, m := range s.Messages("S") {
				if got, want := m.Sequence, uint64(i+1); got != want {
					t.Errorf("sequence: got %d, want %d", got, want)
				}
			}
		})
	}
	if lost == 0 {
		t.Error("nothing was ever lost")
	}
}

// TestRestore brings an old copy back.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, fakenats.Options{})
		nc, _ := plainStream(t, s, "client")
		publish(t, nc, 3)
		old := s.Snapshot()
		publish(t, nc, 3)
		s.Restore(old, time.Second)
		if got, want := lastOf(s), uint64(3); got != want {
			t.Errorf("last sequence: got %d, want %d", got, want)
		}
		if err := nc.FlushTimeout(10 * time.Millisecond); err == nil {
			t.Error("the connection outlived the server")
		}
		time.Sleep(2 * time.Second)
		publish(t, nc, 1)
	})
}

// TestStoreFails answers reads and stores nothing, in silence, until the next start; that completes a batch that it met.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, fakenats.Options{})
		nc, st := plainStream(t, s, "client")
		publish(t, nc, 1)
		s.FailAfter(2)
		for i := 1; i <= 4; i++ {
			m := &nats.Msg{Subject: "s.b", Header: nats.Header{"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {fmt.Sprint(i)}}}
			if i == 4 {
				m.Header.Set("Nats-Batch-Commit", "1")
			}
			if err := nc.PublishMsg(m); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := nc.Request("s.a", nil, time.Second); !errors.Is(err, nats.ErrTimeout) {
			t.Errorf("publish to a store that has failed: %v", err)
		}
		if info, err := st.Info(t.Context()); err != nil || info.State.LastSeq != 3 {
			t.Errorf("read: %+v, %v", info, err)
		}
		s.Restart(time.Second)
		time.Sleep(2 * time.Second)
		if got, want := lastOf(s), uint64(5); got != want {
			t.Errorf("last sequence: got %d, want %d", got, want)
		}
		publish(t, nc, 1)
	})
}

// TestFull refuses with the server's own errors.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, fakenats.Options{})
		nc, _ := plainStream(t, s, "client")
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		s.Fill(true)
		var api *jetstream.APIError
		if _, err := js.Publish(t.Context(), "s.a", nil); !errors.As(err, &api) || api.ErrorCode != 10023 && api.ErrorCode != 10077 {
			t.Errorf("publish to a full store: %v", err)
		}
		s.Fill(false)
		publish(t, nc, 1)
	})
}

// TestDeliveryLost counts what it does not send: the consumer's sequence jumps, or the next heartbeat tells of more.
func TestDeliveryLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, fakenats.Options{Faults: fakenats.Faults{DeliveryLost: 0.3}})
		nc, st := plainStream(t, s, "client")
		publish(t, nc, 30)
		o, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
		if err != nil {
			t.Fatal(err)
		}
		batch, err := o.Fetch(30, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		came, last := 0, uint64(0)
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			if meta.Sequence.Consumer != meta.Sequence.Stream {
				t.Errorf("consumer sequence %d of message %d", meta.Sequence.Consumer, meta.Sequence.Stream)
			}
			came, last = came+1, meta.Sequence.Consumer
		}
		if lost := s.Count("delivery lost"); lost == 0 || came+lost != 30 || last <= uint64(came) {
			t.Errorf("%d came, %d were lost, the last one was the %dth", came, lost, last)
		}
	})
}

// TestRetention takes messages from the front, also such as a consumer has not seen: it is not told.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, fakenats.Options{})
		nc, st := plainStream(t, s, "client")
		publish(t, nc, 10)
		o, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
		if err != nil {
			t.Fatal(err)
		}
		s.Retire("S", 6)
		m, err := o.Next()
		if err != nil {
			t.Fatal(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := meta.Sequence, (jetstream.SequencePair{Consumer: 1, Stream: 7}); got != want {
			t.Errorf("sequences: got %+v, want %+v", got, want)
		}
	})
}

// BenchmarkFence takes a stream over.
func BenchmarkFence(b *testing.B) {
	s := server(b, fakenats.Options{})
	c := connect(b, s, "agent")
	st, err := stream.Create(b.Context(), c, "shop", stream.Settings{MaxBytes: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	last := uint64(0)
	for b.Loop() {
		w, err := st.Fence(b.Context(), last, uint32(last+1), event.Group{K: 1, N: 1}, fmt.Sprint(last))
		if err != nil {
			b.Fatal(err)
		}
		last = w.Base
	}
}
