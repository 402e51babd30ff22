package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// One embedded server for all tests of this package; each test has a source and functions of its own.
var shared struct {
	server   *stream.Server
	conn     *stream.Conn
	registry *registry.Registry
	names    atomic.Int64
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "host")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	shared.server, err = stream.Start(stream.Embedded{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		panic(err)
	}
	shared.conn, err = shared.server.Connect(ctx, "test")
	if err != nil {
		panic(err)
	}
	shared.registry, err = registry.Open(ctx, shared.conn)
	if err != nil {
		panic(err)
	}
	code := m.Run()
	shared.conn.Close()
	shared.server.Stop()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// feeder writes a source's stream as an agent does, and knows what it wrote.
type feeder struct {
	t      *testing.T
	name   string
	stream *stream.Stream
	writer event.Writer
	chain  *stream.Chain
	schema *event.Schema
	log    uint64 // place in the source's log
	group  event.Position

	mu     sync.Mutex
	events []written
}

type written struct {
	partition int
	version   event.Version
	key       int
	table     string
}

func newFeeder(t *testing.T, s stream.Settings) *feeder {
	t.Helper()
	f := &feeder{t: t, name: fmt.Sprintf("src%d", shared.names.Add(1))}
	var err error
	if f.stream, err = stream.Create(t.Context(), shared.conn, f.name, s); err != nil {
		t.Fatal(err)
	}
	f.schema = f.table("orders")
	f.fence(1, 0)
	return f
}

func (f *feeder) table(name string) *event.Schema {
	s := event.NewSchema(f.name, "postgresql", "shop", event.Table{Schema: "public", Name: name}, []event.Column{
		{Name: "id", Type: "bigint", Key: 1}, {Name: "note", Type: "text", Nullable: true},
	})
	if _, err := shared.registry.Schemas.Put(f.t.Context(), s.KVKey(), s.Marshal()); err != nil {
		f.t.Fatal(err)
	}
	return s
}

// fence starts a writer of that epoch after a sequence.
func (f *feeder) fence(epoch uint32, after uint64) {
	f.t.Helper()
	if f.chain != nil {
		f.chain.Close()
	}
	var err error
	f.writer, err = f.stream.Fence(f.t.Context(), after, epoch, event.Group{From: f.group, To: f.group, K: 1, N: 1}, fmt.Sprintf("i%d", epoch))
	if err != nil {
		f.t.Fatal(err)
	}
	f.chain = f.stream.Chain(f.writer, f.writer.Base, stream.ChainOptions{})
	f.t.Cleanup(f.chain.Close)
}

func (f *feeder) position() event.Position {
	f.log++
	return event.Position{Timeline: 1, Commit: f.log, Change: f.log}
}

func row(key int, note string) []byte { return fmt.Appendf(nil, `{"id":%d,"note":%q}`, key, note) }

func partitionOf(s *event.Schema, key, n int) int {
	k, err := s.AppendKey(nil, event.RowOf(row(key, "")))
	if err != nil {
		panic(err)
	}
	return event.Partition(k, n)
}

func (f *feeder) publish(subject string, g event.Group, id string, forFunction string, data []byte) uint64 {
	f.t.Helper()
	seq, err := f.chain.Publish(f.t.Context(), &stream.Outgoing{Subject: subject, ID: id, Group: g, For: forFunction, Data: data})
	if err != nil {
		f.t.Fatal(err)
	}
	return seq
}

// put publishes an insert of each key.
func (f *feeder) put(s *event.Schema, keys ...int) {
	f.t.Helper()
	f.putFor("", s, keys...)
}

func (f *feeder) putFor(function string, s *event.Schema, keys ...int) {
	f.t.Helper()
	for _, k := range keys {
		p := partitionOf(s, k, f.stream.Partitions())
		at := f.position()
		line := event.AppendLine(nil, &event.Change{Op: event.Create, Schema: s, After: row(k, fmt.Sprint("n", f.log)), Position: at, CommitMS: 1, TxID: f.log})
		seq := f.publish(event.Subject(f.name, s.Table, p), event.Group{From: f.group, To: at, K: 1, N: 1}, event.MessageID(f.name, at), function, line)
		f.group = at
		f.mu.Lock()
		f.events = append(f.events, written{p, f.writer.Version(seq, 1), k, s.Table.Name})
		f.mu.Unlock()
	}
	f.flush()
}

func (f *feeder) flush() {
	f.t.Helper()
	if err := f.chain.Flush(); err != nil {
		f.t.Fatal(err)
	}
	if err := f.chain.Wait(f.t.Context(), f.chain.Sent()); err != nil {
		f.t.Fatal(err)
	}
}

// truncate publishes a t in the partitions given, all of one group; none means all.
func (f *feeder) truncate(s *event.Schema) []event.Version {
	f.t.Helper()
	at := f.position()
	n := f.stream.Partitions()
	var versions []event.Version
	for p := range n {
		piece := at
		piece.Part = uint32(p)
		line := event.AppendLine(nil, &event.Change{Op: event.Truncate, Schema: s, Position: piece, CommitMS: 1, TxID: f.log})
		seq := f.publish(event.Subject(f.name, s.Table, p), event.Group{From: f.group, To: at, K: p + 1, N: n}, event.MessageID(f.name, piece), "", line)
		versions = append(versions, f.writer.Version(seq, 1))
	}
	f.group = at
	f.flush()
	return versions
}

func keys(from, n int) []int {
	k := make([]int, n)
	for i := range k {
		k[i] = from + i
	}
	return k
}

// deploy writes a function's record.
func deploy(t *testing.T, name string, change func(*registry.FunctionRecord)) {
	t.Helper()
	ctx := t.Context()
	var r registry.FunctionRecord
	e, err := shared.registry.Functions.Get(ctx, name)
	if err == nil {
		if err := json.Unmarshal(e.Value, &r); err != nil {
			t.Fatal(err)
		}
	} else if !errors.Is(err, stream.ErrNotFound) {
		t.Fatal(err)
	}
	change(&r)
	b, _ := json.Marshal(r)
	if _, err := shared.registry.Functions.Swap(ctx, name, b, e.Revision); err != nil {
		t.Fatal(err)
	}
}

func spec(name, from, more string) string {
	return fmt.Sprintf("kind: function\nname: %s\nfrom: %s\nto: {elasticsearch: {url: \"http://127.0.0.1:1\", index: \"{schema}_{table}\"}}\n%s", name, from, more)
}

func newFunction(t *testing.T, f *feeder, from, more string) string {
	t.Helper()
	name := fmt.Sprintf("fn%d", shared.names.Add(1))
	deploy(t, name, func(r *registry.FunctionRecord) {
		*r = registry.FunctionRecord{Spec: spec(name, strings.ReplaceAll(from, "$", f.name), more), Version: 1, Generation: 1, State: registry.Running}
	})
	return name
}

func record(t *testing.T, name string) registry.FunctionRecord {
	t.Helper()
	e, err := shared.registry.Functions.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var r registry.FunctionRecord
	if err := json.Unmarshal(e.Value, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func owner(t *testing.T, name string, generation int64, partition int) registry.Owner {
	t.Helper()
	var o registry.Owner
	e, err := shared.registry.Owners.Get(t.Context(), fmt.Sprintf("%s.%d.%d", name, generation, partition))
	if errors.Is(err, stream.ErrNotFound) {
		return o
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(e.Value, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// target is a fake handler that checks order and continuity.
type target struct {
	t        *testing.T
	mu       sync.Mutex
	events   []written
	spans    [][]sink.Span // of each batch
	high     map[int]event.Version
	back     int // how often an event came again
	fail     func(b sink.Batch) error
	changed  chan struct{}
	handling atomic.Int32
}

func newTarget(t *testing.T) *target {
	return &target{t: t, high: map[int]event.Version{}, changed: make(chan struct{}, 1)}
}

func (h *target) Handle(ctx context.Context, b sink.Batch) error {
	h.handling.Add(1)
	defer h.handling.Add(-1)
	h.mu.Lock()
	fail := h.fail
	h.mu.Unlock()
	if fail != nil {
		if err := fail(b); err != nil {
			return err
		}
	}
	h.store(b)
	return nil
}

func (h *target) store(b sink.Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	spans := make([]sink.Span, len(b.Spans))
	for i, s := range b.Spans {
		spans[i] = sink.Span{Partition: s.Partition, After: s.After, To: s.To, Events: make([]event.Event, len(s.Events))}
		for j := range s.Events {
			h.one(s.Partition, &s.Events[j])
		}
	}
	h.spans = append(h.spans, spans)
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *target) one(partition int, e *event.Event) {
	if e.Schema == nil {
		h.t.Errorf("event at %d without a schema", e.Sequence)
	}
	if e.Version <= h.high[partition] {
		h.back++
	}
	h.high[partition] = max(h.high[partition], e.Version)
	v, _ := e.Key().Column("id")
	id, _ := v.Int64()
	h.events = append(h.events, written{partition, e.Version, int(id), e.Table.Name})
}

// got are the events in the order of their partition's versions; each must have come, first times in order.
func (h *target) got() []written {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}

// patience bounds what must happen sooner or later, on a machine that is busy with something else too.
var patience = flag.Duration("patience", 90*time.Second, "how long a test waits for what must happen")

// waitFor polls until the condition holds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(*patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// complete waits until all of want came, and checks that each partition's first times are in order.
func (h *target) complete(t *testing.T, want []written) {
	t.Helper()
	deadline := time.Now().Add(*patience)
	for {
		missing, extra := h.compare(want)
		if missing == 0 && extra == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d events missing, %d that nobody wrote, of %d", missing, extra, len(want))
		}
		time.Sleep(2 * time.Millisecond)
	}
	first := map[int]event.Version{}
	seen := map[written]bool{}
	for _, w := range h.got() {
		if seen[w] {
			continue
		}
		seen[w] = true
		if w.version <= first[w.partition] {
			t.Errorf("partition %d: version %d after %d", w.partition, w.version, first[w.partition])
		}
		first[w.partition] = w.version
	}
}

func (h *target) compare(want []written) (missing, extra int) {
	have := map[written]bool{}
	for _, w := range h.got() {
		have[w] = true
	}
	for _, w := range want {
		if !have[w] {
			missing++
		}
		delete(have, w)
	}
	return missing, len(have)
}

// start runs a host until the test ends or stop is called.
func start(t *testing.T, name string, handler func() sink.Handler, change func(*host.Config)) (stop func()) {
	t.Helper()
	out := io.Discard
	if testing.Verbose() {
		out = t.Output()
	}
	c := host.Config{
		Conn: shared.conn, Registry: shared.registry, Functions: []string{name},
		NewHandler: func(context.Context, *registry.Function) (sink.Handler, error) { return handler(), nil },
		Lease:      2 * time.Second, FloorEvery: 50 * time.Millisecond, IdleEvery: 200 * time.Millisecond, SchemaWait: 300 * time.Millisecond,
		Heartbeat: 200 * time.Millisecond, RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(out, nil)),
	}
	if change != nil {
		change(&c)
	}
	h, err := host.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			case <-time.After(*patience):
				t.Error("the host does not stop")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func only(h sink.Handler) func() sink.Handler { return func() sink.Handler { return h } }
