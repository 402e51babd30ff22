package functiontest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Flow is a pipeline in a test: a source whose changes the test writes, a real stream on a JetStream inside the process, and a worker
// that hosts one function. Its methods fail the test where something is wrong; they are for one goroutine.
//
//	flow := functiontest.Pipeline(t, newCache, "cache.yaml")
//	flow.Insert("orders", Order{ID: 1, Status: "new"}, Order{ID: 2, Status: "new"})
//	flow.Delete("orders", 2)
//	flow.Wait()
type Flow struct {
	t        testing.TB
	ctx      context.Context
	server   *stream.Server
	conn     *stream.Conn
	registry *registry.Registry
	stream   *stream.Stream
	chain    *stream.Chain
	spec     *registry.Function
	maker    functions.Maker
	worker   *hosting
	script

	mu      sync.Mutex
	floors  map[int]uint64 // by lane: read and durable up to this sequence
	moved   chan struct{}  // a floor moved, or the function halted
	halted  string         // why
	failed  error          // what the last try said
	letters []DeadLetter
	faults  []Fault
	ending  bool // no worker starts any more
	workers sync.WaitGroup
}

// DeadLetter is an event that the handler refused.
type DeadLetter struct {
	Table  string
	Event  string // as it stands in the stream: a line of JSON
	Reason string
}

// patience is how long Wait waits for what takes milliseconds.
const patience = 30 * time.Second

// Pipeline starts a pipeline; it ends with the test. spec is the function's specification: a YAML file, or its text. Its handler is
// the one that handler makes, whatever name it gives it; filters, computed columns and masks, batches and rates are as it says. "" is a
// function that gets all changes of all tables of the source shop.
//
// It takes less than a tenth of a second, and needs no server, no database and no container.
func Pipeline(t testing.TB, handler functions.Maker, spec string) *Flow {
	t.Helper()
	f := &Flow{t: t, ctx: t.Context(), maker: handler, floors: map[int]uint64{}, moved: make(chan struct{}, 1)}
	var text string
	f.spec, text = specification(t, spec)
	f.script = script{source: f.spec.Source(), tables: map[event.Table]*scripted{}, known: map[string]bool{}, last: map[int]uint64{}}
	t.Cleanup(f.stop)
	f.check(f.open(text))
	return f
}

// specification reads the function's.
func specification(t testing.TB, spec string) (*registry.Function, string) {
	t.Helper()
	switch {
	case spec == "":
		spec = "kind: function\nname: functiontest\nfrom: shop.*.*\nhandler: functiontest\n"
	case !strings.Contains(spec, "\n"):
		b, err := os.ReadFile(spec)
		if err != nil {
			t.Fatalf("read the function's specification: %v", err)
		}
		spec = string(b)
	}
	name := t.TempDir() + "/function.yaml"
	if err := os.WriteFile(name, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := registry.ReadFiles(name)
	if err != nil {
		t.Fatalf("the function's specification: %s", strings.ReplaceAll(err.Error(), name+":", "line "))
	}
	if len(files.Functions) != 1 {
		t.Fatalf("the specification describes %d functions; a pipeline is for one", len(files.Functions))
	}
	f := files.Functions[0]
	return &f, files.Text["function/"+f.Name]
}

func (f *Flow) open(text string) (err error) {
	if f.server, err = stream.Start(stream.Embedded{Dir: f.t.TempDir()}); err != nil {
		return err
	}
	if f.conn, err = f.server.Connect(f.ctx, "functiontest"); err != nil {
		return err
	}
	if f.registry, err = registry.Open(f.ctx, f.conn); err != nil {
		return err
	}
	if f.stream, err = stream.Create(f.ctx, f.conn, f.source, stream.Settings{}); err != nil {
		return err
	}
	record, err := json.Marshal(registry.FunctionRecord{Spec: text, Version: 1, Generation: 1, State: registry.Running, Updated: time.Now().UTC()})
	if err != nil {
		return err
	}
	if _, err = f.registry.Functions.Swap(f.ctx, f.spec.Name, record, 0); err != nil {
		return err
	}
	if err := f.start(); err != nil { // it gets ready while the fence is written
		return err
	}
	writer, err := f.stream.Fence(f.ctx, 0, 1, event.Group{K: 1, N: 1}, "functiontest")
	if err != nil {
		return err
	}
	f.chain = f.stream.Chain(writer, writer.Base, stream.ChainOptions{})
	return nil
}

func (f *Flow) stop() {
	f.mu.Lock()
	f.ending = true
	if f.worker != nil {
		f.worker.cancel()
	}
	f.mu.Unlock()
	f.workers.Wait()
	if f.chain != nil {
		f.chain.Close()
	}
	if f.conn != nil {
		f.conn.Close()
	}
	if f.server != nil {
		f.server.Stop()
	}
}

func (f *Flow) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatalf("functiontest: %v", err)
	}
}

// Wait commits what is open, and waits until the function has handled everything: it is durable in the target, or a dead letter.
func (f *Flow) Wait() {
	f.t.Helper()
	f.Commit()
	f.await("not everything was handled", func() bool { return !f.behind() })
}

// behind says whether a lane has not yet come to the last change that is for the function.
func (f *Flow) behind() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, sequence := range f.last {
		if f.floors[p] < sequence {
			return true
		}
	}
	return false
}

// lane is what reads a partition.
func (f *Flow) lane(partition int) int { return min(partition, f.spec.Lanes(f.stream.Partitions())-1) }

// Replay gives the function everything again from the beginning, in a new generation, once it has handled all or halted, and waits until it has
// handled it again.
func (f *Flow) Replay() {
	f.t.Helper()
	f.mu.Lock()
	halted := f.halted
	f.mu.Unlock()
	if halted == "" {
		f.Wait()
	}
	record, err := f.registry.OrderReplay(f.ctx, f.spec.Name, registry.Replay{})
	f.check(err)
	f.mu.Lock()
	f.halted = ""
	f.mu.Unlock()
	f.await("the replay is not over", func() bool {
		for lane, sequence := range f.last {
			var o registry.Owner
			e, err := f.registry.Owners.Get(f.ctx, fmt.Sprintf("%s.%d.%d", f.spec.Name, record.Generation, lane))
			if err != nil || json.Unmarshal(e.Value, &o) != nil || o.Floor.Sequence < sequence {
				return false
			}
		}
		return true
	})
}

// await waits for a condition, while the function runs.
func (f *Flow) await(otherwise string, ok func() bool) {
	f.t.Helper()
	late := time.After(patience)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		f.mu.Lock()
		halted, failed := f.halted, f.failed
		f.mu.Unlock()
		if halted != "" {
			f.t.Fatalf("the function halts: %s", halted)
		}
		select {
		case <-f.moved:
		case <-look.C:
		case <-f.ctx.Done():
			f.t.Fatal("the test ends while changes are on their way")
		case <-late:
			f.t.Fatalf("after %s %s; the last try said: %v", patience, otherwise, failed)
		}
	}
}

// Halted waits until the function halts, and says why.
func (f *Flow) Halted() string {
	f.t.Helper()
	f.Commit()
	late := time.After(patience)
	for {
		f.mu.Lock()
		halted := f.halted
		f.mu.Unlock()
		if halted != "" {
			return halted
		}
		select {
		case <-f.moved:
		case <-late:
			f.t.Fatalf("after %s the function has not halted", patience)
		}
	}
}

// DeadLetters are the events that the handler has refused so far.
func (f *Flow) DeadLetters() []DeadLetter {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]DeadLetter(nil), f.letters...)
}

func (f *Flow) tell() {
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

func (f *Flow) floor(_ string, lane int, at sink.Point) {
	f.mu.Lock()
	f.floors[lane] = max(f.floors[lane], at.Sequence)
	f.failed = nil
	f.mu.Unlock()
	f.tell()
}

func (f *Flow) state(_ string, s registry.State, reason string) {
	if s != registry.Halted {
		return
	}
	f.mu.Lock()
	f.halted = fmt.Sprint(reason)
	f.mu.Unlock()
	f.tell()
}

func (f *Flow) retried(_ string, err error) {
	f.mu.Lock()
	f.failed = err
	f.mu.Unlock()
}
