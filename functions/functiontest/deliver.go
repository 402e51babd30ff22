package functiontest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// job is a span on its way into the target, as the host's writer has it.
type job struct {
	lane      *place
	partition int
	after, to sink.Point
	until     int // of the lane, when it is durable
	items     []int
	sweep     bool // its only item is a t
	over      bool
}

func (j *job) durable() { j.over, *j.lane = true, place{j.until, j.to} }

// fault is what happens to one call of Handle.
type fault struct {
	lost, late bool // what it says is lost; late: because of the deadline
	cut        bool
	looks      int
	pause      time.Duration
}

var (
	errLost = errors.New("the answer was lost")
	errLate = fmt.Errorf("the answer was lost: %w", context.DeadlineExceeded)
)

// deliver writes jobs until they are durable, or dead letters, as the host does: what fails is tried again in place.
func (g *play) deliver(ctx context.Context, w *worker, jobs []*job, f fault) error {
	began, tries := time.Now(), 0
	for {
		jobs = slices.DeleteFunc(slices.Clone(jobs), func(j *job) bool { return j.over })
		if count(jobs) == 0 && !g.checkpoints() { // what is not for the function is passed over
			for _, j := range jobs {
				j.durable()
			}
			return nil
		}
		if len(jobs) == 0 {
			return nil
		}
		err, injected := g.call(ctx, w, jobs, f), f.lost || f.cut
		f = fault{}
		var partial *functions.BatchError
		var stuck *broken
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the suite is ended: %w", ctx.Err())
		case errors.As(err, &stuck):
			return err
		case err == nil:
			for _, j := range jobs {
				j.durable()
			}
			continue
		case errors.As(err, &partial) && len(partial.Failed) > 0:
			progress, err := g.reduce(jobs, partial)
			if err != nil {
				return err
			}
			if progress {
				continue
			}
		case errors.Is(err, sink.ErrBehind):
			return g.again(ctx, w, jobs, err)
		case errors.Is(err, sink.ErrClosed):
			return &broken{what: "Handle says that a newer generation has taken over (ErrClosed), and there is none"}
		case sink.IsHalt(err):
			return &broken{what: fmt.Sprintf("Handle halts the function: %v", err)}
		case sink.IsPermanent(err) && count(jobs) == 1:
			only := slices.IndexFunc(jobs, func(j *job) bool { return len(j.items) == 1 })
			if err := g.refuse(jobs[only], 0, err); err != nil {
				return err
			}
			continue
		case count(jobs) > 1 && (sink.IsPermanent(err) || errors.Is(err, errLate) || errors.Is(err, errCut)):
			return g.halve(ctx, w, jobs)
		case injected && (errors.Is(err, errLost) || errors.Is(err, errLate) || errors.Is(err, errCut)):
			continue
		}
		if tries++; tries >= 8 && time.Since(began) > g.Patience {
			return &broken{what: fmt.Sprintf("Handle fails again and again, %d times in %s, though nothing is wrong any more, so its partition would stand still: %v. An event that can never be written is refused with functions.Permanent; then the rest goes on",
				tries, g.Patience, err)}
		}
		pause(ctx, min(time.Millisecond<<tries, 100*time.Millisecond))
	}
}

// call gives jobs to the handler once. Its memory is used again afterwards.
func (g *play) call(ctx context.Context, w *worker, jobs []*job, f fault) error {
	if jobs[0].sweep {
		return g.sweep(ctx, w, jobs, f)
	}
	b := functions.Batch{Function: g.Function, Generation: w.generation, Partitions: g.Partitions}
	var memory [][]byte
	for _, j := range jobs {
		events, m := g.events(g.source, j.items)
		b.Spans = append(b.Spans, functions.Span{Partition: j.partition, After: j.after, To: j.to, Events: events})
		memory = append(memory, m...)
	}
	limited, end := g.limit(ctx, f)
	err := g.guard(func() error { return w.handler.Handle(limited, b) })
	passed := end()
	if stuck := (*broken)(nil); errors.As(err, &stuck) {
		g.called(w, jobs, err, f, true)
		return err // and it still has the batch
	}
	for _, m := range memory {
		for i := range m {
			m[i] = '#'
		}
	}
	for _, s := range b.Spans {
		clear(s.Events)
	}
	if err == nil {
		g.accept(jobs)
	}
	return g.answer(w, jobs, f, err, passed)
}

// sweep lets the handler execute a t.
func (g *play) sweep(ctx context.Context, w *worker, jobs []*job, f fault) error {
	it := &g.source.items[jobs[0].items[0]]
	limited, end := g.limit(ctx, f)
	err := g.guard(func() error {
		return w.handler.(functions.Sweeper).Sweep(limited, functions.Sweep{
			Function: g.Function, Generation: w.generation, Schema: g.Table, Partition: it.partition, Partitions: g.Partitions, Older: it.version,
		})
	})
	return g.answer(w, jobs, f, err, end())
}

// answer is what the runtime hears of what a handler said.
func (g *play) answer(w *worker, jobs []*job, f fault, said error, passed bool) error {
	err := said
	switch {
	case f.lost && f.late:
		err = errLate
	case f.lost:
		err = errLost
	case err != nil && passed:
		err = errCut
	}
	g.called(w, jobs, said, f, passed)
	return err
}

// errCut is what a handler says whose deadline has passed.
var errCut = errors.New("the deadline passed")

// limit is the context of a call: it ends at the deadline, or where the fault says. end says whether it had passed.
func (g *play) limit(ctx context.Context, f fault) (context.Context, func() bool) {
	if f.cut {
		c := &cutContext{Context: ctx, looks: f.looks, pause: f.pause, until: time.Now().Add(g.Deadline), done: make(chan struct{})}
		return c, c.end
	}
	limited, cancel := context.WithTimeout(ctx, g.Deadline)
	return limited, func() bool {
		defer cancel()
		return limited.Err() != nil
	}
}

// guard calls a handler as a worker does: a panic is a refusal. It does not wait for ever.
func (g *play) guard(call func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- sink.Permanent(&panicked{fmt.Sprint(p), debug.Stack()})
			}
		}()
		done <- call()
	}()
	limit := time.NewTimer(g.Deadline + grace)
	defer limit.Stop()
	select {
	case err := <-done:
		return err
	case <-limit.C:
		return &broken{what: fmt.Sprintf("Handle has not returned %s after its deadline: give its context to everything that may wait", grace)}
	}
}

// grace is how long a handler may take to notice its deadline.
const grace = 5 * time.Second

type panicked struct {
	what  string
	stack []byte
}

func (p *panicked) Error() string { return "panic: " + p.what }

// accept notes what the handler says is durable.
func (g *play) accept(jobs []*job) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, j := range jobs {
		for _, i := range j.items {
			g.accepted[i] = true
		}
	}
}

// again claims partitions once more whose checkpoint is behind.
func (g *play) again(ctx context.Context, w *worker, jobs []*job, why error) error {
	g.mu.Lock()
	g.behind++
	behind := g.behind
	g.mu.Unlock()
	if behind > 20 {
		return &broken{what: fmt.Sprintf("Handle says again and again that the target's checkpoint is behind (ErrBehind), and the target was not restored: %v", why)}
	}
	for _, j := range jobs {
		if err := g.claim(ctx, w, j.partition); err != nil {
			return err
		}
	}
	return nil
}

// reduce keeps what a BatchError names, with what follows of the same keys. It says whether anything was refused.
func (g *play) reduce(jobs []*job, partial *functions.BatchError) (progress bool, err error) {
	never, again := make([]map[int]error, len(jobs)), make([]map[int]bool, len(jobs))
	named := make([]bool, len(jobs))
	for _, f := range partial.Failed {
		if f.Span < 0 || f.Span >= len(jobs) || f.Event < 0 || f.Event >= len(jobs[f.Span].items) {
			return false, &broken{what: fmt.Sprintf("a BatchError names event %d of span %d, which the batch does not have", f.Event, f.Span)}
		}
		if sink.IsHalt(f.Err) {
			return false, &broken{what: fmt.Sprintf("Handle halts the function: %v", f.Err)}
		}
		if never[f.Span] == nil {
			never[f.Span], again[f.Span] = map[int]error{}, map[int]bool{}
		}
		named[f.Span] = true
		if sink.IsPermanent(f.Err) {
			never[f.Span][f.Event] = f.Err
		} else {
			again[f.Span][f.Event] = true
		}
	}
	for n, j := range jobs {
		if !named[n] {
			j.durable()
			progress = true
			continue
		}
		var kept []int
		keys := map[string]bool{}
		for e, i := range j.items {
			if why := never[n][e]; why != nil {
				if err := g.refuse(j, e, why); err != nil {
					return false, err
				}
				progress = true
				continue
			}
			if key := g.source.items[i].key; again[n][e] || keys[key] {
				keys[key] = true
				kept = append(kept, i)
			}
		}
		if j.items = kept; len(kept) == 0 && !g.checkpoints() {
			j.durable()
		}
	}
	return progress, nil
}

// checkpoints: the target's checkpoint has to move too.
func (g *play) checkpoints() bool {
	_, ok := g.worker.handler.(functions.Checkpointer)
	return ok
}

// refuse makes an event a dead letter, if it is one that may be refused.
func (g *play) refuse(j *job, at int, why error) error {
	i := j.items[at]
	if it := g.source.items[i]; !it.poison {
		b := &broken{what: fmt.Sprintf("Handle refuses event %d for ever, and there is nothing wrong with it: %s", it.number, firstLine(why))}
		if p := (*panicked)(nil); errors.As(why, &p) {
			b.stack = string(p.stack)
		}
		return b
	}
	g.mu.Lock()
	g.refused[i] = true
	g.mu.Unlock()
	if len(j.items) == 1 && !g.checkpoints() {
		j.durable()
	} else if len(j.items) == 1 {
		j.items = nil
	}
	return nil
}

// halve writes jobs in two parts, one after the other.
func (g *play) halve(ctx context.Context, w *worker, jobs []*job) error {
	if len(jobs) > 1 {
		for _, part := range [][]*job{jobs[:len(jobs)/2], jobs[len(jobs)/2:]} {
			if err := g.deliver(ctx, w, part, fault{}); err != nil {
				return err
			}
		}
		return nil
	}
	j := jobs[0]
	middle := len(j.items) / 2
	last := j.items[middle-1]
	between := g.source.point(last)
	first := &job{lane: j.lane, partition: j.partition, after: j.after, to: between, until: g.source.items[last].place + 1, items: j.items[:middle]}
	if err := g.deliver(ctx, w, []*job{first}, fault{}); err != nil || j.lane.read != between {
		return err // or the checkpoint stood elsewhere, and reading goes on there
	}
	second := &job{lane: j.lane, partition: j.partition, after: between, to: j.to, until: j.until, items: j.items[middle:]}
	return g.deliver(ctx, w, []*job{second}, fault{})
}

func count(jobs []*job) int {
	n := 0
	for _, j := range jobs {
		n += len(j.items)
	}
	return n
}

// insist tries until it works, or patience is over.
func (r *runner) insist(ctx context.Context, try func(context.Context) error) error {
	for began, tries := time.Now(), 1; ; tries++ {
		limited, cancel := context.WithTimeout(ctx, r.Deadline)
		err := try(limited)
		cancel()
		if err == nil || sink.IsHalt(err) || sink.IsPermanent(err) || errors.Is(err, sink.ErrClosed) || ctx.Err() != nil || tries >= 8 && time.Since(began) > r.Patience {
			return err
		}
		pause(ctx, min(time.Millisecond<<tries, 100*time.Millisecond))
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// cutContext is a deadline that passes when the handler has looked at it so often.
type cutContext struct {
	context.Context
	until time.Time
	pause time.Duration
	done  chan struct{}

	mu    sync.Mutex
	looks int
	timer *time.Timer
	over  bool // closed
	cut   bool // before Handle returned
}

func (c *cutContext) Deadline() (time.Time, bool) { return c.until, true }

func (c *cutContext) Done() <-chan struct{} {
	c.look()
	return c.done
}

func (c *cutContext) Err() error {
	c.look()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return context.DeadlineExceeded
	}
	return nil
}

func (c *cutContext) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over || c.timer != nil:
	case c.looks > 0:
		c.looks--
	case c.pause == 0:
		c.close(true)
	default:
		c.timer = time.AfterFunc(c.pause, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.close(true)
		})
	}
}

func (c *cutContext) close(cut bool) {
	if !c.over {
		c.over, c.cut = true, cut
		close(c.done)
	}
}

// end ends it with the call, and says whether it had passed before.
func (c *cutContext) end() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.close(false)
	return c.cut
}
