package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/servers"
)

// storeFaults are troubles of what JetStream stores: it is old, gone, too much, or the disk is full.
var storeFaults = []Fault{
	{
		Name:      "store.old",
		What:      "JetStream's store is replaced by a copy of a moment ago; the source's log still has what was lost since: it is published again",
		Exclusive: true,
		Inject:    loseTail(),
	},
	{
		Name:      "store.tail",
		What:      "the same with the stream alone, below the buckets: checkpoints stand above its end, where sequences are used again",
		Needs:     func(w *World) bool { return !replicated(w) },
		Exclusive: true,
		Inject:    loseTail(servers.StreamFolder(streamName)),
	},
	{
		Name:      "store.older",
		What:      "JetStream's store is replaced by a copy that the source's log has left behind: the agent halts at a gap, and --resnapshot heals it",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, _ *rand.Rand) error {
			began, err := w.flowing(ctx)
			if err != nil {
				return err
			}
			restore, err := w.keepStore()
			if err != nil {
				return err
			}
			if err := w.DB.Passed(ctx, w); err != nil {
				return err
			}
			if err := restore(); err != nil {
				return err
			}
			if err := w.passGap(ctx); err != nil {
				return err
			}
			if err := w.again(ctx, began, "the stream's tail was lost"); err != nil {
				return err
			}
			const why = "JetStream's store was restored to the past, and the slot had passed that"
			w.Gap(began, why)
			w.Recorder.Allow(check.Allowance{Promise: check.Undurable, From: began, Until: time.Now(), Why: why})
			return nil
		},
	},
	{
		Name:      "store.deleted",
		What:      "an operator deletes the stream: the agent loads everything again where the slot still stands at its beginning, else it halts at a gap, and --resnapshot heals it",
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, _ *rand.Rand) error {
			began, err := w.flowing(ctx)
			if err != nil {
				return err
			}
			if err := w.insist(ctx, "STREAM.DELETE."+streamName, nil, nil); err != nil {
				return err
			}
			text, err := w.AwaitLog(ctx, w.Agents, "gap: ", "capture started")
			if err != nil {
				return err
			}
			if text == "gap: " {
				if err := w.passGap(ctx); err != nil {
					return err
				}
			}
			if err := w.again(ctx, began, "the stream was deleted"); err != nil {
				return err
			}
			w.emptied("the stream was deleted")
			w.Gap(began, "the stream was deleted")
			return nil
		},
	},
	{
		Name:      "store.retention",
		What:      "retention removes what a stalled function has not read: it halts and says so, and the command that it prints heals it",
		Exclusive: true,
		Inject:    outrun,
	},
	{
		Name:      "store.full",
		What:      "the disks under JetStream's store are full for a while: everything waits, and nothing is lost",
		Needs:     func(w *World) bool { return len(w.disks()) > 0 },
		Exclusive: true,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			for _, d := range w.disks() {
				d.Fill(w)
			}
			// What an operator has to do: make room under an embedded server, start an external one anew, look at each of a cluster.
			_, err := w.AwaitLog(ctx, w.Agents, "everything goes on by itself then", "until its server is started again",
				"look at the log and the disk of each server")
			err = errors.Join(err, pause(ctx, between(r, 0, 5*time.Second)))
			for _, d := range w.disks() {
				d.Free(w)
			}
			if w.NATS != nil {
				for _, n := range w.NATS.Nodes {
					n.Kill()
				}
				for _, n := range w.NATS.Nodes {
					n.Restart(w)
				}
				w.NATS.Wait(w)
			}
			return err
		},
	},
	{
		Name:  "store.node",
		What:  "the disk of the node that leads the stream is full for a while, and the node is started anew: nothing is lost",
		Needs: func(w *World) bool { return replicated(w) && len(w.disks()) > 0 },
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			n, err := w.NATS.Leader(ctx, streamName)
			if err != nil {
				return err
			}
			n.Disk.Fill(w)
			err = pause(ctx, between(r, time.Second, 10*time.Second))
			n.Disk.Free(w)
			n.Kill()
			n.Restart(w)
			w.NATS.Wait(w)
			return err
		},
	},
}

// loseTail replaces the store, or parts of it, by what it was less than a fsync horizon ago.
func loseTail(parts ...string) func(context.Context, *World, *rand.Rand) error {
	return func(ctx context.Context, w *World, r *rand.Rand) error {
		for {
			began := time.Now()
			restore, err := w.keepStore()
			if err != nil {
				return err
			}
			copied := time.Now()
			if err := pause(ctx, between(r, 20*time.Millisecond, 400*time.Millisecond)); err != nil {
				return err
			}
			if time.Since(copied) > 2*natsSync+time.Second/2 { // a busy machine: the slot may have passed the copy
				continue
			}
			if err := restore(parts...); err != nil {
				return err
			}
			return w.again(ctx, began, "the stream's tail was lost, and published again")
		}
	}
}

// again waits until every target is right after a loss, of which what is still in the source's log is published again: until then a
// target may be behind its checkpoint, and go back.
func (w *World) again(ctx context.Context, since time.Time, why string) error {
	if _, err := w.recovered(ctx); err != nil {
		return err
	}
	if err := w.settled(ctx, w.Targets...); err != nil {
		return err
	}
	w.republished(since, why)
	return nil
}

// outrun lets the stream's limit pass a function whose target is away.
func outrun(ctx context.Context, w *World, r *rand.Rand) error {
	began, err := w.flowing(ctx)
	if err != nil {
		return err
	}
	t := w.Targets[r.IntN(len(w.Targets))]
	p := w.Proxy(t.Link)
	p.Refuse()
	p.Cut()
	defer p.Heal()
	before, err := w.stream(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil { // the others read on; this one has something unread
		return err
	}
	limit := func(bytes int64) error {
		now, err := w.stream(ctx)
		if err != nil {
			return err
		}
		now.Config["max_bytes"] = bytes
		return w.insist(ctx, "STREAM.UPDATE."+streamName, now.Config, nil)
	}
	const small = 64 << 10
	if err := limit(small); err != nil {
		return err
	}
	for {
		now, err := w.stream(ctx)
		if err != nil {
			return err
		}
		if now.State.FirstSeq > before.State.LastSeq+1 {
			break
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("the stream does not outrun %s: %w", t.Function, err)
		}
	}
	p.Heal()
	if _, err := w.AwaitLog(ctx, w.Workers, "fell out of retention"); err != nil {
		return err
	}
	for _, way := range []string{"start it with --resnapshot", "`runnel resume " + t.Function + "`"} {
		if _, err := w.AwaitLog(ctx, w.Workers, way); err != nil {
			return fmt.Errorf("a function that fell out of retention is not told the way out: %w", err)
		}
	}
	if err := limit(-1); err != nil {
		return err
	}
	if err := w.Resnapshot(ctx); err != nil {
		return err
	}
	for _, t := range w.Targets { // the others may have fallen too
		if err := w.runnel(ctx, "resume", t.Function); err != nil {
			return err
		}
	}
	if err := w.again(ctx, began, "functions fell out of retention"); err != nil {
		return err
	}
	w.emptied("retention removed it")
	w.Gap(began, "retention outran functions")
	return nil
}
