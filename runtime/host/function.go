package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// function follows the record of one function: while it says running, a generation runs.
type function struct {
	host    *Host
	name    string
	log     *slog.Logger
	changed chan struct{}

	mu    sync.Mutex
	entry stream.Entry
	now   *generation // that runs
}

func newFunction(h *Host, e stream.Entry) *function {
	return &function{host: h, name: e.Key, entry: e, log: h.log.With("function", e.Key), changed: make(chan struct{}, 1)}
}

// update tells of a new record.
func (f *function) update(e stream.Entry) {
	f.mu.Lock()
	f.entry = e
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// record is the newest one; ok is false where there is none, or none that can be read: that counts as halted.
func (f *function) record() (registry.FunctionRecord, bool) {
	f.mu.Lock()
	e := f.entry
	f.mu.Unlock()
	var r registry.FunctionRecord
	if e.Deleted {
		return r, false
	}
	if err := json.Unmarshal(e.Value, &r); err != nil {
		return registry.FunctionRecord{State: registry.Halted, Reason: fmt.Sprintf("its record (revision %d) cannot be read: %v; delete it and deploy it again", e.Revision, err)}, false
	}
	return r, true
}

// run serves the function until ctx ends.
func (f *function) run(ctx context.Context) {
	told := registry.State("")
	for ctx.Err() == nil {
		r, ok := f.record()
		if ok {
			if why := f.elsewhere(r); why != "" {
				r, ok = registry.FunctionRecord{Reason: why}, false
			}
		}
		if r.State != told {
			told = r.State
			f.tell(r.State, r.Reason)
		}
		if ok && r.State == registry.Running {
			f.serve(ctx, r)
			continue
		}
		select {
		case <-ctx.Done():
		case <-f.changed:
		}
	}
}

// elsewhere says why this worker is not the one to host the function; "" where it is. A specification that cannot be read halts it, but
// for its handler: that one may be of a newer version of Runnel, which other workers run.
func (f *function) elsewhere(r registry.FunctionRecord) string {
	here := &registry.Worker{Labels: f.host.cfg.Labels, Handlers: f.host.cfg.Handlers}
	spec, err := registry.ParseFunction(f.name, r.Spec)
	switch handler := registry.HandlerOf(r.Spec); {
	case !here.Has(handler) && handler == "":
		return "its target is for runnel worker"
	case !here.Has(handler):
		return "it asks for workers with the handler " + handler
	case err == nil && !here.Fits(spec):
		return "it asks for workers with other labels"
	}
	return ""
}

func (f *function) tell(s registry.State, reason string) {
	what := s
	if s == "" {
		what = "deleted"
		if reason != "" {
			what = "placed on other workers"
		}
	}
	f.log.Info("function is "+string(what), "reason", reason)
	if observe := f.host.cfg.Observer.State; observe != nil {
		observe(f.name, s, reason)
	}
}

// serve runs one generation until its record changes, ctx ends or it halts.
func (f *function) serve(ctx context.Context, r registry.FunctionRecord) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	g := newGeneration(f, r)
	f.mu.Lock()
	f.now = g
	f.mu.Unlock()
	ended := make(chan error, 1)
	go func() { ended <- g.run(running) }()
	for {
		select {
		case err := <-ended:
			f.clear()
			var h haltError
			if errors.As(err, &h) {
				f.halt(ctx, r, h.Error())
			}
			return
		case <-f.changed:
			if now, ok := f.record(); ok && same(now, r) {
				continue
			}
			stop()
			if err := <-ended; err != nil {
				f.log.Info("generation stopped", "reason", err)
			}
			f.clear()
			return
		}
	}
}

func (f *function) clear() {
	f.mu.Lock()
	f.now = nil
	f.mu.Unlock()
}

func same(a, b registry.FunctionRecord) bool {
	return a.Spec == b.Spec && a.Version == b.Version && a.Generation == b.Generation && a.State == b.State
}

// halt writes down why, and waits until this is seen, or something newer.
func (f *function) halt(ctx context.Context, r registry.FunctionRecord, reason string) {
	f.log.Error("function halts", "reason", reason)
	bucket := f.host.cfg.World.Bucket(registry.BucketFunctions)
	for {
		e, err := bucket.Get(ctx, f.name)
		var now registry.FunctionRecord
		if err == nil {
			err = json.Unmarshal(e.Value, &now)
		}
		switch {
		case errors.Is(err, stream.ErrNotFound):
			f.update(stream.Entry{Key: f.name, Revision: e.Revision, Deleted: true})
			return
		case err == nil && (!same(now, r) || now.LastBackfill() != r.LastBackfill()): // which may heal it
			f.update(e)
			return
		case err == nil:
			now.State, now.Reason, now.Updated = registry.Halted, reason, time.Now().UTC()
			value := encode(now)
			if e.Revision, err = bucket.Swap(ctx, f.name, value, e.Revision); err == nil {
				e.Value = value
				f.halted(e)
				return
			}
		}
		f.log.Warn("cannot note that the function halts; it stays halted here, and it is tried again", "error", err)
		if sleep(ctx, time.Second) != nil {
			return
		}
	}
}

// halted is an update with what halt has written. The watch says it too, and may have gone on to what was written after it.
func (f *function) halted(e stream.Entry) {
	f.mu.Lock()
	newer := f.entry.Revision > e.Revision
	f.mu.Unlock()
	if !newer {
		f.update(e)
	}
}

// status of the function; hosted is false where it does not run here.
func (f *function) status(since time.Duration) (s registry.FunctionStatus, hosted bool) {
	f.mu.Lock()
	g := f.now
	f.mu.Unlock()
	if g == nil {
		return s, false
	}
	return g.status(since), true
}

// haltError stops a function until an operator acts.
type haltError struct{ err error }

func (h haltError) Error() string { return h.err.Error() }
func (h haltError) Unwrap() error { return h.err }
