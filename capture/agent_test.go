package capture_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

var (
	stride  = flag.Int("stride", 29, "let the agent die at each n-th call only")
	seeds   = flag.Uint64("seeds", 2, "random schedules of deaths in a load")
	verbose = flag.Bool("agentlog", false, "print the agents' logs")
)

// One embedded server for the package.
var (
	conn                         *stream.Conn
	captures, snapshots, schemas *stream.Bucket
	serial                       atomic.Int64
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "capture")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		server, err := stream.Start(stream.Embedded{Dir: dir})
		if err != nil {
			panic(err)
		}
		ctx := context.Background()
		if conn, err = server.Connect(ctx, "test"); err != nil {
			panic(err)
		}
		for name, b := range map[string]**stream.Bucket{registry.BucketCaptures: &captures, registry.BucketSnapshots: &snapshots, registry.BucketSchemas: &schemas} {
			if *b, err = stream.OpenBucket(ctx, conn, stream.BucketConfig{Name: name}); err != nil {
				panic(err)
			}
		}
		code := m.Run()
		conn.Close()
		server.Stop()
		if err := goleak.Find(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		return code
	}())
}

const partitions = 4

// world is a source with a stream of its own.
type world struct {
	t  *testing.T
	db *database
	st *stream.Stream
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	name := fmt.Sprintf("s%d", serial.Add(1))
	st, err := stream.Create(t.Context(), conn, name, stream.Settings{Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, db: newDatabase(name, seed), st: st}
}

func (w *world) config() capture.Config {
	c := capture.Config{
		Source: w.db.source, Horizon: horizon, Settle: time.Millisecond, ChunkRows: 5, Interval: 4 * time.Millisecond, Idle: 10 * time.Millisecond,
		Patience: 5 * time.Second, Drain: 5 * time.Second,
	}
	if *verbose {
		c.Log = slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return c
}

// process is a running agent.
type process struct {
	m    *mortal
	stop context.CancelFunc
	done chan error
}

// start runs an agent that dies at a call, if at is not 0.
func (w *world) start(at int, after bool, change ...func(*capture.Config)) *process {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	p := &process{m: &mortal{at: at, after: after}, stop: stop, done: make(chan error, 1)}
	p.m.die = stop
	cfg := w.config()
	for _, f := range change {
		f(&cfg)
	}
	a, err := capture.New(cfg, mortalSource{w.db, p.m}, mortalStream{w.st, p.m},
		mortalBucket{captures, p.m}, mortalBucket{snapshots, p.m}, mortalBucket{schemas, p.m})
	if err != nil {
		w.t.Fatal(err)
	}
	go func() { p.done <- a.Run(ctx) }()
	return p
}

// end stops an agent and wants it to have drained.
func (w *world) end(p *process) {
	w.t.Helper()
	p.stop()
	if err := w.result(p); err != nil {
		w.t.Fatalf("Run: %v", err)
	}
}

func (w *world) result(p *process) error {
	w.t.Helper()
	select {
	case err := <-p.done:
		return err
	case <-time.After(*patience):
		w.t.Fatal("the agent does not stop")
		return nil
	}
}

// patience bounds what must happen sooner or later, on a machine that is busy with something else too.
var patience = flag.Duration("patience", 90*time.Second, "how long a test waits for what must happen")

// until polls.
func (w *world) until(p *process, what string, f func() bool) {
	w.t.Helper()
	for end := time.Now().Add(*patience); !f(); {
		select {
		case err := <-p.done:
			w.t.Fatalf("waiting for %s: the agent ended: %v", what, err)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(end) {
			w.t.Fatalf("waited too long for %s; record %+v, log ends at %s, confirmed %s", what, w.record(), w.db.at(w.db.lsn), w.db.at(w.db.confirmed))
		}
	}
}

func (w *world) record() (r registry.Capture) {
	e, err := captures.Get(w.t.Context(), w.db.source)
	if errors.Is(err, stream.ErrNotFound) {
		return r
	}
	if err == nil {
		err = json.Unmarshal(e.Value, &r)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// settled: everything is loaded, and the slot stands at the end of the log.
func (w *world) settled() bool {
	w.db.mu.Lock()
	at, end := w.db.confirmed, w.db.lsn
	w.db.mu.Unlock()
	return at == end && w.record().Load.Done
}

// schema finds a schema as a worker does.
func (w *world) schema(t event.Table, fingerprint string) (*event.Schema, error) {
	for _, s := range w.db.schemas {
		if s.Table == t && s.Fingerprint() == fingerprint {
			e, err := schemas.Get(w.t.Context(), s.KVKey())
			if err != nil {
				return nil, err
			}
			return event.ParseSchema(e.Value)
		}
	}
	return nil, fmt.Errorf("no schema %s of %s", fingerprint, t)
}

// verify checks every promise about the stream: order, no gap, no duplicate, and the state that it leads to.
func (w *world) verify(first uint64) {
	w.t.Helper()
	var all, stored []*event.Message // without and with markers
	err := check.From(w.t.Context(), w.st, w.db.source)(func(m *event.Message) error {
		if stored = append(stored, m); !m.Marker() {
			all = append(all, m)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := check.Order(all); err != nil {
		w.t.Error(err)
	}
	if err := check.Fenced(check.Of(stored), w.db.source); err != nil {
		w.t.Error(err)
	}
	if err := check.Complete(all, w.db.Committed(first, partitions)); err != nil {
		w.t.Error(err)
	}
	w.equal(all)
	ids := map[string]uint64{}
	for _, m := range all {
		if old, twice := ids[m.ID]; twice {
			w.t.Errorf("message %d has the ID %s of message %d", m.Sequence, m.ID, old)
		}
		ids[m.ID] = m.Sequence
	}
}

func (w *world) equal(all []*event.Message) {
	w.t.Helper()
	state, err := check.Fold(all, w.schema)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, table := range w.db.tables {
		var got []string
		for _, r := range state[table] {
			got = append(got, r)
		}
		slices.Sort(got)
		if diff := cmp.Diff(w.db.Rows(table), got); diff != "" {
			w.t.Errorf("%s, -source +stream:\n%s", table, diff)
		}
	}
}

// fill makes rows that no log tells of to an agent that comes later.
func (w *world) fill(n int) {
	for i := range n {
		w.db.Commit(op{'c', users, i}, op{'c', orders, i}, op{'c', notes, 0})
	}
}

// traffic runs a fixed script.
func (w *world) traffic(pause time.Duration) {
	for i := range 24 {
		switch k := i % 12; k {
		case 4:
			w.db.Commit(op{'k', users, i % 9}, op{'u', orders, i % 7})
		case 7:
			w.db.Commit(op{'u', users, 3}, op{'t', orders, 0}, op{'c', orders, i})
		default:
			w.db.Commit(op{'u', users, i % 9}, op{'d', users, (i + 4) % 9}, op{'c', orders, i + 20}, op{'c', notes, 0})
		}
		if pause > 0 {
			time.Sleep(pause) // the source's own pace; nothing waits for it to have passed
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fill(12)
	w.db.late = 3 * time.Millisecond
	p := w.start(0, false)
	w.traffic(time.Millisecond)
	w.until(p, "settled", w.settled)
	w.end(p)
	w.verify(w.first())
	t.Log("calls:", p.m.calls)
}

// TestDeath lets the agent die at its n-th call to the outside, before or after its effect, and lets another one go on.
func TestDeath(t *testing.T) {
	t.Parallel()
	for _, keyless := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			t.Run(strings.Join([]string{fmt.Sprint("Keyless=", keyless), fmt.Sprint("After=", after)}, ","), func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n += *stride {
					if !death(t, n, keyless, after) {
						t.Log("calls:", n)
						return
					}
				}
			})
		}
	}
}

// death says whether the agent lived long enough to die at the n-th call.
func death(t *testing.T, n int, keyless, after bool, change ...func(*capture.Config)) bool {
	t.Helper()
	w := newWorld(t, uint64(n))
	if keyless {
		w.db.tables = append(w.db.tables, notes)
	}
	w.fill(8)
	w.db.late = 3 * time.Millisecond
	p := w.start(n, after, change...)
	traffic := make(chan struct{})
	go func() {
		defer close(traffic)
		w.traffic(time.Millisecond)
	}()
	died := false
	for !died {
		select {
		case <-p.done:
			died = true
		case <-time.After(2 * time.Millisecond):
		}
		select {
		case <-traffic:
			if !died && w.settled() {
				p.stop()
				err := w.result(p)
				if died = p.m.gone(); !died && err != nil {
					t.Fatal(err)
				}
				if !died {
					return false
				}
			}
		default:
		}
	}
	w.db.Kill()
	p = w.start(0, false, change...)
	<-traffic
	w.until(p, fmt.Sprintf("settled after a death at call %d", n), w.settled)
	w.end(p)
	w.verify(w.first())
	if t.Failed() {
		t.Fatalf("after a death at call %d", n)
	}
	return true
}

// first is where the slot began.
func (w *world) first() uint64 {
	p, err := event.ParsePosition(w.record().First)
	if err != nil {
		w.t.Fatal(err)
	}
	return p.Commit
}
