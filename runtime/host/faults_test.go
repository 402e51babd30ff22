package host_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// A consumer that is deleted in mid-flow is made again, after the last message read.
func TestConsumerIsDeleted(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 10}")
	h := newTarget(t)
	start(t, name, only(h), nil)
	js, err := jetstream.New(shared.conn.NC)
	if err != nil {
		t.Fatal(err)
	}
	deleted := 0
	for i := range 30 {
		f.put(f.schema, keys(i*20, 20)...)
		for p := range 2 {
			o := owner(t, name, 1, p)
			if o.Instance == "" || i%3 != 0 {
				continue
			}
			if js.DeleteConsumer(t.Context(), f.stream.Name(), fmt.Sprintf("%s-g1-p%d-%s", name, p, o.Instance)) == nil {
				deleted++
			}
		}
	}
	h.complete(t, f.events)
	if deleted == 0 {
		t.Error("no consumer was deleted")
	}
}

// The connection is cut again and again while messages are on their way.
func TestConnectionIsCut(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 50}")
	p := newProxy(t, strings.TrimPrefix(shared.server.ClientURL(), "nats://"))
	conn, err := stream.Connect(t.Context(), stream.Config{URL: "nats://" + p.addr(), Name: "cut"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := registry.Open(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	h := newTarget(t)
	stop := start(t, name, only(h), func(c *host.Config) { c.Conn, c.Registry = conn, r })
	for i := range 40 {
		f.put(f.schema, keys(i*100, 100)...)
		if i%8 == 7 {
			p.cut()
		}
	}
	h.complete(t, f.events)
	stop()
}

// proxy passes connections on until they are cut.
type proxy struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	conns    []net.Conn
	all      sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to}
	p.all.Go(p.accept)
	t.Cleanup(func() { _ = l.Close(); p.cut(); p.all.Wait() })
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		a, err := p.listener.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = a.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, a, b)
		p.mu.Unlock()
		p.all.Go(func() { _, _ = io.Copy(a, b); _ = a.Close() })
		p.all.Go(func() { _, _ = io.Copy(b, a); _ = b.Close() })
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// faulty stands between a host and the real world.
type faulty struct {
	host.World
	lose   func(host.Packet) bool // a delivery that the server counts and that never comes
	kv     func(bucket, op string) error
	fetch  func(m *event.Message) error // of a payload that is kept aside
	paused *gate
}

func (w *faulty) Bucket(name string) host.Bucket {
	return &faultyBucket{w.World.Bucket(name), name, w}
}

func (w *faulty) Stream(ctx context.Context, source string) (host.Stream, error) {
	s, err := w.World.Stream(ctx, source)
	return &faultyStream{s, w}, err
}

type faultyStream struct {
	host.Stream
	w *faulty
}

func (s *faultyStream) Consume(ctx context.Context, tap host.Tap) (host.Feed, error) {
	receive := tap.Receive
	tap.Receive = func(p host.Packet) {
		if s.w.lose == nil || !s.w.lose(p) {
			receive(p)
		}
	}
	return s.Stream.Consume(ctx, tap)
}

func (s *faultyStream) Resolve(ctx context.Context, m *event.Message) error {
	if s.w.fetch != nil && m.Large != "" {
		return s.w.fetch(m)
	}
	return s.Stream.Resolve(ctx, m)
}

// A payload that does not come stalls its function, visibly; one that is lost halts it.
func TestPayloadIsLost(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 1})
	at := f.position()
	line := event.AppendLine(nil, &event.Change{Op: event.Create, Schema: f.schema, After: row(1, strings.Repeat("x", 9<<20)), Position: at, CommitMS: 1, TxID: f.log})
	f.publish(event.Subject(f.name, f.schema.Table, 0), event.Group{From: f.group, To: at, K: 1, N: 1}, event.MessageID(f.name, at), "", line)
	f.flush()
	name := newFunction(t, f, "$.public.orders", "")
	var stalled, lost atomic.Bool
	w := &faulty{World: realWorld(), fetch: func(*event.Message) error {
		if lost.Load() {
			return fmt.Errorf("message: %w", stream.ErrPayloadLost)
		}
		return errors.New("the store is away")
	}}
	start(t, name, only(newTarget(t)), func(c *host.Config) {
		c.World, c.PayloadWait = w, 50*time.Millisecond
		c.Observer.Stalled = func(_ string, s bool) { stalled.Store(s) }
	})
	waitFor(t, "stalled", stalled.Load)
	if r := record(t, name); r.State != registry.Running {
		t.Errorf("%s: %s", r.State, r.Reason)
	}
	lost.Store(true)
	waitFor(t, "halted", func() bool { return record(t, name).State == registry.Halted })
	for _, want := range []string{"the object store does not hold it", "nats stream rmm " + event.StreamName(f.name), "--resnapshot", "runnel resume " + name} {
		if r := record(t, name).Reason; !strings.Contains(r, want) {
			t.Errorf("the reason %q lacks %q", r, want)
		}
	}
}

type faultyBucket struct {
	host.Bucket
	name string
	w    *faulty
}

func (b *faultyBucket) before(ctx context.Context, op string) error {
	if err := b.w.paused.wait(ctx); err != nil {
		return err
	}
	if b.w.kv != nil {
		return b.w.kv(b.name, op)
	}
	return nil
}

func (b *faultyBucket) Get(ctx context.Context, key string) (stream.Entry, error) {
	if err := b.before(ctx, "get"); err != nil {
		return stream.Entry{}, err
	}
	return b.Bucket.Get(ctx, key)
}

func (b *faultyBucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := b.before(ctx, "put"); err != nil {
		return 0, err
	}
	return b.Bucket.Put(ctx, key, value)
}

// Swap may lose the request or its answer.
func (b *faultyBucket) Swap(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if err := b.before(ctx, "swap"); err != nil {
		return 0, err
	}
	r, err := b.Bucket.Swap(ctx, key, value, revision)
	if b.w.kv != nil && err == nil {
		err = b.w.kv(b.name, "swapped")
	}
	return r, err
}

// gate holds callers while it is shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{}
}

func (g *gate) wait(ctx context.Context) error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	c := g.open
	g.mu.Unlock()
	if c == nil {
		return nil
	}
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) shut() { g.mu.Lock(); g.open = make(chan struct{}); g.mu.Unlock() }
func (g *gate) lift() { g.mu.Lock(); close(g.open); g.open = nil; g.mu.Unlock() }

func realWorld() host.World { return host.JetStream(shared.conn, shared.registry) }

// Deliveries are lost, the last ones of a run too: a jump or a heartbeat shows it, and nothing is missing in the end.
func TestDeliveriesAreLost(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 20}")
	h := newTarget(t)
	var lost atomic.Int64
	w := &faulty{World: realWorld(), lose: func(p host.Packet) bool {
		if p.Status == host.Sent && rand.N(40) == 0 || p.Status == host.Ended && rand.N(3) == 0 {
			lost.Add(1)
			return true
		}
		return false
	}}
	start(t, name, only(h), func(c *host.Config) { c.World, c.Heartbeat = w, 100*time.Millisecond })
	for i := range 20 {
		f.put(f.schema, keys(i*20, 20)...)
	}
	h.complete(t, f.events)
	if lost.Load() == 0 {
		t.Error("nothing was lost")
	}
}

// Requests to KV and their answers are lost.
func TestKVAnswersAreLost(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 5}")
	h := newTarget(t)
	w := &faulty{World: realWorld(), kv: func(bucket, op string) error {
		if bucket == registry.BucketOwners && rand.N(3) == 0 {
			return errors.New("no answer")
		}
		return nil
	}}
	stop := start(t, name, only(h), func(c *host.Config) { c.World, c.FloorEvery = w, 2*time.Millisecond })
	for i := range 30 {
		f.put(f.schema, keys(i*10, 10)...)
	}
	h.complete(t, f.events)
	stop()
	start(t, name, only(h), nil)
	f.put(f.schema, 1, 2, 3)
	h.complete(t, f.events)
}

// Two workers want the same partitions; one sleeps beyond its lease and comes back. Whoever writes owns what it writes.
func TestASleeperDoesNotWriteAfterItsLease(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 5}")
	h := newTarget(t)
	sleeper := &faulty{World: realWorld(), paused: &gate{}}
	sleeping := &owned{target: h, t: t, name: name, writing: &gate{}}
	start(t, name, only(sleeping), func(c *host.Config) { c.World, c.Lease = sleeper, time.Second })
	f.put(f.schema, keys(1, 40)...)
	h.complete(t, f.events)
	first := owner(t, name, 1, 0).Instance
	if first == "" {
		t.Fatal("nobody owns partition 0")
	}
	other := &owned{target: h, t: t, name: name}
	start(t, name, only(other), func(c *host.Config) { c.Lease = time.Second })
	f.put(f.schema, keys(1, 40)...)
	h.complete(t, f.events)
	if got := owner(t, name, 1, 0).Instance; got != first {
		t.Fatalf("%s took a partition whose owner %s lives", got, first)
	}

	sleeper.paused.shut()
	for i := range 10 {
		f.put(f.schema, keys(i*10, 10)...)
	}
	waitFor(t, "taken over", func() bool {
		for p := range 4 {
			if owner(t, name, 1, p).Instance == first {
				return false
			}
		}
		return true
	})
	h.complete(t, f.events)
	sleeper.paused.lift()
	for i := range 10 {
		f.put(f.schema, keys(i*10, 10)...)
	}
	h.complete(t, f.events)
	if other.batches.Load() == 0 {
		t.Error("the second worker wrote nothing")
	}
}

// owned checks that whoever writes is the owner: the record names one instance while one handler writes.
type owned struct {
	*target
	t        *testing.T
	name     string
	writing  *gate
	batches  atomic.Int64
	mu       sync.Mutex
	instance string
}

func (o *owned) Handle(ctx context.Context, b sink.Batch) error {
	for _, s := range b.Spans {
		now := owner(o.t, o.name, b.Generation, s.Partition).Instance
		o.mu.Lock()
		if o.instance == "" {
			o.instance = now
		}
		if now != o.instance {
			o.t.Errorf("worker %s writes partition %d, which %s owns", o.instance, s.Partition, now)
		}
		o.mu.Unlock()
	}
	o.batches.Add(1)
	return o.target.Handle(ctx, b)
}

// The partitions of a worker that is killed are taken over after its lease, and its consumers go.
func TestTakeover(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "")
	for p := range 2 {
		if _, err := shared.registry.Owners.Put(t.Context(), fmt.Sprintf("%s.1.%d", name, p), []byte(`{"instance":"dead","turn":3,"floor":{"sequence":0,"version":0}}`)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := shared.registry.Workers.Put(t.Context(), "dead", fmt.Appendf(nil, `{"host":"elsewhere","pid":1,"functions":[%q]}`, name)); err != nil {
		t.Fatal(err)
	}
	left := leaveConsumer(t, f, name, 1, "dead")
	f.put(f.schema, keys(1, 10)...)
	h := newTarget(t)
	began := time.Now()
	start(t, name, only(h), func(c *host.Config) { c.Lease = time.Second })
	h.complete(t, f.events)
	if d := time.Since(began); d < time.Second {
		t.Errorf("taken after %v, within the lease", d)
	}
	if o := owner(t, name, 1, 0); o.Turn != 4 {
		t.Errorf("turn %d", o.Turn)
	}
	left()
}

// leaveConsumer makes a consumer of a partition as a worker leaves it that is killed; gone waits until it is deleted.
func leaveConsumer(t *testing.T, f *feeder, function string, partition int, worker string) (gone func()) {
	t.Helper()
	js, err := jetstream.New(shared.conn.NC)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%s-g1-p%d-%s", function, partition, worker)
	if _, err := js.CreateConsumer(t.Context(), f.stream.Name(), jetstream.ConsumerConfig{Name: name, AckPolicy: jetstream.AckAllPolicy, AckWait: 24 * time.Hour, MemoryStorage: true}); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		waitFor(t, "the consumer of a worker that is gone is deleted", func() bool {
			_, err := js.Consumer(t.Context(), f.stream.Name(), name)
			return errors.Is(err, jetstream.ErrConsumerNotFound)
		})
	}
}

// Workers freeze one after the other and wake up late; the target, which keeps checkpoints, has every row exactly once.
func TestFrozenWorkersWakeUp(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 4})
	name := newFunction(t, f, "$.public.orders", "batch: {rows: 7}")
	p := newTransactional(t)
	var gates []*gate
	rows := 0
	put := func(n int) {
		f.put(f.schema, keys(rows, n)...)
		rows += n
	}
	for range 3 {
		w := &faulty{World: realWorld(), paused: &gate{}}
		gates = append(gates, w.paused)
		start(t, name, only(p), func(c *host.Config) { c.World, c.Lease = w, time.Second })
		put(100 + rand.N(100))
		p.want(t, once(keys(0, rows)), 0)
		put(100)
		w.paused.shut()
		put(100)
	}
	for _, g := range gates {
		g.lift()
	}
	put(200)
	p.want(t, once(keys(0, rows)), 0)
}
