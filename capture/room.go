package capture

import (
	"context"
	"sync"
	"time"
)

// Backlog is what the slowest function that works has not read of the stream.
type Backlog struct {
	Function string
	Unread   uint64 // bytes
	Limit    uint64 // bytes that the stream may hold; 0 = any number
}

// tooMuch leaves the other half of the stream to the log, which waits for nobody.
func (b Backlog) tooMuch() bool { return b.Limit > 0 && b.Unread > b.Limit/2 }

// asking is how often it is asked for while a load goes on.
const asking = time.Second

// room keeps loads from pushing out of the stream what functions have not read.
type room struct {
	mu    sync.Mutex
	asked time.Time
	slow  string // the function that loads wait for
}

// wait returns once rows may be published. Where the backlog cannot be read it does not wait: that must not stop a load.
func (r *room) wait(ctx context.Context, a *Agent) error {
	if a.cfg.Backlog == nil {
		return nil
	}
	for r.ask(ctx, a) {
		if !sleep(ctx, asking) {
			return ctx.Err()
		}
	}
	return nil
}

// ask says whether to wait, and tells when that changes.
func (r *room) ask(ctx context.Context, a *Agent) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked.IsZero() && time.Since(r.asked) < asking {
		return r.slow != ""
	}
	b, err := a.cfg.Backlog(ctx)
	r.asked = time.Now()
	slow := ""
	switch {
	case err != nil && ctx.Err() != nil:
		return true
	case err != nil:
		a.cfg.Log.Warn("cannot see how far the functions have read, the load goes on", "source", a.cfg.Source, "error", err)
	case b.tooMuch():
		slow = b.Function
	}
	if slow == r.slow {
		return slow != ""
	}
	r.slow = slow
	if slow != "" {
		a.cfg.Log.Warn("the load waits for a function: more than half of what the stream may hold is not read yet",
			"source", a.cfg.Source, "function", slow, "unread_bytes", b.Unread, "max_bytes", b.Limit)
	} else {
		a.cfg.Log.Info("the load goes on", "source", a.cfg.Source)
	}
	if f := a.cfg.Observer.Waiting; f != nil {
		f(slow)
	}
	return slow != ""
}
