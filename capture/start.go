package capture

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// errRenew: tables without a key can only be loaded with a new slot, and nothing is lost by making one.
var errRenew = errors.New("a new slot is needed to load the tables without a key")

// epochs count seconds from here, by the source server's clock, so that they also grow where stream and KV lost theirs.
var epochs = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Unix()

// unknownStarts is how many writers may have begun whose records a power loss took, where the stream that knew them is gone too. A
// function that read one of their fences would take the new stream for that one's.
const unknownStarts = 16

// plan is how a start goes on.
type plan struct {
	group     event.Group    // of the last message, or where the log begins
	first     event.Position // where the slot began
	untouched bool           // nothing of the log is in the stream yet
	change    event.Position // the newest one in the stream, as far as that is known: the log must have it
	load      registry.Load
	newLoad   bool
	last      uint64 // sequence of the stream's last message
	seen      uint32 // highest epoch
}

// start takes the stream: the position is read from it, the fence and the record prove that the read was current, and the source
// must be able to go on from there.
func (a *Agent) start(ctx context.Context, log Log) (*writer, error) {
	info := log.Info()
	if a.cfg.Observer.Retained != nil {
		a.cfg.Observer.Retained(info.RetainedBytes)
	}
	rec, err := a.readRecord(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case rec.ordered():
		a.cfg.Resnapshot = true
	case a.cfg.Resnapshot && a.past == nil && a.before != nil && *a.before != rec.Load.ID && rec.Load.Sweep && rec.Load.Done:
		a.cfg.Log.Info("everything was read again already, by another agent, after it was ordered here", "source", a.cfg.Source, "load", rec.Load.ID)
		a.cfg.Resnapshot = false
	}
	if _, tracks := log.(Tracker); rec.found && rec.Identity != info.Identity && !tracks && !a.cfg.Resnapshot {
		return nil, &GapError{
			Reason: fmt.Sprintf("the source is another server: %s, the stream holds changes of %s", info.Identity, rec.Identity),
			Fix:    "point the source back, or run once with --resnapshot to go on from this server and load everything again",
		}
	}
	if a.cfg.Resnapshot && rec.found {
		if rec, err = a.order(ctx, rec, info); err != nil {
			return nil, err
		}
	}
	p, err := a.resume(ctx, log, info, rec)
	if err != nil {
		return nil, err
	}
	if p.change, err = a.newest(ctx, p, rec); err != nil {
		return nil, err
	}
	if a.cfg.Resnapshot {
		p.withoutMarks(info.Confirmed)
	}
	tables, err := tablesOf(ctx, log)
	if err != nil {
		return nil, err
	}
	keyless, err := a.keyless(ctx, p, info, tables)
	// A load's m or t that a new slot finds incomplete would stay so: that comes first. A group of the log is left behind with its slot.
	repairs := false
	if errors.Is(err, errRenew) && !p.group.Complete() && p.group.From.Compare(p.group.To) == 0 {
		held, e := a.stored(ctx, p.group)
		if e != nil {
			return nil, fmt.Errorf("read back group %s: %w", p.group, e)
		}
		if repairs = len(held) > 0; repairs {
			a.renew, err = nil, nil
		}
	}
	if err != nil {
		return nil, err
	}

	failpoint.At(failpoint.StartResumed)
	// JetStream may have been restored meanwhile, and know an epoch less than was taken: the clock is what lies above it.
	epoch, ahead, err := nextEpoch(p.seen, info.Clock+int64(time.Since(a.taken)/time.Second))
	if err != nil {
		return nil, err
	}
	failpoint.At(failpoint.FenceBefore)
	id, err := a.stream.Fence(ctx, p.last, epoch, p.group, strconv.FormatUint(a.cfg.Random(), 36))
	if err != nil {
		return nil, fmt.Errorf("fence the stream of %s: %w", a.cfg.Source, err)
	}
	failpoint.At(failpoint.FenceAfter)
	if p.newLoad {
		p.load = registry.Load{ID: strconv.FormatUint(uint64(epoch), 10), Sequence: id.Base, Sweep: p.load.Sweep}
	}
	set, err := executed(log, reached(p.group))
	if err != nil {
		return nil, err
	}
	rec, err = a.writeRecord(ctx, rec, registry.Capture{
		Executed: set, Settled: rec.Settled,
		Position: reached(p.group).String(), First: p.first.String(), Change: p.change.String(), Identity: info.Identity, Slot: info.Slot,
		Epoch: epoch, Base: id.Base, Sequence: id.Base, Version: id.Version(id.Base, 0), Group: p.group.String(), Load: p.load,
	})
	if err != nil {
		return nil, err
	}
	failpoint.At(failpoint.StartRecorded)
	if ahead && !sleep(ctx, a.cfg.Horizon) {
		return nil, ctx.Err()
	}
	if err := log.Check(ctx, reached(p.group), p.first, info.Identity); err != nil {
		return nil, err
	}
	failpoint.At(failpoint.StartChecked)
	if err := a.storeSchemas(ctx, tables); err != nil {
		return nil, err
	}
	w := a.newWriter(log, id, rec, p)
	if repairs {
		err = w.repair(ctx, p.group)
	} else {
		err = w.prepare(ctx, keyless)
	}
	if err != nil {
		w.chain().Close()
		return nil, err
	}
	failpoint.At(failpoint.StartPrepared)
	a.cfg.Log.Info("capture started", "source", a.cfg.Source, "position", reached(p.group).String(), "epoch", epoch, "base", id.Base,
		"load", p.load.ID, "load_done", p.load.Done)
	return w, nil
}

// withoutMarks goes back to the newest change, or to the slot. Marks say how far a log was read, and where the source was restored, which
// may be why all is read again, that was another one.
func (p *plan) withoutMarks(confirmed event.Position) {
	end := reached(p.group)
	if p.untouched || !p.group.Complete() || end.Origin != "" {
		return
	}
	to := p.change
	if to.Compare(confirmed) < 0 {
		to = confirmed
	}
	if to.Compare(end) < 0 {
		p.group = at(to)
	}
}

// resume reads where the log goes on: from the stream; only where that is empty the record counts.
func (a *Agent) resume(ctx context.Context, log Log, info Info, rec record) (plan, error) {
	end, err := a.stream.End(ctx)
	if err != nil {
		return plan{}, fmt.Errorf("read the end of the stream of %s: %w", a.cfg.Source, err)
	}
	p := plan{group: at(info.Confirmed), first: info.Confirmed, last: end.Last, seen: rec.Epoch, load: rec.Load, newLoad: !rec.found}
	if rec.found {
		if p.first, err = event.ParsePosition(rec.First); err != nil {
			return p, fmt.Errorf("record of %s: %w", a.cfg.Source, err)
		}
	}
	switch {
	case end.Message == nil && !rec.found:
		p.untouched, p.load.Sweep = true, a.cfg.Resnapshot // by order: JetStream's files are gone, and targets may hold what vanished since
		return p, begin(log)
	case end.Message == nil && end.Last < rec.Sequence: // all of it is gone: from where the slot began, if that is still there
		p.group, p.untouched, p.newLoad, p.load.Sweep = at(p.first), true, true, true
		p.seen += unknownStarts
	case end.Message == nil: // retention took everything
		if p.group, err = rec.group(); err != nil {
			return p, err
		}
		p.untouched = p.group.To.Compare(p.first) == 0
	default:
		p.group, p.seen = end.Message.Group, max(p.seen, end.Message.Writer.Epoch)
		if !rec.found {
			oldest, err := a.stream.Next(ctx, ">", end.First)
			if err != nil {
				return p, fmt.Errorf("read the first message of the stream of %s: %w", a.cfg.Source, err)
			}
			p.first, p.load.Sweep = reached(oldest.Group), true
		} else if err := a.unrecorded(ctx, rec, &p); err != nil {
			return p, err
		}
		p.untouched = p.group.To.Compare(p.first) == 0 // what may be incomplete then is the m or t of a load
	}
	identity := info.Identity
	if rec.found {
		identity = rec.Identity
	}
	return p, a.gap(ctx, log, info, identity, &p, rec, end)
}

// unrecorded takes over from a start that died before its record was stored, or whose record a power loss took. Where that had
// begun anew, with a new slot or past a gap, its fence says another place than the message before it: all is read again from there.
func (a *Agent) unrecorded(ctx context.Context, rec record, p *plan) error {
	for epoch := rec.Epoch; ; {
		fence, ok, err := a.stream.FenceAfter(ctx, epoch)
		if err != nil || !ok {
			return err
		}
		m, err := a.stream.Next(ctx, event.FenceSubject(a.cfg.Source), fence)
		if err != nil {
			return fmt.Errorf("read the fence at %d: %w", fence, err)
		}
		if reached(m.Group).Origin != "" { // such a log goes on by the record's set
			return nil
		}
		epoch = m.Writer.Epoch
		anew := fence == 1 // the stream was lost
		if !anew {
			before, err := a.stream.Next(ctx, ">", fence-1)
			if err != nil {
				return fmt.Errorf("read the message before the fence at %d: %w", fence, err)
			}
			anew = before.Sequence < fence && (before.Group.From.Compare(m.Group.From) != 0 || before.Group.To.Compare(m.Group.To) != 0)
		}
		if anew {
			p.first, p.newLoad, p.load.Sweep = m.Group.To, true, true
		}
	}
}

// newest is the newest change that the stream is known to hold: the record's, or one of a message that was stored since. Marks, rows
// of a load and groups without their end may lie behind it.
func (a *Agent) newest(ctx context.Context, p plan, rec record) (event.Position, error) {
	if reached(p.group).Origin != "" { // the set of transactions says as much
		return event.Position{}, nil
	}
	if p.untouched { // past a gap there may be another log, and all is read again
		return event.Position{}, nil
	}
	end := reached(p.group)
	change := end
	if rec.found && rec.Change != "" {
		var err error
		if change, err = event.ParsePosition(rec.Change); err != nil {
			return change, fmt.Errorf("record of %s: %w", a.cfg.Source, err)
		}
	}
	after := rec.Sequence
	if change.Compare(end) > 0 || p.last < rec.Sequence { // the stream lost its tail since: the sequence says nothing
		after = 0
	}
	since, ok, err := a.changeSince(ctx, p.last, after)
	if err != nil {
		return change, err
	}
	if ok {
		change = since
	}
	if change.Compare(end) > 0 { // the stream lost it, and it comes again
		change = end
	}
	if change.Change == 0 {
		change = event.Position{}
	}
	return change, nil
}

// lookBack is how many messages are looked at for the newest change: rows of a load and fences may lie behind it.
const lookBack = 64 * event.FenceMarkers

// changeSince goes back from the stream's end to a sequence, mostly the one that the record was written for within a second, to the
// newest change; most often the last message is one.
func (a *Agent) changeSince(ctx context.Context, last, after uint64) (event.Position, bool, error) {
	for sequence := last; sequence > after && last-sequence < lookBack; sequence-- {
		m, err := a.stream.Next(ctx, ">", sequence)
		switch {
		case errors.Is(err, stream.ErrNoMessage):
			continue // it was the last one, and expired
		case err != nil:
			return event.Position{}, false, fmt.Errorf("read message %d of the stream of %s: %w", sequence, a.cfg.Source, err)
		case m.Sequence != sequence: // retention took all before
			return event.Position{}, false, nil
		case m.Group.Complete() && m.Group.From.Compare(m.Group.To) != 0:
			return m.Group.To, true, nil
		}
	}
	return event.Position{}, false, nil
}

// lastEvent is the newest message on any table.
func (a *Agent) lastEvent(ctx context.Context) (*event.Message, error) {
	return a.stream.LastOn(ctx, "cdc."+event.EscapeToken(a.cfg.Source)+".*.*.*")
}

// gap looks at a new slot, and under Resnapshot at what the source says: there the log goes on where the slot stands.
func (a *Agent) gap(ctx context.Context, log Log, info Info, identity string, p *plan, rec record, end stream.End) error {
	gap := a.past
	tracker, tracks := log.(Tracker)
	if tracks {
		if err := a.track(ctx, tracker, info, rec, end, p); err != nil && !errors.As(err, &gap) {
			return err
		}
	}
	if info.NewSlot && !p.untouched {
		gap = &GapError{Reason: "the slot is gone, and with it the changes after " + reached(p.group).String(),
			Fix: "run once with --resnapshot to go on with a new slot and load everything again"}
	}
	if (a.cfg.Resnapshot || a.cfg.FromOldest) && gap == nil {
		if err := log.Check(ctx, reached(p.group), p.first, identity); err != nil && !errors.As(err, &gap) {
			return err
		}
	}
	switch {
	case gap != nil && a.cfg.FromOldest:
		return a.remaining(ctx, log, gap, p)
	case gap != nil && !a.cfg.Resnapshot:
		return gap
	case gap != nil:
		a.cfg.Log.Warn("going on past a gap", "source", a.cfg.Source, "reason", gap.Reason, "position", info.Confirmed.String())
		if tracks {
			if err := tracker.Resume("", nil); err != nil {
				return err
			}
		}
		p.group, p.first, p.newLoad, p.load.Sweep = at(info.Confirmed), info.Confirmed, true, true
		p.untouched = true
	case info.NewSlot:
		p.group, p.first, p.newLoad, p.load.Sweep = at(info.Confirmed), info.Confirmed, true, true
		p.untouched = true
	}
	return nil
}

// order notes that everything is loaded again, and waits until that cannot be lost: it must not be forgotten once the gap is passed.
func (a *Agent) order(ctx context.Context, rec record, info Info) (record, error) {
	c := rec.Capture
	c.Load = registry.Load{ID: strconv.FormatInt(max(info.Clock-epochs, int64(rec.Epoch)+1), 10), Sequence: rec.Sequence, Sweep: true}
	next, err := a.writeRecord(ctx, rec, c)
	if err != nil {
		return rec, err
	}
	if !sleep(ctx, a.cfg.Horizon) {
		return rec, ctx.Err()
	}
	return next, nil
}

// newWriter continues after the fence.
func (a *Agent) newWriter(log Log, id event.Writer, rec record, p plan) *writer {
	from := reached(p.group)
	w := &writer{
		a: a, log: log, began: a.taken, mu: newGate(), recordMu: newGate(), cur: from, seen: from, last: p.change, moved: time.Now(), record: rec, load: rec.Load,
		versions: map[string]*table{}, tables: map[*event.Schema]*table{}, known: map[event.Table]bool{},
		published: map[uint64]struct{}{}, windows: map[event.Table][]*window{}, marks: map[string]*window{},
		appeared: make(chan struct{}, 1), places: make(chan struct{}, a.cfg.Parallel),
	}
	w.claimed.Store(id.Epoch)
	w.now.Store(w.era(id, sent{sequence: id.Base, group: p.group, version: id.Version(id.Base, 0), position: w.cur, change: w.last}))
	return w
}

func (a *Agent) stalled(err error) {
	if err != nil {
		a.cfg.Log.Warn("JetStream stores nothing, the agent waits", "source", a.cfg.Source, "error", err)
	} else {
		a.cfg.Log.Info("JetStream stores again", "source", a.cfg.Source)
	}
	if f := a.cfg.Observer.Stalled; f != nil {
		f(err)
	}
}

// repair completes the m or t of a load, and lets the agent start again.
func (w *writer) repair(ctx context.Context, g event.Group) error {
	if err := w.recover(ctx, g); err != nil {
		return err
	}
	if err := w.chain().Flush(); err != nil {
		return fmt.Errorf("flush the stream of %s: %w", w.a.cfg.Source, err)
	}
	if err := w.wait(ctx, w.sent().sequence); err != nil {
		return fmt.Errorf("complete the group %s: %w", g, err)
	}
	return fmt.Errorf("what an earlier agent had published in part is complete: %w", errAgain)
}

// prepare does what must be done before the log is read.
func (w *writer) prepare(ctx context.Context, keyless []TableInfo) error {
	g, err := event.ParseGroup(w.record.Group)
	if err != nil {
		return err
	}
	if err := w.recover(ctx, g); err != nil {
		return err
	}
	if len(keyless) > 0 {
		if err := w.loadKeyless(ctx, keyless); err != nil {
			return err
		}
	}
	if snap, ok := w.log.(Snapshotter); ok {
		xids, err := snap.Waiting(ctx)
		if err != nil {
			return fmt.Errorf("list the transactions that wait: %w", err)
		}
		for _, x := range xids {
			w.published[x] = struct{}{}
		}
	}
	if err := w.log.Start(ctx, w.cur, w.last); err != nil {
		return fmt.Errorf("read the log of %s after %s: %w", w.a.cfg.Source, w.cur, err)
	}
	return nil
}

func tablesOf(ctx context.Context, log Log) ([]TableInfo, error) {
	snap, ok := log.(Snapshotter)
	if !ok {
		return nil, nil
	}
	tables, err := snap.Tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the captured tables: %w", err)
	}
	return tables, nil
}
