package host

import (
	"context"
	"sync"
	"time"
)

// breaker keeps a generation's lanes from trying a target that is away all at once. After failures without a success in between it
// opens: then one lane at a time tries one batch, and again only after a pause, which grows, with jitter. The first answer closes
// it, and all go on. A lane that has not failed since may try at once: perhaps only a part of the target is away, and not its own.
type breaker struct {
	again *pause

	mu      sync.Mutex
	fails   int // in a row
	open    bool
	prober  *lane     // that tries at the moment
	due     bool      // since it was time, and not because it had not tried before
	next    time.Time // when the next one may try
	tried   map[*lane]bool
	changed chan struct{} // closed at a change
}

// opening is how many failures in a row open it.
const opening = 2

func newBreaker(again *pause) *breaker { return &breaker{again: again, changed: make(chan struct{})} }

// enter returns when a lane may try.
func (b *breaker) enter(ctx context.Context, l *lane) error {
	for {
		b.mu.Lock()
		wait := time.Until(b.next)
		if !b.open {
			b.mu.Unlock()
			return nil
		}
		if b.prober == nil && (wait <= 0 || !b.tried[l]) {
			b.prober, b.due = l, wait <= 0
			b.mu.Unlock()
			return nil
		}
		if b.prober != nil {
			wait = time.Hour // it ends with a change
		}
		changed := b.changed
		b.mu.Unlock()
		if err := either(ctx, wait, changed); err != nil {
			return err
		}
	}
}

// leave tells how a try of a lane ended: failed is what says that the target is away, nil any answer.
func (b *breaker) leave(l *lane, failed error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if failed == nil {
		if b.fails = 0; b.open {
			b.open, b.prober, b.tried = false, nil, nil
			b.tell()
		}
		return
	}
	b.fails++
	due := b.prober == l && b.due
	if !b.open && b.fails >= opening {
		b.open, b.tried, due = true, map[*lane]bool{}, true
		b.again.reset()
	}
	if !b.open {
		return
	}
	if b.tried[l] = true; due {
		b.next = time.Now().Add(b.again.next(failed))
	}
	b.step(l)
}

// abandon is leave of a lane that did not try.
func (b *breaker) abandon(l *lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.step(l)
}

// step lets others try after a lane did.
func (b *breaker) step(l *lane) {
	if b.prober == l {
		b.prober = nil
		b.tell()
	}
}

// tell is called with the lock held.
func (b *breaker) tell() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// rest is the pause of a lane that has failed: it ends early when another one found that the target answers, but not before what the
// target itself asked for.
func (b *breaker) rest(ctx context.Context, d, asked time.Duration) error {
	if err := sleep(ctx, asked); err != nil {
		return err
	}
	end := time.Now().Add(d - asked)
	for {
		b.mu.Lock()
		open, changed := b.open, b.changed
		b.mu.Unlock()
		wait := time.Until(end)
		if wait <= 0 {
			return nil
		}
		if err := either(ctx, wait, changed); err != nil {
			return err
		}
		b.mu.Lock()
		closed := open && !b.open
		b.mu.Unlock()
		if closed {
			return nil
		}
	}
}

// either waits for a time or a change.
func either(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-t.C:
	}
	return nil
}
