package stream

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Outgoing is a message to be published.
type Outgoing struct {
	Subject string
	ID      string
	Group   event.Group
	For     string
	Data    []byte // copied by Publish
}

// ChainOptions of a chain; Stored and Stalled must not block.
type ChainOptions struct {
	Holds   func(ctx context.Context) error // before a resend: does this process still hold the source's slot
	Stored  func(sequence uint64)           // everything up to here is stored
	Stalled func(err error)                 // nothing was stored for seconds, and why; nil when it goes on
}

// Chain publishes messages so that the stream is always an exact prefix of what was sent: each one carries the sequence
// that it expects to follow, so after one that was lost or refused all later ones are refused too. What happened then is
// read from the stream's leader, and the same messages are sent again from memory.
//
// One goroutine publishes; Wait, Sent, Stored, Failed and Err are for all. The last message is held back until the next one,
// Flush or a few milliseconds follow, because it must ask for an acknowledgement if it stays the last.
type Chain struct {
	s       *Stream
	writer  event.Writer
	epoch   string
	options ChainOptions
	cancel  context.CancelFunc
	done    chan struct{} // the goroutine has ended
	failed  chan struct{}

	mu      sync.Mutex
	window  window
	wired   uint64 // highest sequence that was sent; sent − wired ≤ 1 unless a recovery is under way
	asked   uint64 // highest sequence that asks for an acknowledgement
	unasked int    // bytes since
	held    uint64 // sent at the last tick
	link    *link  // nil while a recovery is under way
	broken  error  // why the last link is gone
	changed chan struct{}
	waiters int
	stall   error
	err     error
	kick    chan struct{} // wakes the goroutine
	message nats.Msg      // reused
}

// Chain continues after sequence `after`.
func (s *Stream) Chain(w event.Writer, after uint64, o ChainOptions) *Chain {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Chain{
		s: s, writer: w, epoch: w.String(), options: o, cancel: cancel,
		done: make(chan struct{}), failed: make(chan struct{}), changed: make(chan struct{}), kick: make(chan struct{}, 1),
	}
	c.window.stored, c.window.sent, c.wired, c.asked = after, after, after, after
	c.message.Header = nats.Header{}
	go func() {
		defer close(c.done)
		c.run(ctx)
	}()
	return c
}

// Publish sends a message and returns its sequence; it blocks while the window (512 messages, 16 MB) is full. The error is
// final: ErrFenced, ErrRewound, the error of Holds, or the context's.
func (c *Chain) Publish(ctx context.Context, m *Outgoing) (uint64, error) {
	data, large := m.Data, ""
	if len(data) > c.s.conn.MaxMessage() {
		if err := c.keepAside(ctx, m); err != nil {
			return 0, err
		}
		data, large = nil, m.ID
	}
	size := sizeOf(m, data)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.await(ctx, func() bool { return c.window.fits(size) }); err != nil {
		return 0, err
	}
	idle := c.window.empty()
	c.sendHeld(false)
	n := c.window.add(m, large, data)
	if idle {
		c.wake()
	}
	return n, nil
}

// keepAside stores a payload that is above the server's limit; it is tried until the chain ends.
func (c *Chain) keepAside(ctx context.Context, m *Outgoing) error {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-c.failed:
			cancel()
		case <-ctx.Done():
		}
	})
	err := c.s.conn.putLarge(ctx, m.ID, m.Data)
	cancel()
	watch.Wait()
	if final := c.Err(); err != nil && final != nil {
		return final
	}
	return err
}

// Flush makes sure that an acknowledgement of the last message is on its way.
func (c *Chain) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sendHeld(true)
	return c.err
}

// Wait blocks until a sequence is stored.
func (c *Chain) Wait(ctx context.Context, sequence uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sequence > c.window.sent {
		return fmt.Errorf("wait for message %d: the last one published is %d", sequence, c.window.sent)
	}
	return c.await(ctx, func() bool { return c.window.stored >= sequence })
}

// Sent is the sequence of the last message published, Stored that of the last one that is stored.
func (c *Chain) Sent() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.window.sent
}

// Stored is the sequence up to which everything is stored.
func (c *Chain) Stored() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.window.stored
}

// Failed is closed when the chain ended; Err says why.
func (c *Chain) Failed() <-chan struct{} { return c.failed }

// Err is why the chain ended; nil while it runs.
func (c *Chain) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the chain. What is not stored by then may or may not be stored later; the stream stays a prefix.
func (c *Chain) Close() {
	c.cancel()
	<-c.done
}

// await blocks until ok, with the lock held on entry and return. What waits must not wait for a message that is held back.
func (c *Chain) await(ctx context.Context, ok func() bool) error {
	for {
		switch {
		case c.err != nil:
			return c.err
		case ctx.Err() != nil:
			return c.unfinished(ctx)
		case ok():
			return nil
		}
		c.sendHeld(true)
		changed := c.changed
		c.waiters++
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		c.mu.Lock()
		c.waiters--
	}
}

func (c *Chain) unfinished(ctx context.Context) error {
	reason := c.s.conn.trouble() // also where something was stored since the stall was told
	if reason == nil {
		reason = c.stall
	}
	if reason == nil {
		return fmt.Errorf("publish to stream %s: %w", c.s.name, ctx.Err())
	}
	return fmt.Errorf("publish to stream %s: %w (%w)", c.s.name, ctx.Err(), reason)
}

// broadcast wakes all that wait.
func (c *Chain) broadcast() {
	if c.waiters > 0 {
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

func (c *Chain) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// sendHeld sends the message that is held back, if there is one; last makes it ask for an acknowledgement.
func (c *Chain) sendHeld(last bool) {
	if c.link == nil || c.wired == c.window.sent {
		return
	}
	if err := c.put(c.link, c.wired+1, last); err != nil {
		c.broken = err
		c.link.abort() // the goroutine sees it, and the recovery sends what is not stored
		c.link = nil
	}
}

// put writes a message to a link.
func (c *Chain) put(l *link, n uint64, last bool) error {
	s := c.window.at(n)
	m := &c.message
	m.Subject, m.Data, m.Reply = s.subject, s.data, ""
	c.wired = n
	c.unasked += s.size
	if last || n-c.asked >= askMessages || c.unasked >= askBytes {
		m.Reply, c.asked, c.unasked = l.inbox, n, 0
	}
	set(m.Header, event.HeaderID, s.id)
	set(m.Header, event.HeaderEpoch, c.epoch)
	set(m.Header, event.HeaderGroup, s.group)
	set(m.Header, event.HeaderFor, s.to)
	set(m.Header, event.HeaderLarge, s.large)
	set(m.Header, headerExpectedLast, strconv.FormatUint(n-1, 10))
	return l.nc.PublishMsg(m)
}

// set sets a header without allocating a list for its value; an empty one is left out.
func set(h nats.Header, key, value string) {
	switch list := h[key]; {
	case value == "":
		delete(h, key)
	case len(list) == 1:
		list[0] = value
	default:
		h[key] = []string{value}
	}
}
