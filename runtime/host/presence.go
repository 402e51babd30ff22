package host

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// presence knows which workers live. A worker is gone when nothing was heard of it for the lease, by this process's own
// clock, when it withdrew its announcement, or when it was a process of this machine that has ended.
type presence struct {
	bucket  Bucket
	lease   time.Duration
	changed func(was, now registry.Worker) // what a worker says, beside its status; of one that is gone now is nothing
	ready   chan struct{}                  // closed once all that was announced before is known
	mu      sync.Mutex
	heard   map[string]announcement
}

type announcement struct {
	revision uint64
	at       time.Time
	worker   registry.Worker // without its status
}

func newPresence(b Bucket, lease time.Duration, changed func(was, now registry.Worker)) *presence {
	return &presence{bucket: b, lease: lease, changed: changed, ready: make(chan struct{}), heard: map[string]announcement{}}
}

func (p *presence) watch(ctx context.Context, log *slog.Logger) {
	ready := sync.OnceFunc(func() { close(p.ready) })
	for ctx.Err() == nil {
		err := p.bucket.Watch(ctx, ">", p.hear, ready)
		if ctx.Err() != nil {
			return
		}
		log.WarnContext(ctx, "watching workers begins again", "error", err)
		if sleep(ctx, time.Second) != nil {
			return
		}
	}
}

func (p *presence) hear(e stream.Entry) {
	var w registry.Worker
	gone := e.Deleted || json.Unmarshal(e.Value, &w) == nil && ended(w)
	w.Status = nil
	p.mu.Lock()
	was := p.heard[e.Key].worker
	if gone {
		w = registry.Worker{}
		delete(p.heard, e.Key)
	} else {
		p.heard[e.Key] = announcement{e.Revision, time.Now(), w}
	}
	p.mu.Unlock()
	if !reflect.DeepEqual(was, w) {
		p.changed(was, w)
	}
}

// living are the workers that were heard of within the lease.
func (p *presence) living(now time.Time) map[string]registry.Worker { return p.fresh(now, p.lease) }

// fresh are the workers that were heard of within some time.
func (p *presence) fresh(now time.Time, within time.Duration) map[string]registry.Worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := make(map[string]registry.Worker, len(p.heard))
	for instance, a := range p.heard {
		if now.Sub(a.at) < within {
			m[instance] = a.worker
		}
	}
	return m
}

// bury forgets the workers that were processes of this machine and have ended since they were heard of.
func (p *presence) bury() {
	p.mu.Lock()
	var gone []registry.Worker
	for instance, a := range p.heard {
		if ended(a.worker) {
			gone = append(gone, a.worker)
			delete(p.heard, instance)
		}
	}
	p.mu.Unlock()
	for _, w := range gone {
		p.changed(w, registry.Worker{})
	}
}

// gone asks whether an owner of a partition is gone.
func (p *presence) gone(ctx context.Context, instance string) (bool, error) {
	if instance == "" {
		return true, nil
	}
	p.mu.Lock()
	last, known := p.heard[instance]
	p.mu.Unlock()
	if known && ended(last.worker) { // since it was heard
		return true, nil
	}
	if known && time.Since(last.at) < p.lease {
		return false, nil
	}
	e, err := p.bucket.Get(ctx, instance)
	if errors.Is(err, stream.ErrNotFound) {
		return true, nil // it announced itself before it owned anything
	}
	if err != nil {
		return false, err
	}
	if known && e.Revision == last.revision {
		return true, nil // silent for the lease; else our own watch was
	}
	p.hear(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, lives := p.heard[instance]
	return !lives, nil
}

// processSpace names what process numbers mean: this boot of this machine, and the namespace in it.
var processSpace = sync.OnceValue(func() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "/" + namespace
})

// ended says whether a worker surely ended: its process number means the same here as there, and it is free or ours.
// A process that took the number over only makes the lease decide.
func ended(w registry.Worker) bool {
	if w.Space == "" || w.Space != processSpace() {
		return false
	}
	if w.PID == os.Getpid() {
		return w.Started.UnixMilli() != started.UnixMilli()
	}
	return errors.Is(syscall.Kill(w.PID, 0), syscall.ESRCH)
}
