package functiontest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

const (
	defaultDeadline = 6 * time.Second
	defaultPatience = 2 * time.Second
)

// play is a history under way.
type play struct {
	*runner
	plan   plan
	source *source
	floors []place
	worker *worker
	lates  []flight
	made   []*worker

	mu       sync.Mutex
	trace    []entry
	refused  map[int]bool // items that became dead letters
	accepted map[int]bool // items that were written at least once
	behind   int          // how often the target's checkpoint was behind
}

// place is how far a partition was written: items of it, and the point behind them.
type place struct {
	next int
	read sink.Point
}

// worker has a handler and all partitions.
type worker struct {
	name       string
	handler    functions.Handler
	generation int64
	lanes      []place
}

// flight is a batch on its way when its worker was stopped.
type flight struct {
	worker *worker
	jobs   []*job
}

// broken is what is wrong with the handler; other errors say that the suite cannot go on.
type broken struct {
	what       string
	have, want []string // of the target's state, where that is what is wrong
	stack      string   // of a panic
}

func (b *broken) Error() string { return b.what }

// played is what a play that found something was.
type played struct {
	*play
	found *broken
}

// play plays a plan to its end. nil: the target holds what the table holds.
func (r *runner) play(ctx context.Context, p plan) (*played, error) {
	if c, ok := r.Target.(Resetter); ok {
		if err := c.Reset(ctx); err != nil {
			return nil, fmt.Errorf("reset the target: %w", err)
		}
	} else {
		r.keys += keysOfHistory
	}
	g := &play{runner: r, plan: p, source: r.history(p.changes), refused: map[int]bool{}, accepted: map[int]bool{}}
	for _, at := range g.source.start {
		g.floors = append(g.floors, place{0, at})
	}
	defer g.end()
	err := g.run(ctx)
	var b *broken
	if errors.As(err, &b) {
		return &played{g, b}, nil
	}
	return nil, err
}

// keysOfHistory is more keys than any history has.
const keysOfHistory = 100

func (g *play) run(ctx context.Context) error {
	if err := g.start(ctx); err != nil {
		return err
	}
	for _, s := range g.plan.steps {
		if err := g.step(ctx, s); err != nil {
			return err
		}
	}
	if err := g.rest(ctx); err != nil {
		return err
	}
	for len(g.lates) > 0 {
		g.land(ctx)
	}
	return g.compare(ctx)
}

// end closes the handlers.
func (g *play) end() {
	for _, w := range g.made {
		closeHandler(w.handler)
	}
}

func closeHandler(h functions.Handler) {
	if c, ok := h.(functions.Closer); ok {
		c.Close()
	}
}

// make makes a handler.
func (r *runner) make(ctx context.Context) (h functions.Handler, err error) {
	f := functions.Function{Name: r.Function, From: []string{r.Table.Source + "." + r.Table.Table.String()}, Config: r.Config, Log: slog.New(slog.DiscardHandler)}
	if err := r.insist(ctx, func(context.Context) (err error) {
		h, err = r.Handler(ctx, f)
		return err
	}); err != nil {
		return nil, fmt.Errorf("make a handler: %w", err)
	}
	return h, nil
}

// start starts a worker at the floors.
func (g *play) start(ctx context.Context) error {
	h, err := g.make(ctx)
	if err != nil {
		return err
	}
	w := &worker{name: workerName(len(g.made)), handler: h, generation: g.generation, lanes: append([]place(nil), g.floors...)}
	g.worker, g.made = w, append(g.made, w)
	if c, ok := w.handler.(functions.Checker); ok {
		if err := g.insist(ctx, func(ctx context.Context) error { return c.Check(ctx, []*event.Schema{g.Table}) }); err != nil {
			return &broken{what: fmt.Sprintf("Check does not accept the target: %v", err)}
		}
	}
	for p := range w.lanes {
		if err := g.claim(ctx, w, p); err != nil {
			return err
		}
	}
	return nil
}

func workerName(n int) string { return string(rune('A'+n%26)) + fmt.Sprint(n/26 + 1)[1:] }

// claim opens a partition of a Checkpointer: it says where to go on.
func (g *play) claim(ctx context.Context, w *worker, partition int) error {
	c, ok := w.handler.(functions.Checkpointer)
	if !ok {
		return nil
	}
	if g.claims == nil {
		g.claims = g.claimsOf(0, false)
	}
	var at sink.Point
	err := g.insist(ctx, func(ctx context.Context) (err error) {
		at, err = c.Claim(ctx, g.claims[partition])
		return err
	})
	if err != nil {
		return &broken{what: fmt.Sprintf("worker %s cannot claim partition %d: %v", w.name, partition, err)}
	}
	w.lanes[partition] = place{0, at}
	for _, i := range g.source.parts[partition] {
		if g.source.items[i].version <= at.Version {
			w.lanes[partition].next++
		}
	}
	return nil
}

func (g *play) claimsOf(replaces int64, replay bool) []sink.Claim {
	claims := make([]sink.Claim, g.Partitions)
	for p := range claims {
		claims[p] = sink.Claim{Function: g.Function, Generation: g.generation, Partition: p, Start: g.source.start[p], Replay: replay, Replaces: replaces}
	}
	return claims
}

// step plays one.
func (g *play) step(ctx context.Context, s step) error {
	s.part %= g.Partitions
	switch s.kind {
	case write:
		return g.write(ctx, s, fault{})
	case twice:
		return g.write(ctx, s, fault{lost: true})
	case halved:
		return g.write(ctx, s, fault{lost: true, late: true})
	case cut:
		return g.write(ctx, s, fault{cut: true, looks: s.looks, pause: s.pause})
	case floor:
		if g.floors[s.part] != g.worker.lanes[s.part] {
			g.floors[s.part] = g.worker.lanes[s.part]
			g.note("floor", "partition %d is written down as done up to %s", s.part, g.upTo(s.part))
		}
		return nil
	case crash:
		g.note("crash", "worker %s is killed; %s begins at the floors", g.worker.name, workerName(len(g.made)))
		return g.start(ctx)
	case move:
		copy(g.floors, g.worker.lanes)
		g.note("move", "worker %s hands over to %s", g.worker.name, workerName(len(g.made)))
		return g.start(ctx)
	case late:
		return g.late(ctx, s)
	case land:
		if len(g.lates) > 0 {
			g.land(ctx)
		}
		return nil
	case replay:
		for p, at := range g.source.start {
			g.floors[p] = place{0, at}
		}
		before := g.generation
		g.generation++
		g.claims = g.claimsOf(before, true)
		g.note("replay", "the function is replayed; worker %s begins at the history's beginning", workerName(len(g.made)))
		return g.start(ctx)
	}
	return nil
}

// late stops the worker while batches are on their way.
func (g *play) late(ctx context.Context, s step) error {
	if jobs := g.next(s); count(jobs) > 0 {
		g.lates = append(g.lates, flight{g.worker, jobs})
		g.note("late", "worker %s is about to write %s, and is stopped; %s begins at the floors", g.worker.name, g.names(jobs), workerName(len(g.made)))
		return g.start(ctx)
	}
	return nil
}

// land lets the oldest late batch arrive.
func (g *play) land(ctx context.Context) {
	f := g.lates[0]
	g.lates = g.lates[1:]
	g.note("land", "what worker %s was about to write arrives", f.worker.name)
	_ = g.call(ctx, f.worker, f.jobs, fault{}) // nobody waits for its answer
}

// rest writes what is left: the partitions side by side, as a worker does.
func (g *play) rest(ctx context.Context) error {
	if g.combines() {
		for {
			jobs := g.next(step{n: 4})
			if len(jobs) == 0 {
				return nil
			}
			if err := g.deliver(ctx, g.worker, jobs, fault{}); err != nil {
				return err
			}
		}
	}
	var all sync.WaitGroup
	errs := make([]error, g.Partitions)
	from := len(g.trace)
	for p := range g.Partitions {
		all.Go(func() {
			for errs[p] == nil {
				jobs := g.next(step{part: p, n: 4})
				if len(jobs) == 0 {
					return
				}
				errs[p] = g.deliver(ctx, g.worker, jobs, fault{})
			}
		})
	}
	all.Wait()
	sortByPartition(g.trace[from:])
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *play) combines() bool {
	_, ok := g.worker.handler.(functions.Combiner)
	return ok
}

func (g *play) write(ctx context.Context, s step, f fault) error {
	jobs := g.next(s)
	if len(jobs) == 0 {
		return nil
	}
	return g.deliver(ctx, g.worker, jobs, f)
}

// before cuts items before the first t, or behind it where it is the first.
func (s *source) before(items []int) []int {
	for n, i := range items {
		if s.items[i].sweep {
			return items[:max(n, 1)]
		}
	}
	return items
}

// next are the worker's next events as jobs: of a partition, or of all.
func (g *play) next(s step) []*job {
	var jobs []*job
	for p := range g.worker.lanes {
		if p != s.part && !g.combines() {
			continue
		}
		at := &g.worker.lanes[p]
		rest := g.source.parts[p][at.next:]
		if len(rest) == 0 {
			continue
		}
		rest = g.source.before(rest[:min(max(s.n, 1), len(rest))])
		sweep := g.source.items[rest[0]].sweep
		if sweep && len(jobs) > 0 {
			continue // it comes by itself
		}
		j := &job{lane: at, partition: p, after: at.read, to: g.source.point(rest[len(rest)-1]), until: at.next + len(rest), sweep: sweep}
		for _, i := range rest {
			if !g.source.items[i].skip {
				j.items = append(j.items, i)
			}
		}
		jobs = append(jobs, j)
		if sweep {
			break
		}
	}
	return jobs
}
