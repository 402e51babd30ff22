package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// writer hands batches to a function's handler until they are durable.
type writer struct {
	g     *generation
	queue chan *job // of a handler that combines; else lanes write by themselves
	done  chan struct{}
}

// job is a span on its way into the target. What of it is durable in order is moved from the span to the lane.
type job struct {
	lane     *lane
	span     sink.Span
	attempts int // how often what is left of the span was given to the handler
	refusals int // how many events of it were refused for good
	trailing int // how many of these stood behind all that is left
	err      error
	over     bool
	done     chan struct{}
}

func newWriter(g *generation) *writer {
	w := &writer{g: g}
	if _, combines := g.handler.(sink.Combiner); combines {
		w.queue, w.done = make(chan *job), make(chan struct{})
	}
	return w
}

// write returns when the span is durable, and the lane stands behind it. Other errors than ctx's are final for the lane:
// errLost, errStopped, errReopen, haltError.
func (w *writer) write(ctx context.Context, l *lane, s sink.Span) error {
	j := &job{lane: l, span: s}
	if w.queue == nil {
		w.deliver(ctx, []*job{j})
		return j.err
	}
	j.done = make(chan struct{})
	select {
	case w.queue <- j:
		<-j.done
		return j.err
	case <-ctx.Done():
		return ctx.Err()
	case <-w.done:
		return context.Canceled
	}
}

// combine writes the spans of all lanes that wait in one batch, and so on: while one is written, the next ones gather.
func (w *writer) combine(ctx context.Context) {
	defer close(w.done)
	for {
		var jobs []*job
		select {
		case <-ctx.Done():
			return
		case j := <-w.queue:
			jobs = append(jobs, j)
		}
		for more := true; more; {
			select {
			case j := <-w.queue:
				jobs = append(jobs, j)
			default:
				more = false
			}
		}
		all := append([]*job(nil), jobs...)
		w.deliver(ctx, jobs)
		for _, j := range all {
			close(j.done)
		}
	}
}

// deliver ends when each job is over: durable, or with an error.
func (w *writer) deliver(ctx context.Context, jobs []*job) {
	again := w.g.host.backoff()
	for patience := time.Duration(1); ; {
		tries := jobs[0].lane
		if err := w.g.breaker.enter(ctx, tries); err != nil {
			finish(jobs, err)
			return
		}
		now, later := w.ready(ctx, jobs)
		if len(later) > 0 || len(now) == 0 {
			w.g.breaker.abandon(tries)
			if len(now) > 0 {
				w.deliver(ctx, now)
			}
			if jobs = later; len(jobs) == 0 {
				return
			}
			continue
		}
		jobs = now
		err := w.handle(ctx, jobs, patience)
		w.g.breaker.leave(tries, away(jobs, err))
		if err == nil {
			for _, j := range jobs {
				j.durable()
			}
			return
		}
		if w.settle(ctx, jobs, err) {
			continue
		}
		for _, j := range jobs {
			if !j.over {
				w.g.health.failed(w.g, j.lane, err)
			}
		}
		if slow := (lateError{}); errors.As(err, &slow) && w.guarded() {
			patience = min(2*patience, mostPatience)
		}
		w.prove(ctx, jobs)
		if w.g.breaker.rest(ctx, again.next(err), asked(err)) != nil {
			finish(jobs, ctx.Err())
			return
		}
	}
}

// away is the error if it says that the target takes nothing, and nil where it gave an answer.
func away(jobs []*job, err error) error {
	var partial *sink.BatchError
	switch {
	case errors.As(err, &partial) && len(partial.Failed) < count(jobs):
		return nil
	case answered(err):
		return nil
	}
	return err
}

// answered says whether an error is the target's, or ours, about what is written.
func answered(err error) bool {
	return sink.IsPermanent(err) || sink.IsHalt(err) || errors.Is(err, sink.ErrBehind) || errors.Is(err, sink.ErrClosed)
}

// mostPatience is how many times the deadline a single event may take.
const mostPatience = 10

// guarded says that what comes late changes nothing in the target: it compares versions, or keeps the checkpoint. There an event
// that takes longer than the deadline, as a row of many megabytes may, gets more time at each try; it would else never be written.
func (w *writer) guarded() bool { return w.g.sweeper != nil || w.g.points != nil }

// prove settles what a batch in memory holds in full before it waits: retention may pass it meanwhile.
func (w *writer) prove(ctx context.Context, jobs []*job) {
	for _, j := range jobs {
		var h haltError
		if err := j.lane.prove(ctx, j.span.To.Sequence); !j.over && errors.As(err, &h) {
			j.finish(err)
		}
	}
}

// ready asks whether KV still gives this worker the right to write, for all lanes of a batch at the same time, and leaves out those
// that are over. By the time that the last one has its answer those of others may be too old: they come later, so that a write is
// over, for each of its lanes, before the lease is.
func (w *writer) ready(ctx context.Context, jobs []*job) (now, later []*job) {
	var asking sync.WaitGroup
	for _, j := range jobs {
		if !j.over && !j.lane.fresh() {
			asking.Go(func() {
				if err := w.confirm(ctx, j.lane); err != nil {
					j.finish(err)
				}
			})
		}
	}
	asking.Wait()
	for _, j := range jobs {
		switch {
		case j.over:
		case j.lane.fresh():
			now = append(now, j)
		default:
			later = append(later, j)
		}
	}
	return now, later
}

// fresh says whether KV was asked so lately that a write that begins now ends before the lease.
func (l *lane) fresh() bool {
	return time.Since(l.confirmed) <= l.host.cfg.Lease-l.host.cfg.WriteDeadline
}

// confirm insists on an answer.
func (w *writer) confirm(ctx context.Context, l *lane) error {
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := l.confirm(ctx)
		var h haltError
		if err == nil || errors.Is(err, errLost) || errors.Is(err, errStopped) || errors.As(err, &h) {
			return err
		}
		if sleep(ctx, w.g.host.cfg.RetryMin) != nil {
			return ctx.Err()
		}
	}
}

// handle is one try. It is not cut short when the worker stops: the batch is finished, within the deadline. One that gets more time
// than that is cut.
func (w *writer) handle(ctx context.Context, jobs []*job, patience time.Duration) error {
	b := sink.Batch{Function: w.g.f.name, Generation: w.g.record.Generation, Partitions: w.g.source.Partitions(), Spans: make([]sink.Span, len(jobs))}
	bytes := int64(0)
	most, filled := 0, false
	for i, j := range jobs {
		most, filled = max(most, len(j.span.Events)), filled || j.lane.filled
		b.Spans[i] = j.span
		j.attempts++
		for k := range j.span.Events {
			bytes += int64(len(j.span.Events[k].Line))
		}
	}
	limited, cancel := w.deadline(ctx)
	if patience > 1 {
		cancel()
		limited, cancel = context.WithTimeout(ctx, patience*w.g.host.cfg.WriteDeadline)
	}
	defer cancel()
	began := time.Now()
	failpoint.At(failpoint.WriteBefore)
	err := caught(func() error { return w.g.handler.Handle(limited, b) })
	failpoint.At(failpoint.WriteAfter)
	if err != nil {
		if limited.Err() != nil {
			w.g.size.took(most, false, time.Since(began))
		}
		return late(limited, err)
	}
	w.g.size.took(most, filled, time.Since(began))
	w.g.health.wrote(b.Len())
	if observe := w.g.host.cfg.Observer.Written; observe != nil && b.Len() > 0 {
		observe(w.g.f.name, b.Len(), bytes, time.Since(began))
	}
	return nil
}

func (w *writer) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), w.g.host.cfg.WriteDeadline)
}

// lateError is a write that did not end within its deadline.
type lateError struct{ error }

func (e lateError) Unwrap() error { return e.error }

func late(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return lateError{fmt.Errorf("the write did not end within its deadline: %w", err)}
	}
	return err
}

// settle decides what a failure means. It says whether the jobs go on without a pause: some are over, or became smaller.
func (w *writer) settle(ctx context.Context, jobs []*job, err error) bool {
	var partial *sink.BatchError
	var slow lateError
	switch {
	case errors.As(err, &partial) && len(partial.Failed) > 0:
		return w.reduce(ctx, jobs, partial)
	case errors.Is(err, sink.ErrBehind):
		finish(jobs, fmt.Errorf("%w: %w", errReopen, err))
	case errors.Is(err, sink.ErrClosed):
		finish(jobs, fmt.Errorf("%w: %w", errLost, err))
	case sink.IsHalt(err):
		finish(jobs, haltError{err})
	case sink.IsPermanent(err) && count(jobs) <= 1:
		w.poison(ctx, jobs, err)
	case sink.IsPermanent(err):
		w.halve(ctx, jobs, true)
	case errors.As(err, &slow) && count(jobs) > 1:
		w.halve(ctx, jobs, false)
	default:
		return false
	}
	return true
}

func (j *job) durable() {
	if len(j.span.Events) > 0 {
		j.lane.refused = j.trailing
	}
	j.lane.read = j.span.To
	j.over = true
	j.lane.g.health.works(j.lane.g, j.lane)
	failpoint.At(failpoint.WriteDurable)
}

func (j *job) finish(err error) { j.err, j.over = err, true }

func finish(jobs []*job, err error) {
	for _, j := range jobs {
		if !j.over {
			j.finish(err)
		}
	}
}

func count(jobs []*job) int {
	n := 0
	for _, j := range jobs {
		n += len(j.span.Events)
	}
	return n
}

// insist does something in the target for a lane until it works, with the same rules as a write. It returns sink.ErrClosed,
// sink.ErrBehind and haltErrors.
func (w *writer) insist(ctx context.Context, l *lane, try func(context.Context) error) error {
	return w.insistLong(ctx, l, func() error {
		if err := w.g.breaker.enter(ctx, l); err != nil {
			return err
		}
		err := w.confirm(ctx, l) // it may have waited
		if err != nil {
			w.g.breaker.abandon(l)
			return err
		}
		limited, cancel := w.deadline(ctx)
		defer cancel()
		if err = try(limited); answered(err) {
			w.g.breaker.leave(l, nil)
		} else {
			w.g.breaker.leave(l, err)
		}
		return err
	})
}

// insistElsewhere is insist for something that has nothing to do with the target.
func (w *writer) insistElsewhere(ctx context.Context, l *lane, try func(context.Context) error) error {
	return w.insistLong(ctx, l, func() error {
		limited, cancel := w.deadline(ctx)
		defer cancel()
		return try(limited)
	})
}

// insistLong is insist without a deadline, for what is harmless when it comes late.
func (w *writer) insistLong(ctx context.Context, l *lane, try func() error) error {
	again := w.g.host.backoff()
	for {
		if err := w.confirm(ctx, l); err != nil {
			return err
		}
		err := caught(try)
		switch {
		case err == nil:
			w.g.health.works(w.g, l)
			return nil
		case errors.Is(err, sink.ErrClosed) || errors.Is(err, sink.ErrBehind):
			return err
		case sink.IsHalt(err) || sink.IsPermanent(err):
			return haltError{err}
		case ctx.Err() != nil:
			return ctx.Err()
		}
		w.g.health.failed(w.g, l, err)
		if again.wait(ctx, err) != nil {
			return ctx.Err()
		}
	}
}
