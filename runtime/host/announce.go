package host

import (
	"context"
	"os"
	"time"

	"github.com/runnel-dev/runnel/runtime/registry"
)

// introduce announces the worker for the first time: a record that names a worker that nobody ever saw is free to take.
// It says whether that was done before ctx ended.
func (h *Host) introduce(ctx context.Context) bool {
	for ctx.Err() == nil {
		err := h.put(ctx, nil)
		if err == nil {
			return true
		}
		h.log.WarnContext(ctx, "cannot announce this worker; it is tried again", "error", err)
		_ = sleep(ctx, time.Second) // the loop sees why
	}
	return false
}

// every is how often the announcement is renewed.
func (h *Host) every() time.Duration { return min(h.cfg.Lease/4, time.Second) }

// tell has the announcement renewed at once: others wait for what has changed.
func (h *Host) tell() {
	select {
	case h.changes <- struct{}{}:
	default:
	}
	h.notice()
}

// announce renews the announcement, with the functions' status, and tells the observer of their lag; and at once when partitions
// come or go.
func (h *Host) announce(ctx context.Context) {
	tick := time.NewTicker(h.every())
	defer tick.Stop()
	last := time.Now()
	status := map[string]registry.FunctionStatus{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.changes:
			if sleep(ctx, min(h.every()/50, gather)) != nil {
				return
			}
			_ = h.put(ctx, status) // else the next tick does
			continue
		case <-tick.C:
		}
		now := time.Now()
		status = map[string]registry.FunctionStatus{}
		for name, f := range h.known() {
			s, hosted := f.status(now.Sub(last))
			if !hosted {
				continue
			}
			status[name] = s
			if h.cfg.Observer.Lag != nil {
				h.cfg.Observer.Lag(name, s.Backlog, s.LagSeconds)
			}
		}
		last = now
		if err := h.put(ctx, status); err != nil && ctx.Err() == nil {
			h.log.WarnContext(ctx, "cannot announce this worker; others may take its partitions", "error", err)
		}
	}
}

// gather is how long changes of what a worker owns are gathered before they are announced.
const gather = 10 * time.Millisecond

func (h *Host) put(ctx context.Context, status map[string]registry.FunctionStatus) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Lease/2)
	defer cancel()
	name, _ := os.Hostname()
	_, err := h.cfg.World.Bucket(registry.BucketWorkers).Put(ctx, h.instance, encode(registry.Worker{
		Host: name, PID: os.Getpid(), Space: processSpace(), Started: started,
		Functions: h.cfg.Functions, Handlers: h.cfg.Handlers, Labels: h.cfg.Labels, Leaving: h.leaving.Load(), Owns: h.owns(), Status: status,
	}))
	return err
}

// farewell withdraws the announcement, so that nobody waits for the lease.
func (h *Host) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	bucket := h.cfg.World.Bucket(registry.BucketWorkers)
	if e, err := bucket.Get(ctx, h.instance); err == nil {
		_ = bucket.Delete(ctx, h.instance, e.Revision) // else its time to live does
	}
}

var started = time.Now()
