package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// generation runs one version of a function: its handler, and a lane for each partition.
type generation struct {
	f       *function
	host    *Host
	log     *slog.Logger
	record  registry.FunctionRecord
	spec    *registry.Function
	source  *sourceEnds
	handler sink.Handler
	sweeper sink.Sweeper      // nil where the target has none
	points  sink.Checkpointer // nil where the target has none
	shapes  *shapes
	writer  *writer

	sequencer sink.Sequencer // of a function that takes whole transactions; else nil
	breaker   *breaker
	size      *size
	pace      *pace // nil where there is no limit
	slow      *pace // while a replay goes on; nil as without one
	health    health
	key       string // of its partitions' records, less the partition
	share     share
	entered   time.Time // when its lanes were about to start
	alone     time.Time // since when the copy that is to come in its place is gone

	stop context.CancelFunc
	once sync.Once
	why  error

	mu    sync.Mutex
	lanes []*lane
	heirs sync.Map // workers that are gone and whose partitions were taken over, each told once
}

func newGeneration(f *function, r registry.FunctionRecord) *generation {
	return &generation{f: f, host: f.host, log: f.log.With("generation", r.Generation), record: r, key: generationKey(f.name, r.Generation)}
}

// halt stops all lanes; the first reason counts.
func (g *generation) halt(err error) {
	g.once.Do(func() {
		g.why = haltError{err}
		g.stop()
	})
}

// run ends when ctx ends, with all partitions released, or with a haltError.
func (g *generation) run(ctx context.Context) error {
	ctx, g.stop = context.WithCancel(ctx)
	defer g.stop()
	defer g.health.clear(g)
	if err := g.prepare(ctx); err != nil {
		return err
	}
	defer g.close()
	if err := g.succeed(ctx); err != nil {
		return err
	}
	var writing, reading sync.WaitGroup
	if _, combines := g.handler.(sink.Combiner); combines {
		writing.Go(func() { g.writer.combine(ctx) })
	}
	for p := range g.spec.Lanes(g.source.Partitions()) {
		g.mu.Lock()
		g.lanes = append(g.lanes, newLane(g, p))
		g.mu.Unlock()
	}
	g.host.enter(ctx, g)
	for _, l := range g.all() {
		reading.Go(func() { l.run(ctx) })
	}
	reading.Wait()
	g.host.exit(g)
	g.stop()
	writing.Wait()
	return g.why
}

// prepare reads the specification, waits for the source's stream and for the target.
func (g *generation) prepare(ctx context.Context) error {
	spec, err := registry.ParseFunction(g.f.name, g.record.Spec)
	if err != nil {
		return haltError{fmt.Errorf("the deployed specification cannot be read by this version of runnel; deploy it again: %w", err)}
	}
	g.spec = spec
	g.breaker = newBreaker(g.host.backoff())
	g.size = newSize(spec.Batch.Rows, g.host.cfg.WriteDeadline/6)
	g.pace = newPace(float64(spec.Rate))
	if g.shapes, err = newShapes(spec); err != nil {
		return haltError{err}
	}
	again := g.host.backoff()
	err = g.insist(ctx, again, func() error {
		g.source, err = g.host.streams.find(ctx, spec.Source())
		if errors.Is(err, stream.ErrNoStream) {
			return fmt.Errorf("source %s has no stream yet: %w; start its capture agent", spec.Source(), err)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := g.insist(ctx, again, func() error { return g.open(ctx) }); err != nil {
		return err
	}
	g.writer = newWriter(g)
	return nil
}

// open makes the handler and lets it look at its target. It is made anew at each attempt, since what the specification refers to
// (a password, an address) may be another one by then.
func (g *generation) open(ctx context.Context) error {
	handler, err := g.host.cfg.NewHandler(ctx, g.spec)
	if err != nil {
		return err
	}
	if err := g.fits(ctx, handler); err != nil {
		if c, ok := handler.(sink.Closer); ok {
			c.Close()
		}
		return err
	}
	g.handler = handler
	g.sweeper, _ = handler.(sink.Sweeper)
	g.points, _ = handler.(sink.Checkpointer)
	return nil
}

// close lets go of what the handler holds; it may be another one than at the beginning.
func (g *generation) close() {
	if c, ok := g.handler.(sink.Closer); ok {
		c.Close()
	}
	g.handler = nil
}

// fits says what keeps a handler from serving the function.
func (g *generation) fits(ctx context.Context, handler sink.Handler) error {
	if g.spec.Ordering == registry.OrderSource {
		var able bool
		if g.sequencer, able = handler.(sink.Sequencer); !able {
			return sink.Halt(fmt.Errorf("a target of this kind (%s) does not keep transactions: take `ordering: source` out of the function and deploy it", g.spec.Target()))
		}
	}
	check, ok := handler.(sink.Checker)
	if !ok {
		return nil
	}
	known, err := g.known(ctx)
	if err != nil {
		return err
	}
	return check.Check(ctx, known)
}

// insist tries until it works; an error that says halt is a haltError.
func (g *generation) insist(ctx context.Context, again *pause, try func() error) error {
	again.reset()
	for {
		err := caught(try)
		switch {
		case err == nil:
			g.health.works(g, nil)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case sink.IsHalt(err) || sink.IsPermanent(err):
			return haltError{err}
		}
		g.health.failed(g, nil, err)
		if err := again.wait(ctx, err); err != nil {
			return err
		}
	}
}

// status sums the lanes up.
func (g *generation) status(since time.Duration) registry.FunctionStatus {
	g.mu.Lock()
	lanes := g.lanes
	g.mu.Unlock()
	s := registry.FunctionStatus{Partitions: []int{}}
	for _, l := range lanes {
		backlog, lag, owned := l.status()
		if !owned {
			continue
		}
		s.Partitions = append(s.Partitions, l.partition)
		s.Backlog += backlog
		s.LagSeconds = max(s.LagSeconds, lag.Seconds())
	}
	g.health.mu.Lock()
	defer g.health.mu.Unlock()
	s.Stalled, s.LastError = g.health.stalled(), g.health.last
	s.Rate = float64(g.health.events) / max(since.Seconds(), 0.001)
	g.health.events = 0
	return s
}
