package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// agents runs one capture agent for each source whose record says running, and follows the records: a source that is
// deployed, paused, resumed, changed or deleted needs no restart of the process.
type agents struct {
	session *session
	board   *board
	log     *slog.Logger
	only    []string  // sources; nil means all
	lone    bool      // an agent that must stop ends the process, as for `runnel capture`
	ways    pastFlags // if any, the first start of each source goes on past a gap, also where its record says halted

	running map[string]*agent
	ended   chan *agent
	passed  map[string]bool // under such an order: sources that have had their first start
	past    chan string     // and those that have just come there
	tasks   sync.WaitGroup
}

// agent is one that runs.
type agent struct {
	name   string
	spec   string
	again  bool // it goes past a gap
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done
}

// pause before an agent that failed is started again.
const pause = 5 * time.Second

// run blocks until ctx ends and all agents have drained. It returns stream.ErrFenced where another agent took over, and what
// stopped an agent that had never run, or any under lone.
func (a *agents) run(ctx context.Context) error {
	a.running, a.ended = map[string]*agent{}, make(chan *agent)
	a.passed, a.past = map[string]bool{}, make(chan string)
	inner, cancel := context.WithCancel(ctx)
	entries, watched := make(chan stream.Entry), make(chan error, 1)
	a.tasks.Go(func() { a.announce(inner) })
	a.tasks.Go(func() {
		watched <- a.session.registry.Sources.Watch(inner, ">", func(e stream.Entry) {
			select {
			case entries <- e:
			case <-inner.Done():
			}
		}, func() {})
	})
	err := a.follow(inner, entries, watched)
	cancel()
	for _, x := range a.running {
		if <-x.done; err == nil && x.err != nil {
			err = fmt.Errorf("source %s: %w", x.name, x.err)
		}
	}
	a.tasks.Wait()
	return err
}

func (a *agents) follow(ctx context.Context, entries <-chan stream.Entry, watched <-chan error) error {
	retry := make(chan string)
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case err = <-watched:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch the sources: %w", err)
		case e := <-entries:
			err = a.apply(ctx, e)
		case name := <-retry:
			if e := a.refresh(ctx, name); e != nil { // NATS is away
				a.log.Warn("cannot look at a source; it is tried again", "source", name, "error", e, "wait", pause)
				a.tasks.Go(func() { later(ctx, pause, retry, name) })
			}
		case name := <-a.past:
			a.passed[name] = true
			if e := revive(ctx, a.session.registry, []string{name}, nil); e != nil { // NATS is away
				a.log.Warn("cannot note that a source runs; it is tried again", "source", name, "error", e, "wait", pause)
				a.tasks.Go(func() { later(ctx, pause, a.past, name) })
			}
		case x := <-a.ended:
			if a.running[x.name] != x { // it was told to stop
				continue
			}
			delete(a.running, x.name)
			err = a.over(ctx, x)
			a.tasks.Go(func() { later(ctx, pause, retry, x.name) })
		}
		if err != nil {
			return err
		}
	}
}

func later(ctx context.Context, d time.Duration, c chan<- string, name string) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return
	}
	select {
	case c <- name:
	case <-ctx.Done():
	}
}

// refresh starts an agent that ended, if its record still says running.
func (a *agents) refresh(ctx context.Context, name string) error {
	e, err := a.session.registry.Sources.Get(ctx, name)
	switch {
	case errors.Is(err, stream.ErrNotFound) || ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("read source %s: %w", name, err)
	}
	return a.apply(ctx, e)
}

// apply brings the agent of a source in line with its record.
func (a *agents) apply(ctx context.Context, e stream.Entry) error {
	if a.only != nil && !slices.Contains(a.only, e.Key) {
		return nil
	}
	var record registry.SourceRecord
	if !e.Deleted {
		if err := json.Unmarshal(e.Value, &record); err != nil {
			return fmt.Errorf("record of source %s: %w", e.Key, err)
		}
	}
	now := a.running[e.Key]
	// Where the way past a gap begins, the record still says halted, so that agents without it do not take the slot first.
	again := a.ways.any() && !a.passed[e.Key]
	wanted := !e.Deleted && (record.State == registry.Running || again && record.State == registry.Halted)
	if now != nil && (!wanted || now.spec != record.Spec) {
		a.log.Info("stopping capture", "source", e.Key, "state", record.State, "reason", record.Reason)
		now.cancel()
		<-now.done
		delete(a.running, e.Key)
		now = nil
	}
	switch {
	case e.Deleted:
		a.board.forget(e.Key)
	case !wanted:
		a.board.source(e.Key, func(s *sourceLine) {
			s.State = capture.Stopped
			s.Reason = fmt.Sprintf("%s: %s", record.State, record.Reason)
			if record.State == registry.Paused {
				s.Reason, s.Detail = "", "paused"
			}
		})
	case now == nil:
		a.start(ctx, e.Key, record.Spec)
	}
	return nil
}

func (a *agents) start(ctx context.Context, name, spec string) {
	c, cancel := context.WithCancel(ctx)
	x := &agent{name: name, spec: spec, cancel: cancel, again: a.ways.any() && !a.passed[name], done: make(chan struct{})}
	a.running[name] = x
	a.board.source(name, func(s *sourceLine) { s.State, s.Detail, s.Reason, s.Changed = capture.Connecting, "", "", time.Now() })
	a.tasks.Go(func() {
		defer cancel()
		x.err = a.capture(c, x)
		close(x.done)
		select {
		case a.ended <- x:
		case <-ctx.Done():
		}
	})
}

// capture runs one agent until its context or an error ends it.
func (a *agents) capture(ctx context.Context, x *agent) error {
	spec, err := registry.ParseSource(x.name, x.spec)
	if err != nil {
		return err
	}
	source, err := newSource(spec, a.log.With("source", x.name))
	if err != nil {
		return err
	}
	st, done, err := a.session.stream(ctx, spec)
	if err != nil {
		return err
	}
	defer done()
	r := a.session.registry
	agent, err := capture.New(capture.Config{
		Source: x.name, Horizon: a.session.conn.Horizon(), Parallel: spec.Snapshot.Parallel, ChunkRows: spec.Snapshot.ChunkRows,
		Resnapshot: x.again && a.ways.resnapshot, FromOldest: x.again && a.ways.oldest, Log: a.log, Observer: a.observer(ctx, x),
		Backlog: func(ctx context.Context) (capture.Backlog, error) { return backlog(ctx, r, st, x.name) },
		Orders:  func(ctx context.Context) ([]registry.Pending, error) { return r.PendingBackfills(ctx, x.name) },
	}, source, st, r.Captures, r.Snapshots, r.Schemas)
	if err != nil {
		return err
	}
	var polled sync.WaitGroup
	if s, ok := source.(slotted); ok {
		polled.Go(func() { a.pollRetained(ctx, x.name, s) })
	}
	err = agent.Run(ctx)
	x.cancel()
	polled.Wait()
	return err
}

// observer is the board's, which also hears of an agent that has passed its gap.
func (a *agents) observer(ctx context.Context, x *agent) capture.Observer {
	o := a.board.agent(x.name)
	if !x.again {
		return o
	}
	told, first := o.State, sync.OnceFunc(func() {
		a.tasks.Go(func() {
			select {
			case a.past <- x.name:
			case <-ctx.Done():
			}
		})
	})
	o.State = func(state capture.State, detail string) {
		told(state, detail)
		if state == capture.Streaming {
			first()
		}
	}
	return o
}

// pollRetained asks the source now and then how much log the slot holds back.
func (a *agents) pollRetained(ctx context.Context, name string, source slotted) {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c, cancel := context.WithTimeout(ctx, 10*time.Second)
		slot, err := source.SlotStatus(c)
		cancel()
		if err == nil {
			a.board.source(name, func(s *sourceLine) { s.Retained = slot.Retained })
		}
	}
}

// over decides what an agent's end means: nothing, a halt that the record shows, another try, or the end of the process.
func (a *agents) over(ctx context.Context, x *agent) error {
	if x.err == nil || ctx.Err() != nil {
		return nil
	}
	a.board.source(x.name, func(s *sourceLine) { s.LastError = x.err.Error() })
	if errors.Is(x.err, stream.ErrFenced) {
		return x.err
	}
	_, ran, err := a.session.registry.CaptureOf(ctx, x.name)
	if err != nil { // NATS is away; an agent that is started once too often only fails again
		a.log.Warn("cannot read the record of a source", "source", x.name, "error", err)
		ran = true
	}
	act := needsOperator(x.err)
	if act {
		a.passed[x.name] = true // one try is what such an order stands for
		if err := a.session.registry.SetSourceState(ctx, x.name, registry.Halted, x.err.Error()); err != nil {
			a.log.Warn("cannot note that a source halts", "source", x.name, "error", err)
		}
	}
	switch {
	case !ran || a.lone:
		return fmt.Errorf("source %s: %w", x.name, x.err)
	case act:
		a.log.Error("capture halted; functions go on with what the stream holds", "source", x.name, "error", x.err, "then", "runnel resume "+x.name)
	default:
		a.log.Warn("capture failed and is tried again", "source", x.name, "error", x.err, "wait", pause)
	}
	return nil
}

// needsOperator says whether trying again is of no use.
func needsOperator(err error) bool {
	var gap *capture.GapError
	var setup *capture.SetupError
	var configuration interface{ Configuration() bool }
	return errors.As(err, &gap) || errors.As(err, &setup) || errors.As(err, &configuration)
}

// revive lets what halted before this start try again: a restart is the operator's word, as `runnel resume` is.
func revive(ctx context.Context, r *registry.Registry, sources []string, functions []string) error {
	for _, name := range sources {
		_, n, err := r.SourceOf(ctx, name)
		if err == nil && n.Record.State == registry.Halted {
			err = r.SetSourceState(ctx, name, registry.Running, "")
		}
		if err != nil {
			return err
		}
	}
	for _, name := range functions {
		_, n, err := r.FunctionOf(ctx, name)
		if err == nil && n.Record.State == registry.Halted {
			err = r.SetFunctionState(ctx, name, 0, registry.Running, "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}
