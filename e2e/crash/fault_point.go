package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/runtime/failpoint"
)

// trigger says how a process is brought to a failpoint, and how often it comes by: the fault chooses one of the first hits.
type trigger struct {
	hits int
	way  way
}

// way is what must be done so that a failpoint is reached.
type way int

const (
	working    way = iota // nothing: it lies on the way of every change
	loading               // all tables are loaded again
	resting               // nothing is written for a while
	ending                // the process is told to stop
	truncating            // a table is emptied
	aged                  // the stream is old enough that the slot moves
	moving                // others of its role come, and take their share
	inheriting            // the life before is killed with all that it has
	filling               // a function asks for its tables to be read again
	succeeding            // a new generation of a function takes the place of the old one
	swapping              // a copy of a function comes in its place
	streaming             // a transaction is written that is larger than any group of the stream
)

var triggers = map[failpoint.Name]trigger{
	failpoint.StartReached: {1, working}, failpoint.StartAcquired: {1, working}, failpoint.StartResumed: {1, working},
	failpoint.FenceBefore: {1, working}, failpoint.FenceAfter: {1, working}, failpoint.StartRecorded: {1, working},
	failpoint.StartChecked: {1, working}, failpoint.StartPrepared: {1, working},

	failpoint.LogReceived: {200, working}, failpoint.LogEncoded: {300, working}, failpoint.ChainPublished: {300, working},
	failpoint.ChainStored: {100, working}, failpoint.GroupPiece: {6, truncating},
	failpoint.RecordBefore: {2, working}, failpoint.RecordAfter: {2, working},
	failpoint.SlotBefore: {2, aged}, failpoint.SlotAfter: {2, aged}, failpoint.MarkPublished: {1, resting},

	failpoint.LoadBegun: {3, loading}, failpoint.ChunkRead: {15, loading}, failpoint.ChunkMarked: {15, loading},
	failpoint.ChunkPublished: {15, loading}, failpoint.ChunkCounted: {2, loading}, failpoint.LoadSwept: {2, loading},
	failpoint.LoadEnded: {2, loading}, failpoint.BackfillRead: {1, filling}, failpoint.BackfillDone: {1, filling},

	failpoint.ClaimBefore: {8, working}, failpoint.ClaimAfter: {8, working}, failpoint.ConsumerOpened: {8, working},
	failpoint.Fetched: {100, working}, failpoint.WriteBefore: {100, working}, failpoint.WriteAfter: {100, working},
	failpoint.WriteDurable: {100, working}, failpoint.ConsumerAcked: {100, working},
	failpoint.FloorBefore: {10, working}, failpoint.FloorAfter: {10, working},
	failpoint.BarrierBefore: {6, truncating}, failpoint.BarrierAfter: {6, truncating},
	failpoint.SweepBefore: {6, truncating}, failpoint.SweepAfter: {6, truncating},
	failpoint.SucceedBefore: {1, succeeding}, failpoint.SucceedAfter: {1, succeeding},
	failpoint.SwapStopped: {1, swapping}, failpoint.SwapMarked: {1, swapping}, failpoint.SwapBefore: {1, swapping},
	failpoint.SwapAfter: {1, swapping}, failpoint.SwapDone: {1, swapping},
	failpoint.TransactionStreamed: {10, streaming}, failpoint.CommitBefore: {100, working}, failpoint.CommitAfter: {100, working},
	failpoint.ReleaseBefore: {8, ending}, failpoint.ReleaseAfter: {8, ending},
	failpoint.MoveBefore: {4, moving}, failpoint.MoveReleased: {4, moving}, failpoint.ConsumerForgotten: {1, inheriting},
}

// reachedWithin bounds how long a failpoint is waited for: it lies on the way of work that goes on all the time.
const reachedWithin = 3 * time.Minute

// pointFaults kill a process at each failpoint.
func pointFaults() []Fault {
	var all []Fault
	for _, name := range slices.Sorted(maps.Keys(failpoint.Points)) {
		p := failpoint.Points[name]
		all = append(all, Fault{
			Name: pointPrefix + string(name), What: fmt.Sprintf("SIGKILL of the %s where %s", p.Role, p.What),
			Late: triggers[name].way == aged,
			// Two of them would wait for each other's copy.
			Exclusive: triggers[name].way == swapping,
			Needs:     func(w *World) bool { return w.reaches(name) },
			Inject:    func(ctx context.Context, w *World, r *rand.Rand) error { return w.killAt(ctx, name, r) },
		})
	}
	return all
}

// pointPrefix of the names of faults that kill at a failpoint.
const pointPrefix = "kill@"

// reaches says whether a target of the world has what the failpoint is in.
func (w *World) reaches(name failpoint.Name) bool {
	switch name {
	case failpoint.BarrierBefore, failpoint.BarrierAfter:
		return w.Target("warehouse") != nil
	case failpoint.TransactionStreamed, failpoint.CommitBefore, failpoint.CommitAfter:
		return w.Target("ledger") != nil
	case failpoint.SweepBefore, failpoint.SweepAfter:
		return w.Target("search") != nil || w.Target("analytics") != nil
	case failpoint.SwapStopped, failpoint.SwapMarked, failpoint.SwapBefore, failpoint.SwapAfter, failpoint.SwapDone:
		return len(w.swappable()) > 0
	case failpoint.MoveBefore, failpoint.MoveReleased:
		return len(w.Workers) > 1
	default:
		return true
	}
}

// killAt begins a life that ends at the failpoint. Others of its role are kept away until then: they would do the work,
// and where that is to take some of it over, they come once it has all.
func (w *World) killAt(ctx context.Context, name failpoint.Name, r *rand.Rand) error {
	t, role := triggers[name], w.Agents
	if failpoint.Points[name].Role == failpoint.Worker {
		role = w.Workers
	}
	if t.hits == 0 {
		return fmt.Errorf("nothing says how failpoint %s is reached", name)
	}
	defer own(role)()
	if t.way == aged {
		if err := w.grown(ctx); err != nil {
			return err
		}
	}
	if t.way == resting {
		if err := w.Traffic.Pause(ctx); err != nil {
			return err
		}
		defer w.Traffic.Resume()
	}
	release := sync.OnceFunc(w.Hold(role[1:]...))
	defer release()
	life := Life{Failpoints: failpoint.Trigger{Name: name, Action: failpoint.Kill, Hit: 1 + r.IntN(t.hits)}.String(), Until: killedAtFailpoint}
	if t.way == loading {
		life.Args = []string{"--resnapshot"}
	}
	if t.way == inheriting {
		if _, err := w.recovered(ctx); err != nil { // the life that ends now has all partitions
			return err
		}
	}
	p := role[0]
	from := p.logSize()
	if err := p.Replace(life); err != nil {
		return err
	}
	order := map[way][]string{filling: {"backfill"}, succeeding: {"replay", "--from-time", "10s"}, swapping: {"replay", "--swap"}}[t.way]
	target := w.Targets[r.IntN(len(w.Targets))]
	if t.way == swapping {
		all := w.swappable()
		target = all[r.IntN(len(all))]
		if err := w.copyOf(ctx, target); err != nil {
			return err
		}
	}
	if order != nil {
		order = append(order, target.Function, "--detach")
	}
	if t.way == moving {
		if _, err := w.recovered(ctx); err != nil { // it has all partitions
			return err
		}
		release()
	}
	began := time.Now()
	if err := w.diesAt(ctx, p, name, t, order, from, r); err != nil || t.way != succeeding || target.Kind != "postgres" {
		return err
	}
	// What is replayed into PostgreSQL in place goes back, and comes to the newest state in order.
	release()
	if err := w.settled(ctx, target); err != nil {
		return err
	}
	w.allow(target.Function, began, target.Function+" was replayed in place", check.Backwards, check.Undurable)
	return nil
}

// swappable are the targets whose functions can be swapped with a copy: no other table refers to theirs, and the server can exchange them,
// which the ClickHouse engine that runs here cannot in its own database.
func (w *World) swappable() []*Target {
	return slices.DeleteFunc(slices.Clone(w.Targets), func(t *Target) bool { return t.Function != "search" && t.Function != "warehouse" })
}

// copyOf has a copy made, which the swap that is ordered next waits for. One that another fault has left is taken.
func (w *World) copyOf(ctx context.Context, t *Target) error {
	limited, cancel := context.WithTimeout(ctx, reachedWithin)
	defer cancel()
	for {
		if w.runnel(limited, "replay", t.Function, "--swap", "--dry-run") == nil {
			return nil
		}
		err := w.runnel(limited, "backfill", t.Function, "--into", fmt.Sprintf("{table}_%d", time.Now().UnixMilli()), "--detach")
		if e := pause(limited, 200*time.Millisecond); e != nil {
			return errors.Join(e, err)
		}
	}
}

// diesAt does what leads to the failpoint, and waits for the end there.
func (w *World) diesAt(ctx context.Context, p *Process, name failpoint.Name, t trigger, order []string, from int64, r *rand.Rand) error {
	limited, cancel := context.WithTimeout(ctx, reachedWithin)
	defer cancel()
	dead := func() bool { return p.logged(from, "failpoint "+string(name)+killedAtFailpoint) }
	var refused error
	var large time.Time
	for began := time.Now(); !dead(); {
		var err error
		switch {
		case order != nil: // until it is taken: another fault may be in its way
			if refused = w.runnel(limited, order...); refused == nil {
				order = nil
			}
		case t.way == resting:
			err = w.DB.Beside(limited, w.Source)
		case t.way == ending:
			err = w.ends(limited, p)
		case t.way == streaming && (large.IsZero() || time.Since(large) > 30*time.Second):
			refused, large = w.huge(limited, r), time.Now() // another fault may be in its way
		case t.way == truncating && time.Since(began) > 2*time.Second:
			w.Traffic.Truncate(limited)
			began = time.Now()
		}
		if err = errors.Join(err, pause(limited, 20*time.Millisecond)); err != nil && !dead() {
			return fmt.Errorf("%s did not come to the failpoint within %v: %w; see %s", p.Name, reachedWithin, errors.Join(err, refused), p.log)
		}
	}
	return nil
}

// huge writes a transaction as the source's own fault does.
func (w *World) huge(ctx context.Context, r *rand.Rand) error {
	all := w.DB.Faults()
	i := slices.IndexFunc(all, func(f Fault) bool { return f.Name == "source.huge" })
	return all[i].Inject(ctx, w, r)
}

// ends tells a process to stop once changes have come through, and waits until it has. It may stop without having come to its
// failpoint, and is then started again.
func (w *World) ends(ctx context.Context, p *Process) error {
	if _, err := w.recovered(ctx); err != nil {
		return err
	}
	_, done := p.life()
	if err := p.signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-done:
		return pause(ctx, 2*restartAfter)
	case <-ctx.Done():
		return ctx.Err()
	}
}
