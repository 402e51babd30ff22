package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
)

const (
	tick         = 5 * time.Millisecond // how long a message may be held back, and how often timeouts are looked at
	ackTimeout   = time.Second          // without an acknowledgement; doubles up to ackMost while nothing is stored, for slow networks
	ackMost      = 30 * time.Second
	stallAfter   = 2 * time.Second // without progress
	lookTimeout  = 3 * time.Second // doubles while looking fails
	rewoundFor   = time.Second     // a new leader may answer from the past for a moment
	rewoundReads = 3
)

// keeper is what the chain's goroutine remembers between two events.
type keeper struct {
	*Chain
	moved    time.Time     // when something was stored last, or began to wait for that
	progress time.Time     // the same, or when it was sent again
	timeout  time.Duration // of acknowledgements
	failures int           // recoveries since something was stored
}

func (c *Chain) run(ctx context.Context) {
	k := &keeper{Chain: c, timeout: ackTimeout, progress: time.Now(), moved: time.Now()}
	err := k.loop(ctx)
	if ctx.Err() != nil && !errors.Is(err, ErrFenced) && !errors.Is(err, ErrRewound) {
		err = ErrClosed
	}
	c.mu.Lock()
	c.err = err
	l := c.link
	c.link = nil
	c.waiters++ // so that all wake
	c.broadcast()
	c.mu.Unlock()
	if l != nil {
		l.abort()
	}
	close(c.failed)
}

// loop takes acknowledgements and repairs what goes wrong, until a final error or ctx.
func (k *keeper) loop(ctx context.Context) error {
	l, err := k.reconnect(ctx, nil, nil)
	if err != nil {
		return err
	}
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		var trouble error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-l.answers:
			trouble = k.answer(m)
		case <-l.closed:
			trouble = k.lost(l)
		case <-k.kick:
			k.progress, k.moved = time.Now(), time.Now()
			timer.Reset(tick)
		case <-timer.C:
			busy, late := k.tick()
			if busy {
				timer.Reset(tick)
			}
			if late {
				if trouble, err = k.late(ctx); err != nil {
					return err
				}
			}
		}
		if trouble != nil {
			if l, err = k.reconnect(ctx, l, trouble); err != nil {
				return err
			}
			timer.Reset(tick)
		}
	}
}

// tick sends what was held back since the last one, and says whether something is in flight and whether it is overdue.
func (k *keeper) tick() (busy, late bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.window.empty() {
		return false, false
	}
	if k.held == k.window.sent {
		k.sendHeld(true)
	}
	k.held = k.window.sent
	return true, time.Since(k.progress) > k.timeout
}

// answer takes one answer of JetStream. Any trouble means that the chain is broken from there on.
func (k *keeper) answer(m *nats.Msg) error {
	a, err := parseAck(m)
	switch {
	case err != nil:
		return err
	case a.duplicate:
		return fmt.Errorf("JetStream took message %d for a duplicate", a.sequence)
	case a.sequence > k.Sent():
		return fmt.Errorf("JetStream stored message %d, which was not sent", a.sequence)
	}
	k.advance(a.sequence)
	failpoint.At(failpoint.ChainStored)
	return nil
}

// advance notes that everything up to a sequence is stored.
func (k *keeper) advance(sequence uint64) {
	k.mu.Lock()
	if sequence <= k.window.stored {
		k.mu.Unlock()
		return
	}
	k.window.drop(sequence)
	k.wired, k.asked = max(k.wired, sequence), max(k.asked, sequence)
	k.broadcast()
	k.mu.Unlock()
	k.progress, k.moved, k.timeout, k.failures = time.Now(), time.Now(), ackTimeout, 0
	k.stalled(nil)
	if k.options.Stored != nil {
		k.options.Stored(sequence)
	}
}

// lost says why a link is gone.
func (k *keeper) lost(l *link) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken != nil {
		return k.broken
	}
	if err := l.nc.LastError(); err != nil {
		return err
	}
	return nats.ErrDisconnected
}

// late is called where no acknowledgement came in time: trouble means that nothing was stored either. On a slow network
// things are just on their way, and sending them again would only add to that.
func (k *keeper) late(ctx context.Context) (trouble, final error) {
	before := k.Stored()
	err := k.look(ctx)
	switch {
	case errors.Is(err, ErrFenced):
		return nil, err
	case err == nil && k.Stored() > before:
		return nil, nil
	}
	k.timeout = min(2*k.timeout, ackMost)
	if err == nil {
		err = errSilent
	}
	return err, nil
}

var errSilent = errors.New("the stream's leader answers reads but acknowledges nothing; if that lasts look at the server's log and disk: " +
	"out of space JetStream takes nothing until its server is started again")

func isFinal(err error) bool { return errors.Is(err, ErrFenced) || errors.Is(err, ErrRewound) }

// reconnect makes a new link, and sends on it what is not stored: the same messages, byte for byte. Only a chain's first
// link carries on without looking first.
func (k *keeper) reconnect(ctx context.Context, old *link, trouble error) (*link, error) {
	k.mu.Lock()
	k.link, k.broken = nil, nil
	k.mu.Unlock()
	if old != nil {
		old.abort()
	}
	first := old == nil
	var rewound rewoundSince
	for {
		if k.failures > 0 {
			pause(ctx, min(retryFirst<<min(k.failures, 10), time.Second))
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if k.s.conn.NC.IsClosed() {
			return nil, fmt.Errorf("publish to stream %s: %w", k.s.name, nats.ErrConnectionClosed)
		}
		k.failures++
		if trouble != nil && (time.Since(k.moved) > stallAfter || k.s.conn.trouble() != nil) {
			k.stalled(k.why(trouble))
		}
		if !first {
			if trouble = k.look(ctx); rewound.unsure(trouble) {
				continue
			}
			if isFinal(trouble) {
				return nil, trouble
			}
			if trouble != nil {
				continue
			}
			if err := k.holds(ctx); err != nil {
				return nil, err
			}
		}
		l, err := k.s.conn.openLink(ctx)
		if err == nil {
			if err = k.resend(l); err == nil {
				return l, nil
			}
			l.abort()
		}
		trouble, first = err, false
	}
}

// look asks the leader what is stored, and forgets it. Errors: ErrFenced, ErrRewound, or one that passes.
func (k *keeper) look(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, lookTimeout<<min(max(k.failures-1, 0), 5))
	defer cancel()
	info, err := k.s.conn.streamInfo(bounded, k.s.name)
	if errors.Is(err, ErrNoStream) {
		return fmt.Errorf("%w: stream %s was deleted", ErrRewound, k.s.name)
	}
	if err != nil {
		return err
	}
	last := info.State.LastSeq
	stored, sent := k.Stored(), k.Sent() // now: Publish went on meanwhile
	if last < stored {
		return fmt.Errorf("%w: stream %s ends at %d, but %d was acknowledged", ErrRewound, k.s.name, last, stored)
	}
	// Every writer begins with a fence. Its markers are small, the last message may be huge: it is read only where retention
	// took this writer's own fence.
	marker, err := k.s.conn.get(bounded, k.s.name, selector{LastOn: event.FenceSubject(k.s.source)})
	if errors.Is(err, ErrNoMessage) {
		marker, err = k.s.conn.get(bounded, k.s.name, selector{LastOn: ">"})
	}
	if errors.Is(err, ErrNoMessage) { // retention took the last message too, so nobody can say whose it was
		return fmt.Errorf("%w: stream %s is empty", ErrRewound, k.s.name)
	}
	if err != nil {
		return err
	}
	h, err := marker.header()
	if err != nil {
		return err
	}
	if writer := h.Get(event.HeaderEpoch); writer != k.epoch || last > sent {
		return fmt.Errorf("%w: stream %s ends at %d and was last fenced by writer %s; this one is %s and sent up to %d",
			ErrFenced, k.s.name, last, writer, k.epoch, sent)
	}
	k.advance(last)
	return nil
}

// rewoundSince makes sure that a stream that seems to hold less than it acknowledged does so for longer than a change of
// leaders lasts.
type rewoundSince struct {
	first time.Time
	reads int
}

func (r *rewoundSince) unsure(err error) bool {
	if !errors.Is(err, ErrRewound) {
		*r = rewoundSince{}
		return false
	}
	if r.reads++; r.reads == 1 {
		r.first = time.Now()
	}
	return r.reads < rewoundReads || time.Since(r.first) < rewoundFor
}

func (k *keeper) holds(ctx context.Context) error {
	if k.options.Holds == nil {
		return nil
	}
	if err := k.options.Holds(ctx); err != nil {
		return fmt.Errorf("go on with stream %s after an interruption: %w", k.s.name, err)
	}
	return nil
}

// resend sends what is not stored, and hands the link to Publish.
func (k *keeper) resend(l *link) error {
	k.mu.Lock()
	k.wired, k.asked, k.unasked = k.window.stored, k.window.stored, 0
	k.mu.Unlock()
	for {
		done, err := k.resendOne(l)
		if err != nil || done {
			k.progress = time.Now()
			return err
		}
	}
}

// resendOne lets Publish and readers of the state in between two messages.
func (k *keeper) resendOne(l *link) (done bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wired == k.window.sent {
		k.link = l
		return true, nil
	}
	n := k.wired + 1
	return false, k.put(l, n, n == k.window.sent)
}

// why is the trouble in words for an operator.
func (k *keeper) why(trouble error) error {
	if t := k.s.conn.trouble(); t != nil {
		return t
	}
	if outOfStorage(trouble) {
		return fmt.Errorf("%w: %w", ErrDiskFull, trouble)
	}
	if denied := k.s.conn.denial(); denied != nil {
		return denied
	}
	return trouble
}

// stalled tells that nothing moves, or that it moves again.
func (k *keeper) stalled(err error) {
	k.mu.Lock()
	old := k.stall
	k.stall = err
	k.mu.Unlock()
	if k.options.Stalled == nil || old == nil && err == nil || old != nil && err != nil && old.Error() == err.Error() {
		return
	}
	k.options.Stalled(err)
}
