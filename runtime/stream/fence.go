package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Headers of JetStream: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md for batches. Never
// Nats-Expected-Last-Msg-Id: a wrong value stops a replicated stream for good.
const (
	headerExpectedLast = "Nats-Expected-Last-Sequence"
	headerBatch        = "Nats-Batch-Id"
	headerBatchNumber  = "Nats-Batch-Sequence"
	headerBatchCommit  = "Nats-Batch-Commit"
)

// Fence publishes event.FenceMarkers markers as one atomic batch right after the sequence `after`, so that every sequence a
// zombie can have predicted lies in the past. It returns the writer (epoch, base = after + FenceMarkers). ErrMoved: the
// stream's end was another one; start again. A fence whose answer was lost is found by its instance id.
func (s *Stream) Fence(ctx context.Context, after uint64, epoch uint32, g event.Group, instance string) (event.Writer, error) {
	f := fence{s: s, after: after, group: g.String(), instance: instance, writer: event.Writer{Epoch: epoch, Base: after + event.FenceMarkers}}
	wait := retryFirst
	for try := 1; ; try++ {
		err := f.publish(ctx, try)
		if err == nil {
			return f.writer, nil
		}
		state, readErr := f.look(ctx)
		switch {
		case readErr != nil:
			return event.Writer{}, fmt.Errorf("fence stream %s after %d: %w", s.name, after, readErr)
		case state == fenceStored:
			return f.writer, nil
		// Where the server took part of it and refuses the rest, it has lost that: none of its starts completes this fence.
		case state == fenceMoved, state == fencePartial && codeOf(err) == codeWrongLast:
			return event.Writer{}, fmt.Errorf("fence stream %s after %d: %w", s.name, after, ErrMoved)
		case !transient(err) && !fenceMayPass(err):
			return event.Writer{}, fmt.Errorf("fence stream %s after %d: %w", s.name, after, err)
		}
		// The leader says that nothing came after `after`: the batch got lost, or is still on its way to a majority.
		if pause(ctx, wait); ctx.Err() != nil {
			return event.Writer{}, fmt.Errorf("fence stream %s after %d: %w", s.name, after, s.conn.gaveUp(ctx, err))
		}
		wait = min(2*wait, retryMost)
	}
}

type fence struct {
	s        *Stream
	after    uint64
	writer   event.Writer
	group    string
	instance string
}

// fenceMayPass says whether a batch that was refused may be taken a moment later. A try more is never a risk: all tries
// expect the same sequence, so at most one is stored.
func fenceMayPass(err error) bool {
	switch codeOf(err) {
	case codeWrongLast, codeWrongLastInFlight, codeDuplicateInFlight, codeBatchDuplicate, codeBatchIncomplete,
		codeBatchesInFlight, codeBatchesInFlightTotal:
		return true
	}
	return outOfStorage(err)
}

// publish sends the batch once.
func (f *fence) publish(ctx context.Context, try int) error {
	// A connection of its own: after a reconnect only the rest of the batch would arrive.
	link, err := f.s.conn.openLink(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", nats.ErrDisconnected, err)
	}
	defer link.abort()
	id := fmt.Sprintf("%s.%d", f.instance, try)
	for i := 1; i <= event.FenceMarkers; i++ {
		m := &nats.Msg{Subject: event.FenceSubject(f.s.source), Header: nats.Header{
			event.HeaderID:       {fmt.Sprintf("%s:f%d.%s.%d", f.s.source, f.writer.Epoch, id, i)},
			event.HeaderEpoch:    {f.writer.String()},
			event.HeaderGroup:    {f.group},
			event.HeaderInstance: {f.instance},
			headerBatch:          {id},
			headerBatchNumber:    {strconv.Itoa(i)},
		}}
		if i == 1 {
			m.Header[headerExpectedLast] = []string{strconv.FormatUint(f.after, 10)}
		}
		if i == event.FenceMarkers {
			m.Header[headerBatchCommit] = []string{"1"}
			m.Reply = link.inbox
		}
		if err := link.nc.PublishMsg(m); err != nil {
			return fmt.Errorf("%w: %w", nats.ErrDisconnected, err)
		}
	}
	t := time.NewTimer(requestTimeout)
	defer t.Stop()
	select {
	case m := <-link.answers:
		a, err := parseAck(m)
		if err == nil && a.sequence != f.writer.Base {
			err = fmt.Errorf("the fence was answered with sequence %d, not %d", a.sequence, f.writer.Base)
		}
		return err
	case <-t.C:
		return nats.ErrTimeout
	case <-link.closed:
		return nats.ErrDisconnected
	case <-ctx.Done():
		return ctx.Err()
	}
}

type fenceState int

const (
	fenceNothing fenceState = iota // nothing follows `after`
	fencePartial                   // part of this fence
	fenceStored                    // this fence
	fenceMoved                     // something else, or `after` itself is gone
)

// look reads from the leader what became of the batch.
func (f *fence) look(ctx context.Context) (fenceState, error) {
	if ctx.Err() != nil {
		return fenceNothing, ctx.Err()
	}
	last, err := f.s.conn.get(ctx, f.s.name, selector{LastOn: ">"})
	if errors.Is(err, ErrNoMessage) {
		info, err := f.s.conn.streamInfo(ctx, f.s.name)
		if err != nil {
			return fenceNothing, err
		}
		last = &stored{Sequence: info.State.LastSeq}
	} else if err != nil {
		return fenceNothing, err
	}
	switch {
	case last.Sequence == f.after:
		return fenceNothing, nil
	case last.Sequence < f.after:
		return fenceMoved, nil
	}
	marker := last
	if last.Sequence > f.writer.Base {
		marker, err = f.s.conn.get(ctx, f.s.name, selector{Sequence: f.writer.Base})
		if errors.Is(err, ErrNoMessage) {
			return fenceMoved, nil
		}
		if err != nil {
			return fenceNothing, err
		}
	}
	h, err := marker.header()
	switch {
	case err != nil:
		return fenceNothing, err
	case h.Get(event.HeaderInstance) != f.instance || h.Get(event.HeaderEpoch) != f.writer.String():
		return fenceMoved, nil
	case marker.Sequence < f.writer.Base: // a server that stands alone ran out of disk; it completes the batch at its next start
		return fencePartial, nil
	}
	return fenceStored, nil
}
