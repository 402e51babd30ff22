package host

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// Balancing. Each worker announces what it is ready for and which partitions it has. From that all compute the same shares
// (share.go). Whoever has a partition that is another one's share hands it over: it finishes the batch, moves the floor, releases,
// and announces that, which wakes the other one up. One partition at a time: the next one follows when the last one has arrived. A
// partition that nobody has is taken by whose share it is; by anybody, where that one does not come.
//
// None of it matters for safety: a partition belongs to whom its record names.

// Times of balancing, in parts of the lease.
const (
	settling    = 5  // so long the workers must be the same before a partition moves: several often come or go together
	joining     = 10 // so long a function that starts leaves room for workers that start it too
	arriving    = 2  // so long a partition that was handed over may take to arrive
	distrusting = 6  // so many leases long nothing is handed to a worker that let one lie, and no move is tried again that did not end
)

// generationKey names the generation among all that run, as the keys of its partitions' records begin.
func generationKey(function string, generation int64) string {
	return function + "." + strconv.FormatInt(generation, 10)
}

// enter makes a generation known whose lanes are about to start, once it is known who else lives.
func (h *Host) enter(ctx context.Context, g *generation) {
	select {
	case <-h.presence.ready:
	case <-ctx.Done():
	}
	g.entered = time.Now()
	h.mu.Lock()
	h.ready[g.key] = g
	h.mu.Unlock()
	g.balance()
	h.tell()
}

func (h *Host) exit(g *generation) {
	h.mu.Lock()
	delete(h.ready, g.key)
	h.mu.Unlock()
	h.tell()
}

func (h *Host) generations() []*generation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.ready))
}

// owns is what this worker announces: its partitions of every generation that it is ready for.
func (h *Host) owns() map[string][]int {
	owns := map[string][]int{}
	for _, g := range h.generations() {
		owned := []int{}
		for _, l := range g.all() {
			if l.owned.Load() {
				owned = append(owned, l.partition)
			}
		}
		owns[g.key] = owned
	}
	return owns
}

// all are the generation's lanes.
func (g *generation) all() []*lane {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lanes
}

// balance computes the shares anew, and wakes the lanes that wait where they changed.
func (g *generation) balance() {
	now := time.Now()
	lanes := g.all()
	if !g.share.set(g.f.name, len(lanes), g.members(now), now) {
		return
	}
	for _, l := range lanes {
		l.wake()
	}
}

// members are the workers among which the generation's partitions are shared.
func (g *generation) members(now time.Time) []string {
	record, _ := g.f.record()
	var members []string
	if !g.host.leaving.Load() {
		members = append(members, g.host.instance)
	}
	starts := now.Sub(g.entered) < g.host.cfg.Lease/joining
	fresh := g.host.presence.fresh(now, 3*g.host.every())
	for instance, w := range g.host.presence.living(now) {
		if instance == g.host.instance || w.Leaving {
			continue
		}
		_, ready := w.Owns[g.key]
		_, lives := fresh[instance]
		if ready || starts && lives && w.Fits(g.spec) {
			members = append(members, instance)
		}
	}
	return bounded(g.f.name, record.Workers, members)
}

// heard is told what a worker announced, if that differs from what it said before.
func (h *Host) heard(was, now registry.Worker) {
	for _, g := range h.generations() {
		g.balance()
		left := was.Owns[g.key]
		if len(left) == 0 {
			continue
		}
		for _, l := range g.all() {
			if slices.Contains(left, l.partition) && !slices.Contains(now.Owns[g.key], l.partition) {
				l.wake() // it is free
			}
		}
	}
	h.notice()
}

// notice wakes who waits for a partition to arrive.
func (h *Host) notice() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// balance sees to it until ctx ends that who ended, or is not heard of any more, does not count.
func (h *Host) balance(ctx context.Context) {
	for sleep(ctx, h.cfg.Lease/20) == nil {
		h.presence.bury()
		for _, g := range h.generations() {
			g.balance()
		}
	}
}

// handOver gives away what is others' share until ctx ends, one partition at a time.
func (h *Host) handOver(ctx context.Context) {
	distrusted := map[string]time.Time{} // workers that let one lie, until when
	for {
		l, to := h.surplus(distrusted)
		if l == nil {
			if sleep(ctx, h.cfg.Lease/100) != nil {
				return
			}
			continue
		}
		failpoint.At(failpoint.MoveBefore)
		l.handOver(to)
		arrived := h.arrives(ctx, l, to)
		if ctx.Err() != nil { // the lane may still be in the midst of a write
			return
		}
		if arrived {
			continue
		}
		again := time.Now().Add(distrusting * h.cfg.Lease)
		if l.owned.Load() { // it may be in the midst of a sweep, which takes as long as a table is large; others need not wait for it
			l.stuck = again
			continue
		}
		l.log.WarnContext(ctx, "a partition was handed over and has not arrived; its worker gets no other one for a while", "worker", to)
		distrusted[to] = again
	}
}

// surplus is a partition that should be another worker's, one that was heard of just now.
func (h *Host) surplus(distrusted map[string]time.Time) (*lane, string) {
	now := time.Now()
	living := h.presence.fresh(now, 3*h.every())
	generations := h.generations()
	rand.Shuffle(len(generations), func(i, j int) { generations[i], generations[j] = generations[j], generations[i] })
	for _, g := range generations {
		if !g.share.settled(now, h.cfg.Lease/settling) {
			continue
		}
		for _, l := range g.all() {
			to := g.share.of(l.partition)
			if !l.owned.Load() || to == "" || to == h.instance || now.Before(distrusted[to]) || now.Before(l.stuck) {
				continue
			}
			if _, ready := living[to].Owns[g.key]; ready {
				return l, to
			}
		}
	}
	return nil, ""
}

// arrives waits until the partition has left here and a worker announces it. That it goes elsewhere, or is wanted here again, is as
// good.
func (h *Host) arrives(ctx context.Context, l *lane, to string) bool {
	over := time.NewTimer(h.cfg.Lease / arriving)
	defer over.Stop()
	for {
		if !l.owned.Load() {
			w, lives := h.presence.living(time.Now())[to]
			if !lives || slices.Contains(w.Owns[l.g.key], l.partition) || l.g.share.of(l.partition) != to {
				return true
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-h.news:
		case <-over.C:
			return false
		}
	}
}
