package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

const balanced = 8 // partitions of the functions of these tests

// crew is workers around a world in memory, on virtual time, with a record of who owned what, and when.
type crew struct {
	t      *testing.T
	world  *memory
	reads  atomic.Int64
	mu     sync.Mutex
	owners map[string]string    // by record
	freed  map[string]time.Time // when it was released, by record; no entry: it is not free
	moves  int                  // how often a partition came to a worker, the first one not counted
	gap    time.Duration        // longest time that a released partition was free
	most   int                  // partitions that were free at the same time
}

func newCrew(t *testing.T) *crew {
	c := &crew{t: t, world: newMemory(balanced), owners: map[string]string{}, freed: map[string]time.Time{}}
	c.world.bucket(registry.BucketOwners).tell = c.stored
	return c
}

func (c *crew) stored(e stream.Entry) {
	var o registry.Owner
	if err := json.Unmarshal(e.Value, &o); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	was, known := c.owners[e.Key]
	switch o.Instance {
	case was:
		return
	case "":
		c.freed[e.Key] = time.Now()
		c.most = max(c.most, len(c.freed))
	default:
		if since, free := c.freed[e.Key]; free {
			c.gap = max(c.gap, time.Since(since))
		}
		delete(c.freed, e.Key)
		if known {
			c.moves++
		}
	}
	c.owners[e.Key] = o.Instance
}

// forget begins to count anew.
func (c *crew) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moves, c.gap, c.most = 0, 0, len(c.freed)
}

// counted are the moves since, how many partitions were free at a time, and for how long at most.
func (c *crew) counted() (moves, most int, gap time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moves, c.most, c.gap
}

// free are the partitions that nobody has.
func (c *crew) free() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return balanced - len(c.owners) + len(c.freed)
}

// has says whether a worker has any partition.
func (c *crew) has(instance string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.owners {
		if o == instance {
			return true
		}
	}
	return false
}

// shares are how many partitions each worker has, sorted.
func (c *crew) shares() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	has := map[string]int{}
	for _, o := range c.owners {
		has[o]++
	}
	var all []int
	for _, n := range has {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

func (c *crew) deploy(name string, change func(*registry.FunctionRecord)) {
	b := c.world.bucket(registry.BucketFunctions)
	r := registry.FunctionRecord{Spec: spec(name, "shop.public.orders", ""), Version: 1, Generation: 1, State: registry.Running}
	if e, err := b.Get(c.t.Context(), name); err == nil {
		if err := json.Unmarshal(e.Value, &r); err != nil {
			c.t.Fatal(err)
		}
	}
	change(&r)
	value, _ := json.Marshal(r)
	_, _ = b.Put(c.t.Context(), name, value)
}

// member is a worker of a crew.
type member struct {
	*memory
	c    *crew
	dead atomic.Bool
	end  context.CancelFunc
	done chan error
	host *host.Host
}

func (c *crew) start(change func(*host.Config)) *member {
	m := &member{memory: c.world, c: c, done: make(chan error, 1)}
	cfg := host.Config{
		World: m, Heartbeat: 15 * time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		NewHandler: func(context.Context, *registry.Function) (sink.Handler, error) { return stuck{}, nil },
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if m.host, err = host.New(cfg); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	m.end = cancel
	go func() { m.done <- m.host.Run(ctx) }()
	c.t.Cleanup(m.stop)
	return m
}

// stop ends the worker as SIGTERM does, kill as SIGKILL: nothing that it does any more is seen.
func (m *member) stop() {
	m.end()
	if err := <-m.done; err != nil {
		m.c.t.Error(err)
	}
	m.done <- nil
}

func (m *member) kill() {
	m.dead.Store(true)
	m.stop()
}

func (m *member) Bucket(name string) host.Bucket { return mortalBucket{m.bucket(name), m, name} }

type mortalBucket struct {
	*memoryBucket
	m    *member
	name string
}

var errKilled = errors.New("this worker is dead")

func (b mortalBucket) Get(ctx context.Context, key string) (stream.Entry, error) {
	if b.m.dead.Load() {
		return stream.Entry{}, errKilled
	}
	if b.name == registry.BucketOwners {
		b.m.c.reads.Add(1)
	}
	return b.memoryBucket.Get(ctx, key)
}

func (b mortalBucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if b.m.dead.Load() {
		return 0, errKilled
	}
	return b.memoryBucket.Put(ctx, key, value)
}

func (b mortalBucket) Swap(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if b.m.dead.Load() {
		return 0, errKilled
	}
	return b.memoryBucket.Swap(ctx, key, value, revision)
}

func (b mortalBucket) Delete(ctx context.Context, key string, revision uint64) error {
	if b.m.dead.Load() {
		return errKilled
	}
	return b.memoryBucket.Delete(ctx, key, revision)
}

// Workers that come get their share, one partition at a time; those that stop leave theirs within a second, those that are killed
// within 15; and then everything stays where it is.
func TestScaleOutAndIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t)
		c.deploy("orders", func(*registry.FunctionRecord) {})
		first := c.start(nil)
		time.Sleep(time.Second)
		if got := c.shares(); !slices.Equal(got, []int{8}) {
			t.Fatalf("the first worker: %v", got)
		}

		c.forget()
		second, third := c.start(nil), c.start(nil)
		time.Sleep(700 * time.Millisecond)
		fourth := c.start(nil)
		time.Sleep(10 * time.Second)
		if got := c.shares(); !slices.Equal(got, []int{2, 2, 2, 2}) {
			t.Errorf("four workers: %v", got)
		}
		if moves, most, gap := c.counted(); moves != 6 || most != 1 || gap > time.Second {
			t.Errorf("1 → 4: %d moves, %d at a time, at most %v without an owner", moves, most, gap)
		}

		c.calm("four workers", 4)
		c.forget()
		first.stop()
		second.stop()
		time.Sleep(10 * time.Second)
		if got := c.shares(); !slices.Equal(got, []int{4, 4}) {
			t.Errorf("two workers: %v", got)
		}
		if moves, _, gap := c.counted(); moves > 8 || gap > time.Second {
			t.Errorf("4 → 2: %d moves, at most %v without an owner", moves, gap)
		}

		c.calm("two workers", 2)
		c.forget()
		third.kill()
		time.Sleep(15 * time.Second)
		if got := c.shares(); !slices.Equal(got, []int{8}) {
			t.Errorf("15 s after a kill: %v", got)
		}
		fourth.stop()
		if got := c.free(); got != balanced {
			t.Errorf("%d partitions are free in the end", got)
		}
	})
}

// calm lets ten minutes pass, in which nothing may move, and little be asked.
func (c *crew) calm(what string, workers int) {
	c.t.Helper()
	c.forget()
	before := c.reads.Load()
	const d = 10 * time.Minute
	time.Sleep(d)
	if moves, most, _ := c.counted(); moves != 0 || most != 0 {
		c.t.Errorf("%s: %d partitions move in ten minutes", what, moves)
	}
	// Each worker looks at the records of the partitions of others once in a lease, or less often.
	if reads, most := c.reads.Load()-before, int64(workers*balanced)*int64(d/(10*time.Second)); reads > most {
		c.t.Errorf("%s: %d reads of owners in ten minutes, expected %d", what, reads, most)
	}
}

// A bound on the number of workers, their labels and the functions that they were told to host decide who gets partitions, at once
// when they change.
func TestPlacement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t)
		c.deploy("orders", func(r *registry.FunctionRecord) { r.Workers = 2 })
		named := func(labels map[string]string, functions ...string) func(*host.Config) {
			return func(cfg *host.Config) { cfg.Labels, cfg.Functions = labels, functions }
		}
		c.start(named(map[string]string{"zone": "eu"}))
		c.start(named(map[string]string{"zone": "us"}))
		c.start(named(nil, "orders"))
		other := c.start(named(nil, "people"))
		time.Sleep(15 * time.Second)
		if got := c.shares(); !slices.Equal(got, []int{4, 4}) {
			t.Errorf("at most two workers: %v", got)
		}
		c.deploy("orders", func(r *registry.FunctionRecord) { r.Workers = 0 })
		time.Sleep(15 * time.Second)
		if got := c.shares(); !slices.Equal(got, []int{2, 3, 3}) {
			t.Errorf("without a bound: %v", got)
		}
		if c.has(other.host.Instance()) {
			t.Error("a worker of other functions has a partition")
		}
		c.deploy("orders", func(r *registry.FunctionRecord) {
			r.Spec, r.Version = spec("orders", "shop.public.orders", "labels: {zone: eu}"), 2
		})
		time.Sleep(15 * time.Second)
		if got := c.shares(); !slices.Equal(got, []int{8}) {
			t.Errorf("in one zone: %v", got)
		}
	})
}

// A function that is paused and resumed is shared at once: nobody takes all and gives most of it away again.
func TestResumedIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t)
		c.deploy("orders", func(*registry.FunctionRecord) {})
		for range 4 {
			c.start(func(cfg *host.Config) {
				cfg.NewHandler = func(ctx context.Context, _ *registry.Function) (sink.Handler, error) {
					time.Sleep(time.Duration(c.reads.Add(50)%500) * time.Millisecond) // no two are ready at the same time
					return stuck{}, ctx.Err()
				}
			})
		}
		time.Sleep(20 * time.Second)
		c.deploy("orders", func(r *registry.FunctionRecord) { r.State = registry.Paused })
		time.Sleep(time.Second)
		if got := c.free(); got != balanced {
			t.Errorf("paused, %d partitions are free", got)
		}
		c.forget()
		c.deploy("orders", func(r *registry.FunctionRecord) { r.State = registry.Running })
		time.Sleep(20 * time.Second)
		if got := c.shares(); !slices.Equal(got, []int{2, 2, 2, 2}) {
			t.Errorf("resumed: %v", got)
		}
		if moves, _, _ := c.counted(); moves != balanced {
			t.Errorf("resumed: %d partitions came to a worker", moves)
		}
	})
}

// A partition that nobody comes for is taken by whoever can: a worker that says it is ready and does nothing holds nothing up for
// long.
func TestIdlerHoldsNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t)
		c.deploy("orders", func(*registry.FunctionRecord) {})
		stop := make(chan struct{})
		t.Cleanup(func() { close(stop) })
		go func() { // as an announcement says it, of a worker that does not take what is its share
			for i := 0; ; i++ {
				b, _ := json.Marshal(registry.Worker{Host: "idler", Owns: map[string][]int{"orders.1": {}}})
				_, _ = c.world.bucket(registry.BucketWorkers).Put(t.Context(), "idler", b)
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
				}
			}
		}()
		c.start(nil)
		time.Sleep(time.Minute)
		free := 0
		const minutes = 10
		for range minutes * 60 {
			time.Sleep(time.Second)
			free += c.free()
		}
		if share := float64(free) / (minutes * 60 * balanced); share > 0.1 {
			t.Errorf("partitions have no owner for %.0f%% of the time", 100*share)
		}
	})
}
