package host

import (
	"context"
	"math"

	"golang.org/x/time/rate"
)

// pace bounds how many events a second a generation gives to its target (`rate`). Each worker keeps to the share of the partitions
// that it owns, so all of them together keep to the whole.
type pace struct {
	perSecond float64
	limiter   *rate.Limiter
}

// newPace makes one; nil where there is no limit.
func newPace(perSecond float64) *pace {
	if perSecond <= 0 {
		return nil
	}
	p := &pace{perSecond: perSecond}
	p.limiter = rate.NewLimiter(rate.Limit(perSecond), p.rows())
	return p
}

// rows is what a batch may have: a quarter of a second's worth.
func (p *pace) rows() int {
	return int(min(math.Max(p.perSecond/4, 1), math.MaxInt32))
}

// limit bounds the rows of a batch.
func (p *pace) limit(rows int) int {
	if p == nil {
		return rows
	}
	return min(rows, p.rows())
}

// wait returns when so many events may go on, for a worker that owns a share of the partitions.
func (p *pace) wait(ctx context.Context, events int, share float64) error {
	if p == nil {
		return nil
	}
	p.limiter.SetLimit(rate.Limit(p.perSecond * share))
	for most := p.rows(); events > 0; events -= most {
		if err := p.limiter.WaitN(ctx, min(events, most)); err != nil {
			return context.Cause(ctx) // the only way in which it fails: n is at most the burst
		}
	}
	return nil
}

// ownedShare is how much of the partitions this worker owns.
func (g *generation) ownedShare() float64 {
	g.mu.Lock()
	lanes := g.lanes
	g.mu.Unlock()
	owned := 0
	for _, l := range lanes {
		if l.owned.Load() {
			owned++
		}
	}
	return float64(max(owned, 1)) / float64(max(len(lanes), 1))
}
