package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Config of an agent.
type Config struct {
	Source     string        // its name
	Horizon    time.Duration // what JetStream acknowledged longer ago than this survives a power loss; required, see stream.Conn
	Settle     time.Duration // how long a new stream may vanish as a whole in a power loss; default 60s
	Parallel   int           // tables that are loaded at a time; default 2
	ChunkRows  int           // rows of a chunk; default 10000
	ChunkBytes int           // bytes of a chunk; default 8 MiB
	Interval   time.Duration // between two writes of the record; default 1s
	Idle       time.Duration // between two markers that carry the position while nothing is captured; default 3s
	Patience   time.Duration // how long NATS may be away before the slot is given back; default 10s
	Drain      time.Duration // how long a stop waits for what was sent; default 10s
	Resnapshot bool          // go on past a gap and load everything again
	FromOldest bool          // go on past a gap with what the server still has, and load nothing; only a Remainder can
	Epoch      uint64        // messages after which another epoch is taken; default, and as many as its versions can tell apart, 2²²
	Log        *slog.Logger
	Backlog    func(ctx context.Context) (Backlog, error)            // of the functions: loads wait while it is too large; default: they never wait
	Orders     func(ctx context.Context) ([]registry.Pending, error) // backfills of single functions; default: there are none
	Observer   Observer
	Random     func() uint64 // names this agent's fences; default random
}

// Agent moves the log of one source into its stream.
type Agent struct {
	cfg                          Config
	src                          Source
	stream                       Reader
	open                         func(w event.Writer, after uint64, o stream.ChainOptions) Chain
	captures, snapshots, schemas Bucket

	started bool                        // it has run before: what fails now may pass
	renew   func(context.Context) error // set: the next start makes a new slot, if this still allows it
	past    *GapError                   // set: the next start goes past it, as it was ordered to
	taken   time.Time                   // when the log was, and the source's clock read
	before  *string                     // the load that had begun when Resnapshot was ordered
}

// New checks the configuration and builds an agent. Nothing is opened before Run.
func New[C Chain](cfg Config, src Source, st Stream[C], captures, snapshots, schemas Bucket) (*Agent, error) {
	switch {
	case cfg.Source == "":
		return nil, errors.New("capture: the source has no name")
	case cfg.Horizon <= 0:
		return nil, errors.New("capture: the fsync horizon is not set")
	}
	set(&cfg.Settle, failpoint.Settle(time.Minute))
	set(&cfg.Parallel, 2)
	set(&cfg.ChunkRows, 10_000)
	set(&cfg.ChunkBytes, 8<<20)
	set(&cfg.Interval, time.Second)
	set(&cfg.Idle, 3*time.Second)
	set(&cfg.Patience, 10*time.Second)
	set(&cfg.Drain, 10*time.Second)
	set(&cfg.Epoch, event.MessagesPerEpoch)
	cfg.Epoch = min(cfg.Epoch, event.MessagesPerEpoch)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.Random == nil {
		cfg.Random = rand.Uint64
	}
	a := &Agent{cfg: cfg, src: src, stream: st, captures: captures, snapshots: snapshots, schemas: schemas}
	a.open = func(w event.Writer, after uint64, o stream.ChainOptions) Chain { return st.Chain(w, after, o) }
	return a, nil
}

func set[T comparable](v *T, standard T) {
	var zero T
	if *v == zero {
		*v = standard
	}
}

// errAgain: stream, record or slot are not what they were read to be; the way on is through Start.
var errAgain = errors.New("the agent must start again")

// Run moves changes until ctx ends, and then returns nil once everything sent is stored and recorded.
//
// It returns *GapError where the stream cannot go on without losing changes, stream.ErrFenced where another agent has taken
// the stream over, stream.ErrNoStream where the stream was deleted, and what went wrong if the first start fails. After that,
// whatever may pass is tried again for ever.
func (a *Agent) Run(ctx context.Context) error {
	defer a.cfg.Observer.state(Stopped, "")
	wait := time.Duration(0)
	for {
		began := time.Now()
		err := a.once(ctx)
		var gap *GapError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &gap):
			return err
		case errors.Is(err, stream.ErrFenced):
			return fmt.Errorf("%w; see which other agent runs on it", err)
		case errors.Is(err, stream.ErrNoStream): // it was deleted; whoever made it makes it again, and another agent goes on
			return err
		case ctx.Err() != nil:
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				return nil // nothing had been sent
			}
			return err
		case !a.started && !again(err):
			return err
		}
		if time.Since(began) > time.Minute {
			wait = 0
		}
		a.cfg.Log.Warn("capture starts again", "source", a.cfg.Source, "error", err, "wait", wait)
		if a.cfg.Observer.Retry != nil {
			a.cfg.Observer.Retry(err, wait)
		}
		if !sleep(ctx, wait) {
			return nil
		}
		wait = min(max(2*wait, 50*time.Millisecond), 10*time.Second)
	}
}

// again says whether an error only means that something moved while it was read.
func again(err error) bool {
	for _, e := range []error{errAgain, errRenew, stream.ErrMoved, stream.ErrConflict, stream.ErrRewound} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// once goes through Start and runs until something ends it. It holds the slot only in between.
func (a *Agent) once(ctx context.Context) (err error) {
	a.cfg.Observer.state(Connecting, "")
	if err := a.reach(ctx); err != nil {
		return err
	}
	failpoint.At(failpoint.StartReached)
	log, err := a.acquire(ctx)
	if err != nil {
		return err
	}
	a.taken = time.Now()
	failpoint.At(failpoint.StartAcquired)
	defer func() {
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Drain)
		defer cancel()
		if e := log.Close(c); e != nil && err == nil {
			err = fmt.Errorf("close the log of %s: %w", a.cfg.Source, e)
		}
	}()
	a.cfg.Observer.state(Starting, "")
	w, err := a.start(ctx, log)
	switch {
	case err != nil && ctx.Err() != nil && again(err):
		return ctx.Err() // something moved while a start was read of which nothing was sent
	case err != nil:
		return err
	}
	defer func() { w.chain().Close() }()
	ordered := a.cfg.Resnapshot
	a.started, a.cfg.Resnapshot, a.cfg.FromOldest, a.past = true, false, false, nil
	a.cfg.Observer.state(Streaming, "")
	err = w.run(ctx)
	var gap *GapError
	if ordered && !w.flows && errors.As(err, &gap) { // only reading the log shows that another history has grown beyond the stream's end
		a.cfg.Resnapshot, a.past = true, gap
		return fmt.Errorf("%w, past a gap: %s", errAgain, gap.Reason)
	}
	return err
}

// reach waits until NATS answers: an agent that cannot publish must not block a standby that can.
func (a *Agent) reach(ctx context.Context) error {
	c, cancel := context.WithTimeout(ctx, a.cfg.Patience)
	defer cancel()
	if _, err := a.stream.End(c); err != nil {
		return fmt.Errorf("read the end of the stream of %s: %w", a.cfg.Source, err)
	}
	if a.cfg.Resnapshot && a.before == nil {
		rec, err := a.readRecord(c)
		if err != nil {
			return err
		}
		a.before = new(string)
		if !rec.ordered() { // else what was ordered there begins later
			*a.before = rec.Load.ID
		}
	}
	return nil
}

func (a *Agent) waiting(holder string) {
	a.cfg.Log.Info("standby: another agent holds the slot", "source", a.cfg.Source, "holder", holder)
	a.cfg.Observer.state(Standby, holder)
}

// acquire takes the slot, or makes a new one: where start asked for it, and under Resnapshot in place of an unusable one.
func (a *Agent) acquire(ctx context.Context) (Log, error) {
	renewer, can := a.src.(Renewer)
	if still := a.renew; still != nil && can {
		a.renew = nil
		log, err := renewer.Renew(ctx, a.waiting, still)
		if err != nil {
			return nil, fmt.Errorf("make a new slot for %s: %w", a.cfg.Source, err)
		}
		return log, nil
	}
	log, err := a.src.Acquire(ctx, a.waiting)
	var gap *GapError
	if can && a.cfg.Resnapshot && errors.As(err, &gap) {
		log, err = renewer.Renew(ctx, a.waiting, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("take the log of %s: %w", a.cfg.Source, err)
	}
	return log, nil
}

// sleep waits, and says whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
