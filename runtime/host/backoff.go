package host

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// pause grows from one failure to the next, with jitter.
type pause struct{ b *backoff.ExponentialBackOff }

func (h *Host) backoff() *pause {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = h.cfg.RetryMin, h.cfg.RetryMax
	b.Reset()
	return &pause{b}
}

func (p *pause) reset() { p.b.Reset() }

// wait sleeps, at least as long as the error asks for.
func (p *pause) wait(ctx context.Context, err error) error { return sleep(ctx, p.next(err)) }

// next is how long to wait.
func (p *pause) next(err error) time.Duration { return max(p.b.NextBackOff(), asked(err)) }

// asked is how long the error asks to wait.
func asked(err error) time.Duration {
	var asks interface{ RetryAfter() time.Duration }
	if errors.As(err, &asks) {
		return asks.RetryAfter()
	}
	return 0
}
