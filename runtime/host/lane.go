package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/shape"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// lane is one partition of a function: it claims it, reads it and writes it, one batch at a time. Only its own goroutine
// touches its fields; while that waits for the writer, the writer may.
type lane struct {
	g         *generation
	host      *Host
	log       *slog.Logger
	partition int
	key       string // of its record
	subject   string // what its consumers filter by

	owner     registry.Owner // the record as this lane wrote or read it last
	revision  uint64
	unsure    bool      // a swap had no answer: the revision may be of before or after it
	confirmed time.Time // when KV was asked whether the partition is still ours, and it is

	read   sink.Point // everything up to here is durable in the target
	proven uint64     // retention had not passed this sequence after it was read

	refused   int           // events in a row that became dead letters
	filled    bool          // the batch under way is as large as it may be
	impatient time.Duration // how many deadlines a step of a transaction may take, since one took too long
	consumer  *consumer
	floorAt   time.Time // when the floor was moved or found in place
	idleAt    time.Time
	looked    time.Time // when the stream's end was looked at while idle
	ends      []look    // what it was at such looks within about a lease

	got    []Delivery // of the batch under way
	events []event.Event
	wanted map[string]bool // by subject: does the function read that table
	schema *event.Schema   // of the last event
	shape  *shape.Shape    // for that; nil where events stay as they are
	shaped []byte          // what the batch's events became

	woken       chan struct{} // it may be our turn
	seen        uint64        // revision of the record at the last look while it was not ours, and 1; 0: none
	seenAt      time.Time     // when it was seen first
	predecessor string        // the worker that was gone, whose consumer may still be there

	stuck time.Time // until then it is not handed over; only Host.handOver touches it

	hold    atomic.Pointer[context.CancelFunc] // ends the work on the partition that we have
	owned   atomic.Bool
	closed  time.Time    // since when the target says so of this generation
	oldest  atomic.Int64 // Unix milliseconds of the first message of the batch under way; 0 for none
	current atomic.Pointer[consumer]
}

// Ends of a lane's work, beside errors of ctx and haltError.
var (
	errLost    = errors.New("the partition is no longer ours")
	errStopped = errors.New("the function does not run any more")
	errReopen  = errors.New("read again from the floor")
)

func newLane(g *generation, partition int) *lane {
	return &lane{
		g: g, host: g.host, partition: partition, log: g.log.With("partition", partition),
		key:     g.f.name + "." + strconv.FormatInt(g.record.Generation, 10) + "." + strconv.Itoa(partition),
		subject: filter(g.spec, partition),
		wanted:  map[string]bool{},
		woken:   make(chan struct{}, 1),
	}
}

// filter is the one subject that covers all that the function reads of a partition: exact, else the narrowest wildcard. (Two
// filters make a consumer ten times slower.) Where it takes whole transactions, any event may be the end of one.
func filter(f *registry.Function, partition int) string {
	if f.Ordering == registry.OrderSource {
		return "cdc." + f.Source() + ".>"
	}
	tokens := strings.Split(f.From[0], ".")
	for _, from := range f.From[1:] {
		for i, t := range strings.Split(from, ".") {
			if t != tokens[i] {
				tokens[i] = "*"
			}
		}
	}
	return "cdc." + strings.Join(tokens, ".") + "." + strconv.Itoa(partition)
}

// Subject is what the consumers of a function's partition filter by.
func Subject(f *registry.Function, partition int) string { return filter(f, partition) }

// run holds the partition whenever nobody else does, until ctx ends or the function halts.
func (l *lane) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.claim(ctx); err != nil {
			l.end(err)
			return
		}
		handed, err := l.own(ctx)
		if handed {
			continue
		}
		if !errors.Is(err, errLost) && !errors.Is(err, errStopped) {
			l.end(err)
			return
		}
		l.log.InfoContext(ctx, "partition left; it is claimed again when nobody holds it", "reason", err)
		if sleep(ctx, l.host.cfg.Lease/10) != nil {
			return
		}
	}
}

// own works on the partition that we have, until it is lost or handed over.
func (l *lane) own(ctx context.Context) (handed bool, err error) {
	holding, cancel := context.WithCancel(ctx)
	defer cancel()
	l.hold.Store(&cancel)
	l.owned.Store(true)
	l.host.lanes.Add(1)
	l.host.tell()
	err = l.work(holding)
	var h haltError
	handed = ctx.Err() == nil && holding.Err() != nil && !errors.As(err, &h) && !errors.Is(err, errLost)
	if handed {
		failpoint.At(failpoint.MoveReleased)
	}
	l.hold.Store(nil)
	l.owned.Store(false)
	l.host.tell() // others wait for it
	l.leave()
	l.g.health.works(l.g, l) // it tries nothing any more
	l.host.lanes.Add(-1)
	return handed, err
}

// handOver ends the work on the partition: the batch is finished, the floor moved, the partition released.
func (l *lane) handOver(to string) {
	if cancel := l.hold.Load(); cancel != nil {
		l.log.Info("the partition is handed over", "worker", to)
		(*cancel)()
	}
}

func (l *lane) end(err error) {
	var h haltError
	if errors.As(err, &h) {
		l.g.halt(h.err)
	}
}

// work reads and writes until the partition is lost, ctx ends or the function halts. Then the floor says how far it came and
// the partition is free, except when it is another's already.
func (l *lane) work(ctx context.Context) error {
	again := l.host.backoff()
	for {
		err := l.open(ctx)
		if err == nil {
			again.reset()
			err = l.flow(ctx)
		}
		var h haltError
		switch {
		case errors.Is(err, errLost):
			return err
		case ctx.Err() != nil || errors.As(err, &h) || errors.Is(err, errStopped):
			l.release(ctx)
			return err
		case errors.Is(err, errReopen):
		default:
			l.log.WarnContext(ctx, "reading begins again", "after", l.read.Sequence, "reason", err)
			if again.wait(ctx, err) != nil {
				l.release(ctx)
				return ctx.Err()
			}
		}
	}
}

// open finds where to go on: the target's checkpoint or the floor, then the fences, then a consumer of our own.
func (l *lane) open(ctx context.Context) error {
	l.leave()
	if err := l.start(ctx); err != nil {
		return err
	}
	if err := l.fences(ctx); err != nil && !errors.Is(err, errReopen) {
		return err
	}
	c, err := consume(ctx, l.g.source, Tap{
		Name:     l.consumerOf(l.host.instance),
		Function: l.g.f.name,
		Subject:  l.subject,
		From:     l.read.Sequence + 1,
	}, l.host.cfg.Heartbeat, l.g.spec.Batch.Rows, l.host.room)
	if err != nil {
		return err
	}
	l.consumer = c
	failpoint.At(failpoint.ConsumerOpened)
	l.current.Store(c)
	l.idleAt = time.Now()
	l.forget(ctx)
	return nil
}

// consumerOf names a worker's consumer of the partition.
func (l *lane) consumerOf(instance string) string {
	return consumerOf(l.g.f.name, l.g.record.Generation, l.partition, instance)
}

func consumerOf(function string, generation int64, partition int, instance string) string {
	return fmt.Sprintf("%s-g%d-p%d-%s", function, generation, partition, instance)
}

// forget deletes the consumer of a worker that is gone: the server would keep it for as long as it waits for acknowledgements.
func (l *lane) forget(ctx context.Context) {
	if l.predecessor == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := l.g.source.Forget(ctx, l.consumerOf(l.predecessor)); err != nil {
		l.log.DebugContext(ctx, "the consumer of the worker before is still there; it is deleted at the next opportunity", "worker", l.predecessor, "error", err)
		return
	}
	l.predecessor = ""
	failpoint.At(failpoint.ConsumerForgotten)
}

func (l *lane) leave() {
	l.oldest.Store(0)
	if l.consumer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	l.current.Store(nil)
	l.consumer.close(ctx)
	l.consumer = nil
}

// flow is the loop between batches.
func (l *lane) flow(ctx context.Context) error {
	if l.g.sequencer != nil {
		return l.transactions(ctx)
	}
	for {
		if l.replayed() {
			return fmt.Errorf("%w: the replay is over", errReopen)
		}
		if l.read != l.owner.Floor && time.Since(l.floorAt) >= l.host.cfg.FloorEvery {
			if err := l.move(ctx); err != nil {
				return err
			}
		}
		limits := l.limits()
		got, err := l.consumer.take(ctx, l.got[:0], limits, l.patience())
		l.got = got
		if len(got) > 0 {
			l.filled = limits.reached(got)
			failpoint.At(failpoint.Fetched)
			l.oldest.Store(got[0].Message.TimeMS)
			err = l.batch(ctx)
			l.oldest.Store(0)
			clear(l.got)
		} else if err == nil {
			err = l.idle(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// limits of the next batch.
func (l *lane) limits() limits {
	b := &l.g.spec.Batch
	rows, bytes := l.g.size.now(b.Rows, b.Bytes)
	return limits{rows: l.pace().limit(rows), bytes: min(bytes, l.host.room()/2), age: b.Age}
}

// place is the partition as the target knows it.
func (l *lane) place() int {
	if l.g.sequencer != nil {
		return sink.All
	}
	return l.partition
}

// patience is how long a lane waits for something to come.
func (l *lane) patience() time.Duration {
	if l.read != l.owner.Floor {
		return l.host.cfg.FloorEvery - time.Since(l.floorAt)
	}
	return l.host.cfg.IdleEvery/12 - time.Since(l.looked)
}

// status is read from other goroutines.
func (l *lane) status() (backlog uint64, lag time.Duration, owned bool) {
	if !l.owned.Load() {
		return 0, 0, false
	}
	if c := l.current.Load(); c != nil {
		backlog = c.backlog()
	}
	if ms := l.oldest.Load(); ms > 0 {
		lag = max(time.Since(time.UnixMilli(ms)), 0)
	}
	return backlog, lag, true
}
