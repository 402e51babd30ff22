package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// held is a position that the record names since a time.
type held struct {
	sent
	executed string // of a Tracker
	since    time.Time
}

// confirm carries the position from the stream to the record and, one fsync horizon later, to the source. It also looks after the
// stream: one that went back sends the agent through Start, one that does not answer makes it give the slot back.
func (w *writer) confirm(ctx context.Context) error {
	var waiting []held
	confirmed := event.Position{}
	answered := time.Now()
	tick := time.NewTicker(w.a.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := w.round(ctx, &waiting, &confirmed)
		switch {
		case err == nil:
			answered = time.Now()
		case ctx.Err() != nil:
			return nil
		case again(err) || w.lost(err) || time.Since(answered) > w.a.cfg.Patience:
			return err
		}
	}
}

func (w *writer) round(ctx context.Context, waiting *[]held, confirmed *event.Position) error {
	c, cancel := context.WithTimeout(ctx, w.a.cfg.Patience)
	defer cancel()
	if err := w.holds(c, w.newest()); err != nil {
		return err
	}
	if err := w.idle(ctx); err != nil {
		return err
	}
	s, err := w.remember(c)
	if err != nil {
		return err
	}
	if n := len(*waiting); n == 0 || (*waiting)[n-1].position != s.position {
		*waiting = append(*waiting, held{s, w.recorded(), time.Now()})
	}
	if time.Since(w.a.stream.Created()) < w.a.cfg.Settle {
		return nil
	}
	n := 0
	for n < len(*waiting) && time.Since((*waiting)[n].since) >= w.a.cfg.Horizon {
		n++
	}
	if n == 0 {
		return nil
	}
	due := (*waiting)[n-1]
	if p := due.release(); p != *confirmed {
		if err := w.release(c, due, p); err != nil {
			return err
		}
		*confirmed = p
	}
	*waiting = append((*waiting)[:0], (*waiting)[n:]...)
	return nil
}

// release is how far the source may forget: the last transaction of which an event is stored is kept. It may not be
// complete, and seeing it again at the next start proves that the log is still ours.
func (s sent) release() event.Position {
	p := s.position
	return event.Position{Timeline: p.Timeline, Origin: p.Origin, Commit: p.Commit}
}

// release moves the slot once a leader read has shown that stream and record still hold what is confirmed.
func (w *writer) release(ctx context.Context, h held, p event.Position) error {
	if err := w.holds(ctx, h.sent); err != nil {
		return err
	}
	if err := w.recordHolds(ctx, h.sent); err != nil {
		return err
	}
	failpoint.At(failpoint.SlotBefore)
	if err := w.log.Confirm(ctx, p); err != nil {
		return fmt.Errorf("confirm %s to the source %s: %w", p, w.a.cfg.Source, err)
	}
	failpoint.At(failpoint.SlotAfter)
	w.settle(registry.Settled{Executed: h.executed, Sequence: h.sequence, Version: h.version})
	if f := w.a.cfg.Observer.Confirmed; f != nil {
		f(p)
	}
	return nil
}

// recordHolds proves that the record is still ours, and says what is confirmed.
func (w *writer) recordHolds(ctx context.Context, s sent) error {
	w.recordMu.Lock()
	defer w.recordMu.Unlock()
	rec, err := w.a.readRecord(ctx)
	if err != nil {
		return err
	}
	if ours := w.record.Epoch; !rec.found || rec.Epoch != ours || rec.Version < s.version {
		return fmt.Errorf("record of %s: epoch %d version %d, had been %d and %d: %w",
			w.a.cfg.Source, rec.Epoch, rec.Version, ours, s.version, errAgain)
	}
	return nil
}

// settle notes what the record says from now on of a Tracker's set that no power loss takes away.
func (w *writer) settle(s registry.Settled) {
	w.recordMu.Lock()
	defer w.recordMu.Unlock()
	if s.Executed != "" {
		w.settled = s
	}
}

// recorded is the set that the record names.
func (w *writer) recorded() string {
	w.recordMu.Lock()
	defer w.recordMu.Unlock()
	return w.record.Executed
}

// holds proves by a leader read that the stream still holds a message. An idle writer would not notice a loss otherwise.
func (w *writer) holds(ctx context.Context, s sent) error {
	end, err := w.a.stream.End(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("read the end of the stream of %s: %w", w.a.cfg.Source, err)
	case end.Message != nil && end.Message.Writer.Epoch > w.claimed.Load():
		return fmt.Errorf("epoch %d of the stream is later than ours, %d: %w", end.Message.Writer.Epoch, w.claimed.Load(), stream.ErrFenced)
	case end.Last < s.sequence || end.Message != nil && end.Message.Last() < s.version:
		return fmt.Errorf("stream of %s ends at %d, %d was stored: %w", w.a.cfg.Source, end.Last, s.sequence, stream.ErrRewound)
	case end.Deleted > 0:
		w.damaged.Do(func() {
			w.a.cfg.Log.Error("messages are missing within the stream: nothing deletes there but damage; restore JetStream, then "+
				"start once with --resnapshot", "source", w.a.cfg.Source, "messages", end.Deleted)
		})
	}
	return nil
}

// remember writes the record if something was stored since, and gives what it now says.
func (w *writer) remember(ctx context.Context) (sent, error) {
	w.recordMu.Lock()
	defer w.recordMu.Unlock()
	s := w.newest()
	c, err := w.describe(s)
	if err != nil || c == w.record.Capture {
		return s, err
	}
	failpoint.At(failpoint.RecordBefore)
	rec, err := w.a.writeRecord(ctx, w.record, c)
	if errors.Is(err, stream.ErrConflict) { // perhaps with our own write, whose answer nobody waited for
		if now, e := w.a.readRecord(ctx); e == nil && now.Epoch == c.Epoch && now.Base == c.Base {
			rec, err = w.a.writeRecord(ctx, now, c)
		}
	}
	if err != nil {
		return s, err
	}
	w.record = rec
	failpoint.At(failpoint.RecordAfter)
	if f := w.a.cfg.Observer.Recorded; f != nil {
		f(s.position)
	}
	return s, nil
}

// describe is what the record says once s is the newest message that is stored; recordMu is held.
func (w *writer) describe(s sent) (registry.Capture, error) {
	c := w.record.Capture
	c.Position, c.Change, c.Sequence, c.Version, c.Group, c.Load = s.position.String(), s.change.String(), s.sequence, s.version, s.group.String(), w.load
	if w.settled.Executed != "" {
		c.Settled = w.settled
	}
	var err error
	c.Executed, err = executed(w.log, s.position)
	return c, err
}

// idle carries the position over transactions that have nothing captured. The marker comes before record and slot: the
// position lives in the stream alone, and a slot ahead of it would look like a gap.
func (w *writer) idle(ctx context.Context) error {
	if !w.mu.TryLock() { // something is being published, perhaps for long: the window is full
		return nil
	}
	defer w.mu.Unlock()
	if w.pending != nil || !w.ahead() || time.Since(w.moved) < w.a.cfg.Idle {
		return nil
	}
	m := stream.Outgoing{Subject: event.MarkSubject(w.a.cfg.Source), ID: event.MessageID(w.a.cfg.Source, w.seen), Group: at(w.seen)}
	if err := w.send(ctx, &m, 0, 0); err != nil {
		return err
	}
	w.flows = true
	failpoint.At(failpoint.MarkPublished)
	return w.chain().Flush()
}

// lost says whether the error ends this run at once: the stream belongs to another, or cannot be continued.
func (w *writer) lost(err error) bool {
	e := w.now.Load()
	return e.chain.Err() != nil && !e.over.Load() || errors.Is(err, stream.ErrFenced)
}
