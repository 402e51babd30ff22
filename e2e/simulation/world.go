// Package simulation runs the real agent and the real host, on the real client of NATS, in a single process on virtual time:
// against a JetStream in memory (fakenats), a source and targets that misbehave by a seed as the real ones were seen to. One
// seed is one schedule: processes die at any of their calls to the outside, before or after its effect, or freeze for longer
// than every lease and wake up; the server loses deliveries, answers, connections and its youngest messages; commits show late,
// slots are dropped, standbys promoted that lack transactions; targets refuse, time out after the write, or are restored to a
// backup; operators deploy late, pause, resume, and go on past gaps. Then it becomes calm, and everything must come right
// within a bounded time.
//
// What every schedule is checked for, at each single step where that can be: no gap, no duplicate, order, one writer, one
// owner of each partition, growing versions, no row backwards, acknowledged only what is durable, exactly once where a target
// promises it, and in the end every row of every target.
//
//	go test ./e2e/simulation -run TestSimulation -args -seconds 60 -seed 1
//
// plays the schedules of testdata/seeds, in each of which a promise was broken once, and then others for a minute; it prints
// schedules a minute, how often every rare path was taken, and the history of a schedule that broke a promise, shortened.
package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/e2e/simulation/fakenats"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Times of a schedule.
const (
	warming      = 4 * time.Second // at most, without faults
	shortest     = 2 * time.Second // faults and traffic
	most         = 9 * time.Second // of most schedules
	longest      = 15 * time.Second
	settling     = 3 * time.Second // what was under way comes to its end, before anything must be right
	bound        = 3 * time.Minute // of calm, after which it must be
	lease        = 3 * time.Second
	syncInterval = 300 * time.Millisecond
	partitions   = 3
)

// shares of all classes of faults, in percent, that a schedule has: where many come together the agent hardly ever streams.
var shares = []uint64{6, 12, 25, 55}

// epochs are how many messages an epoch has; 0: as many as there can be. Taking one costs as much as a start.
var epochs = []uint64{0, 0, 0, 0, 0, 0, 40, 100}

// Options choose a schedule.
type Options struct {
	Seed uint64
	Long bool     // faults for as long as in the longest schedules; most are a few seconds, since nearly all that can happen does so in these
	Drop []string // faults and operations that are left out, by their number
	Tell bool     // the server's part of the history too, and the history of a schedule that broke nothing
}

// Result of a schedule.
type Result struct {
	Seed      uint64
	Long      bool
	Violation string   // the first one; "" if every promise was kept
	History   string   // of a violation
	Happened  []string // faults and operations of a violation, by number
	Counts    map[string]int
	Events    int
	Virtual   time.Duration
}

// world is one schedule.
type world struct {
	c      *chance
	h      *history
	d      *database
	m      *mirror
	o      *owners
	server *fakenats.Server
	faults fakenats.Faults // that come by themselves
	epoch  uint64          // messages after which a writer takes another one
	copied *fakenats.Snapshot

	quiet      time.Duration // how long there is traffic alone
	active     time.Duration // how long there are faults too
	calm       chan struct{} // closed when the faults end
	pending    atomic.Bool   // everything is to be read again, and no agent that knows it has streamed yet
	blank      atomic.Bool   // JetStream knows nothing, nor that everything is to be read again
	ctx        context.Context
	stop       context.CancelFunc
	running    sync.WaitGroup // supervisors, operators, traffic
	background sync.WaitGroup // what ends by itself

	mu        sync.Mutex
	processes map[string]*process
	targets   map[string]holds
	elastic   *versioned
	columns   *versioned
	postgres  *relational
	reread    map[string]bool // agents whose next start reads everything again
	orderedAt time.Time       // when that was ordered
}

// Run plays a schedule. It must be called in a bubble of testing/synctest.
func Run(o Options) *Result {
	c, h := newChance(o), newHistory()
	w := &world{c: c, h: h, calm: make(chan struct{}), processes: map[string]*process{}, targets: map[string]holds{}, reread: map[string]bool{}}
	w.active = c.between("length", "world", shortest, most)
	if o.Long || c.intn("long", "world", 10) == 0 {
		w.active = longest
	} else {
		c.often, c.share = 2, shares[c.intn("share", "world", len(shares))]
		w.quiet = max(0, c.between("quiet", "world", -warming/2, warming))
	}
	w.epoch = epochs[c.intn("messages of an epoch", "world", len(epochs))]
	w.d = newDatabase(c, h)
	w.m = newMirror(c, h, w.d)
	w.o = newOwners(c, h)
	w.d.onConfirm = w.confirms
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.serve(o.Tell)
	w.elastic, w.columns, w.postgres = newVersioned("es", w), newVersioned("ch", w), newRelational("pg", w)
	w.play()
	w.m.mu.Lock()
	events := w.m.events
	w.m.mu.Unlock()
	r := &Result{Seed: o.Seed, Long: o.Long, Violation: h.failed(), Counts: c.counts, Events: events, Virtual: time.Since(h.began)}
	if r.Violation != "" || o.Tell {
		r.History, r.Happened = h.text(20_000), c.happened
	}
	for name, n := range w.server.Counts() {
		r.Counts["nats: "+name] += n
	}
	return r
}

func (w *world) play() {
	defer func() {
		w.h.note("world", "all is stopped")
		w.stop()
		close(w.d.stopped)
		w.running.Wait()
		w.background.Wait()
		w.d.pending.Wait()
		w.server.Close()
	}()
	for n := range 1 + w.c.intn("agents", "world", 2) {
		w.running.Go(func() { w.agents(fmt.Sprintf("agent%d", n)) })
	}
	for n := range 1 + w.c.intn("workers", "world", 3) {
		w.running.Go(func() { w.workers(fmt.Sprintf("worker%d", n)) })
	}
	w.running.Go(w.operate)
	w.running.Go(w.traffic)
	w.running.Go(w.trouble)
	w.wait(w.quiet)
	w.c.beginFaults()
	w.serverFaults()
	w.wait(w.active)
	w.c.endFaults()
	w.serverCalm()
	close(w.calm)
	w.h.note("world", "faults are over")
	w.wait(settling)
	for {
		if w.h.failed() != "" {
			return
		}
		why := w.unequal()
		if why == "" {
			w.finally()
			return
		}
		if time.Since(w.h.began) > w.quiet+w.active+bound {
			w.h.fail("comes right in the end", "after %s of calm: %s", bound, why)
			return
		}
		w.wait(500 * time.Millisecond)
	}
}

// wait ends early with a violation.
func (w *world) wait(d time.Duration) bool { return w.sleep(d, w.h.violated) }

func (w *world) sleep(d time.Duration, end <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-end:
		return false
	case <-w.ctx.Done():
		return false
	}
}

// process begins a life.
func (w *world) process(name, kind string, life int) *process {
	p := &process{w: w, name: name, kind: kind, life: life, client: w.server.Client(fmt.Sprintf("%s.%d", name, life))}
	p.ctx, p.cancel = context.WithCancel(w.ctx)
	w.mu.Lock()
	w.processes[name] = p
	w.mu.Unlock()
	w.h.note(name, "starts, life %d", life)
	return p
}

func (w *world) connect(p *process) (*stream.Conn, error) {
	return stream.Connect(p.ctx, stream.Config{InProcess: p, Name: p.name, SyncInterval: syncInterval, Replicas: 1})
}

// agents keeps an agent running: whoever dies is started again, and past a gap an operator lets it go on.
func (w *world) agents(name string) {
	for life := 1; w.ctx.Err() == nil; life++ {
		p := w.process(name, "agent", life)
		err := w.agent(p)
		p.die(fmt.Sprintf("at its end: %v", err))
		w.ended(p, err)
		w.pauseBefore(name)
	}
}

func (w *world) pauseBefore(name string) {
	w.wait(w.c.between("start again after", name, 5*time.Millisecond, 2*time.Second))
}

// agent is one life of an agent.
func (w *world) agent(p *process) error {
	conn, err := w.connect(p)
	if err != nil {
		return err
	}
	defer conn.Close()
	st, err := stream.Create(p.ctx, conn, source, stream.Settings{Partitions: partitions})
	if err != nil {
		return err
	}
	r, err := registry.Open(p.ctx, conn)
	if err != nil {
		return err
	}
	resnapshot := w.ordered(p.name)
	p.ordered = resnapshot
	a, err := capture.New(capture.Config{
		Source: source, Horizon: conn.Horizon(), Settle: 2 * time.Second, ChunkRows: 3, Interval: 200 * time.Millisecond,
		Idle: 500 * time.Millisecond, Patience: 3 * time.Second, Drain: 2 * time.Second, Resnapshot: resnapshot, Epoch: w.epoch,
		Orders: func(ctx context.Context) ([]registry.Pending, error) { return r.PendingBackfills(ctx, source) },
		Log:    slog.New(teller{p: p}),
		Random: func() uint64 { return uint64(w.c.intn("random", p.name, 1<<62)) },
		Observer: capture.Observer{State: func(s capture.State, detail string) {
			w.h.note(p.name, "is %s %s", s, detail)
			p.starting.Store(s == capture.Starting)
			if s == capture.Streaming {
				w.pending.Store(false)
				w.blank.Store(false)
			}
		}},
	}, sourceCalls{w.d, p, resnapshot}, streamCalls{st, p, resnapshot}, bucketCalls{r.Captures, p, "captures"},
		bucketCalls{r.Snapshots, p, "snapshots"}, bucketCalls{r.Schemas, p, "schemas"})
	if err != nil {
		return err
	}
	return a.Run(p.ctx)
}

// workers keeps a worker running.
func (w *world) workers(name string) {
	for life := 1; w.ctx.Err() == nil; life++ {
		p := w.process(name, "worker", life)
		err := w.worker(p)
		p.die(fmt.Sprintf("at its end: %v", err))
		w.pauseBefore(name)
	}
}

// worker is one life of a worker.
func (w *world) worker(p *process) error {
	conn, err := w.connect(p)
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := registry.Open(p.ctx, conn)
	if err != nil {
		return err
	}
	h, err := host.New(host.Config{
		Conn: conn, Registry: r, World: worldCalls{host.JetStream(conn, r), p},
		Lease: lease, FloorEvery: 300 * time.Millisecond, IdleEvery: 3 * time.Second, SchemaWait: 2 * time.Second,
		Heartbeat: time.Second, RetryMax: 2 * time.Second, Log: slog.New(teller{p: p}),
		NewHandler: func(_ context.Context, f *registry.Function) (sink.Handler, error) { return w.handler(p, f), nil },
		Observer: host.Observer{State: func(function string, s registry.State, reason string) {
			w.h.note(p.name, "sees %s %s %s", function, s, reason)
		}},
	})
	if err != nil {
		return err
	}
	p.instance = h.Instance()
	w.h.note(p.name, "is %s", p.instance)
	return h.Run(p.ctx)
}

func (w *world) handler(p *process, f *registry.Function) sink.Handler {
	switch f.To.Kind() {
	case "elasticsearch":
		return elastic{w.elastic, p}
	case "clickhouse":
		return columns{w.columns, p}
	}
	return &session{w.postgres, p, map[checkpoint]event.Version{}}
}

func (w *world) excused(e *event.Event) bool { return w.m.Excused(e) }

// target finds the target of a function.
func (w *world) target(function string) holds {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.targets[function]
}
