package capture

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// era is what a writer has of one epoch.
type era struct {
	id     event.Writer
	chain  Chain
	ledger ledger
	over   atomic.Bool   // all that was sent is stored and the chain is closed: the next era begins, or the writer ends
	next   chan struct{} // closed when that has begun
}

// era begins where s is the last message: the fence's.
func (w *writer) era(id event.Writer, s sent) *era {
	e := &era{id: id, next: make(chan struct{})}
	e.ledger.start(s)
	e.chain = w.a.open(id, id.Base, stream.ChainOptions{Holds: w.log.Holds, Stored: w.a.cfg.Observer.Stored, Stalled: w.a.stalled})
	return e
}

func (w *writer) id() event.Writer { return w.now.Load().id }
func (w *writer) chain() Chain     { return w.now.Load().chain }

// newest is the newest message that is stored.
func (w *writer) newest() sent {
	e := w.now.Load()
	return e.ledger.stored(e.chain.Stored())
}

// sent is the last message that was sent; mu is held.
func (w *writer) sent() sent {
	e := w.now.Load()
	n := e.chain.Sent()
	return sent{sequence: n, version: e.id.Version(n, 0)}
}

// wait blocks until a message that was sent is stored. An era ends only when all of its messages are.
func (w *writer) wait(ctx context.Context, sequence uint64) error {
	e := w.now.Load()
	if err := e.chain.Wait(ctx, sequence); err != nil && !e.over.Load() {
		return err
	}
	return ctx.Err()
}

// watch returns when a chain fails.
func (w *writer) watch(ctx context.Context) error {
	for {
		e := w.now.Load()
		select {
		case <-e.chain.Failed():
		case <-ctx.Done():
			return nil
		}
		if !e.over.Load() {
			return e.chain.Err()
		}
		select {
		case <-e.next:
		case <-ctx.Done():
			return nil
		}
	}
}

// nextEpoch is the epoch that follows the highest one there was. Where it is ahead of the source's clock, nothing but the fence may
// be published until fence and record survive a power loss: a writer after that would take the same one.
func nextEpoch(seen uint32, clock int64) (epoch uint32, ahead bool, err error) {
	now := uint32(max(1, min(clock-epochs, event.MaxEpoch)))
	epoch = max(seen+1, now)
	if epoch > event.MaxEpoch {
		return 0, false, fmt.Errorf("epoch %d is the last one there can be; use another source name", seen)
	}
	return epoch, epoch > now, nil
}

// clock is the source server's, at least.
func (w *writer) clock() int64 { return w.log.Info().Clock + int64(time.Since(w.began)/time.Second) }

// turn takes a new epoch once as many messages as a version can tell apart were published. The log stays open: only what is not
// sent yet is sent in the new one. mu is held, and no group is begun. What goes wrong is repaired by starting again.
func (w *writer) turn(ctx context.Context) error {
	old := w.now.Load()
	if w.pending != nil || old.chain.Sent()-old.id.Base < w.a.cfg.Epoch {
		return nil
	}
	if err := w.renew(ctx, old); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("take a new epoch after %d: %w (%w)", old.id.Epoch, err, errAgain)
	}
	return nil
}

// renew is a start without reading anything again: fence right after the last message, record, and go on with a new chain.
func (w *writer) renew(ctx context.Context, old *era) error {
	if err := old.chain.Flush(); err != nil {
		return fmt.Errorf("flush the stream: %w", err)
	}
	last := old.chain.Sent()
	if err := old.chain.Wait(ctx, last); err != nil {
		return fmt.Errorf("wait for the stream to store what was sent: %w", err)
	}
	s := old.ledger.stored(last)
	// Closed first: a chain that meets a later fence takes itself for fenced.
	old.over.Store(true)
	old.chain.Close()
	c, cancel := context.WithTimeout(ctx, w.a.cfg.Patience)
	defer cancel()
	if err := w.log.Holds(c); err != nil { // else a fence might fit where those of a successor were lost
		return err
	}
	epoch, ahead, err := nextEpoch(old.id.Epoch, w.clock())
	if err != nil {
		return err
	}
	w.claimed.Store(epoch)
	id, err := w.a.stream.Fence(c, last, epoch, s.group, strconv.FormatUint(w.a.cfg.Random(), 36))
	if err != nil {
		return fmt.Errorf("fence the stream: %w", err)
	}
	s.sequence, s.version = id.Base, id.Version(id.Base, 0)
	if err := w.succeed(c, id, s); err != nil {
		return err
	}
	if ahead && !sleep(ctx, w.a.cfg.Horizon) {
		return ctx.Err()
	}
	w.a.cfg.Log.Info("a new epoch begins", "source", w.a.cfg.Source, "position", s.position.String(), "epoch", epoch, "base", id.Base)
	return nil
}

// succeed records the new epoch and goes over to it: with the record held, so that nobody sees one without the other.
func (w *writer) succeed(ctx context.Context, id event.Writer, s sent) error {
	w.recordMu.Lock()
	defer w.recordMu.Unlock()
	c, err := w.describe(s)
	if err != nil {
		return err
	}
	c.Epoch, c.Base = id.Epoch, id.Base
	if w.record, err = w.a.writeRecord(ctx, w.record, c); err != nil {
		return err
	}
	old := w.now.Swap(w.era(id, s))
	close(old.next)
	return nil
}
