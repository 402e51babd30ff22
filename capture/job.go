package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Waits of a load. They bound how long it stands still, not how long something may take.
const (
	lull     = 5 * time.Second // a chunk waits at most this long for the log to have no backlog
	slowest  = 15 * time.Second
	ahead    = 2   // chunks of a table that are read and not published yet
	smallest = 100 // rows of a chunk that is read again and again since the log touches too much meanwhile
)

// job loads one table, chunk by chunk in key order, beside the running log.
type job struct {
	w        *writer
	snap     Snapshotter
	load     string
	table    TableInfo
	next     Progress // as it will be once all that was sent counts
	revision uint64
	steps    []step // that do not count yet
	rows     int    // of the next chunk
	serial   int    // of the next chunk that is read: no two that are published have one number
	began    time.Time
	before   int64

	function string            // the only one that it is for; empty: all
	where    string            // only these rows
	keys     []json.RawMessage // only rows with these keys, all in one chunk
	stop     chan struct{}     // closed: it is not asked for any more; nil for a load
	told     atomic.Pointer[told]

	left      bool // the table was not captured for a while: the loader's
	abandoned bool // the table is not captured any more: the job's, until it has ended
}

// told is what a job says of itself to who watches it.
type told struct {
	rows, estimate int64
	read           bool   // to the table's end
	last           uint64 // then: sequence of its last message
	problem        string // what is tried again
	skipped        string // why nothing is read
}

func (j *job) tell(change func(*told)) {
	next := told{}
	if now := j.told.Load(); now != nil {
		next = *now
	}
	change(&next)
	j.told.Store(&next)
}

// step is progress that counts once the stream has held its messages for the fsync horizon.
type step struct {
	Progress
	last  sent      // of its messages
	since time.Time // when it was seen to be stored
}

// run holds a place only while it reads: until all counts a horizon passes, which is minutes on an external NATS.
func (j *job) run(ctx context.Context, places chan struct{}) error {
	if j.next.Done {
		return nil
	}
	select {
	case places <- struct{}{}:
	case <-j.stop:
		return errWithdrawn
	case <-ctx.Done():
		return ctx.Err()
	}
	j.began = time.Now()
	err := j.read(ctx)
	<-places
	if err != nil || j.abandoned && j.stop == nil {
		return err
	}
	j.next.Done, j.next.After = true, ""
	if j.abandoned {
		j.next.Skipped = errAbsent.Error()
	}
	if err := j.finish(ctx); err != nil {
		return err
	}
	failpoint.At(failpoint.LoadEnded)
	j.observe(true)
	return nil
}

// read publishes the rows of the table.
func (j *job) read(ctx context.Context) error {
	if j.next.Sweep && j.next.Cutoff == 0 {
		if err := j.bound(ctx, event.Mark); err != nil {
			return err
		}
		failpoint.At(failpoint.LoadBegun)
	}
	reading, cancel := j.reading(ctx)
	err := j.chunks(reading)
	if cancel(); err != nil && reading.Err() != nil && ctx.Err() == nil {
		return errWithdrawn
	}
	if errors.Is(err, errAbsent) {
		j.abandoned = true
		return nil
	}
	if err == nil && j.next.Sweep {
		err = j.bound(ctx, event.Truncate)
		failpoint.At(failpoint.LoadSwept)
	}
	return err
}

// reading ends when nobody asks for the rows any more. What a table's m and t are published under is not it: they are whole, or the agent
// ends.
func (j *job) reading(ctx context.Context) (context.Context, context.CancelFunc) {
	c, cancel := context.WithCancel(ctx)
	if j.stop == nil {
		return c, cancel
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-j.stop:
			cancel()
		case <-c.Done():
		}
	}()
	return c, func() {
		cancel()
		<-over
	}
}

// chunks publishes the table's rows. It reads ahead: while the log comes to where one chunk was read, the next one is read, in
// a window of its own. A chunk that proves to be void is read again from its beginning, and all behind it; what of those
// was published already comes twice, and newer.
func (j *job) chunks(ctx context.Context) error {
	var open []*window // in key order
	after, last := j.next.After, false
	for {
		for len(open) < ahead && !last {
			win, err := j.chunk(ctx, after)
			if err != nil {
				return err
			}
			open = append(open, win)
			after, last = win.chunk.Next, win.chunk.Next == ""
		}
		win := open[0]
		if err := win.wait(ctx); err != nil {
			return err
		}
		if !win.stored { // a TRUNCATE, another structure, or too many keys
			for _, o := range open[1:] {
				if err := o.wait(ctx); err != nil {
					return err
				}
			}
			open, after, last = nil, j.next.After, false
			j.rows = max(j.rows/2, min(smallest, j.w.a.cfg.ChunkRows))
			continue
		}
		open = open[1:]
		if err := j.count(ctx, win); err != nil || last && len(open) == 0 {
			return err
		}
	}
}

// count notes a chunk that was published, as all before it were.
func (j *job) count(ctx context.Context, win *window) error {
	j.rows = min(2*j.rows, j.w.a.cfg.ChunkRows)
	j.next.Chunks++
	j.next.Rows += int64(len(win.chunk.Rows))
	j.next.After = win.chunk.Next
	if j.next.After != "" { // the last one counts with the end alone, so that an interrupted load never begins over
		j.steps = append(j.steps, step{Progress: j.next, last: win.last})
	}
	win.chunk = nil
	j.observe(false)
	return j.save(ctx)
}

// leave notes that the table was not captured for a while: it is loaded anew when it returns.
func (j *job) leave(ctx context.Context) error {
	p := j.next
	p.Gone = true
	_, err := j.w.a.writeProgress(ctx, j.load, p, j.revision)
	return err
}

// finish waits until all that was sent counts.
func (j *job) finish(ctx context.Context) error {
	j.w.mu.Lock()
	err := j.w.chain().Flush()
	last := j.w.sent()
	j.w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("flush the load of %s: %w", j.table.Schema.Table, err)
	}
	if err := j.w.wait(ctx, last.sequence); err != nil {
		return fmt.Errorf("load of %s: %w", j.table.Schema.Table, err)
	}
	j.tell(func(t *told) { t.read, t.last, t.skipped, t.problem = true, last.sequence, j.next.Skipped, "" })
	for j.steps = append(j.steps, step{Progress: j.next, last: last}); len(j.steps) > 0; {
		if err := j.save(ctx); err != nil {
			return err
		}
		if !sleep(ctx, min(j.w.a.cfg.Horizon/4+time.Millisecond, time.Second)) {
			return ctx.Err()
		}
	}
	return nil
}

func (j *job) observe(done bool) {
	if j.stop != nil {
		j.tell(func(t *told) { t.rows, t.problem = j.next.Rows, "" })
		return
	}
	j.w.a.cfg.Observer.loading(Loading{
		Table: j.table.Schema.Table, Rows: j.next.Rows, Estimate: j.next.Estimate, Began: j.began, Before: j.before, Done: done,
	})
}

// save writes what counts by now. NATS may be away for a while: what cannot be written now is written later, and the agent's
// own watch over the stream decides when that lasts too long.
func (j *job) save(ctx context.Context) error {
	stored, n := j.w.chain().Stored(), 0
	for i := range j.steps {
		s := &j.steps[i]
		if s.last.sequence <= stored && s.since.IsZero() {
			s.since = time.Now()
		}
		if !s.since.IsZero() && time.Since(s.since) >= j.w.a.cfg.Horizon {
			n = i + 1
		}
	}
	if n == 0 {
		return nil
	}
	s := j.steps[n-1]
	err := j.w.holds(ctx, s.last)
	if err == nil {
		var revision uint64
		if revision, err = j.w.a.writeProgress(ctx, j.load, s.Progress, j.revision); err == nil {
			j.revision = revision
			j.steps = append(j.steps[:0], j.steps[n:]...)
			failpoint.At(failpoint.ChunkCounted)
		}
	}
	if again(err) || errors.Is(err, stream.ErrFenced) || ctx.Err() != nil {
		return err
	}
	return nil
}

func (j *job) bound(ctx context.Context, op event.Op) error {
	for {
		v, _, ok, err := j.w.bound(ctx, j.table.Schema, op, j.load, j.function, j.next.Cutoff)
		if err != nil {
			return err
		}
		if ok {
			j.next.Cutoff = v
			return nil
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// chunk reads the rows after a key and writes the marker at which they are published, however often that must be tried.
func (j *job) chunk(ctx context.Context, after string) (*window, error) {
	for wait := time.Duration(0); ; {
		if err := j.w.room.wait(ctx, j.w.a); err != nil {
			return nil, err
		}
		if err := j.quiet(ctx); err != nil {
			return nil, err
		}
		win := j.w.openWindow(j.table.Schema.Table, j.load, j.function, j.serial)
		win.keys = j.keys
		j.serial++
		err := j.try(ctx, win, after)
		if err == nil {
			return win, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		wait = min(max(2*wait, 100*time.Millisecond), slowest)
		if j.absent(ctx) {
			return nil, errAbsent
		}
		j.tell(func(t *told) { t.problem = err.Error() })
		j.w.a.cfg.Log.Warn("a chunk could not be read, trying again", "source", j.w.a.cfg.Source, "table", j.table.Schema.Table.String(),
			"error", err, "wait", wait)
		if !sleep(ctx, wait) {
			return nil, ctx.Err()
		}
	}
}

// errAbsent: the table is not captured any more.
var errAbsent = errors.New("the table is not captured any more")

func (j *job) absent(ctx context.Context) bool {
	tables, err := j.snap.Tables(ctx)
	return err == nil && !slices.ContainsFunc(tables, func(t TableInfo) bool { return t.Schema.Table == j.table.Schema.Table })
}

// try reads the chunk once and writes its marker.
func (j *job) try(ctx context.Context, win *window, after string) error {
	mark := strconv.FormatUint(uint64(j.w.id().Epoch), 36) + "." + strconv.FormatUint(j.w.a.cfg.Random(), 36)
	c, err := j.visible(ctx, win, after)
	if err != nil {
		j.w.dropWindow(win, mark)
		return err
	}
	failpoint.At(failpoint.ChunkRead)
	win.chunk = c
	j.w.mu.Lock()
	j.w.marks[mark] = win
	j.w.mu.Unlock()
	if err := j.snap.Mark(ctx, mark); err != nil {
		j.w.dropWindow(win, mark)
		return fmt.Errorf("write the marker of a chunk: %w", err)
	}
	failpoint.At(failpoint.ChunkMarked)
	return nil
}

// visible reads the chunk in a snapshot that shows what was published before the window opened. The window stays the same
// however long that takes: with synchronous replication there is always a commit that is published and not visible yet.
func (j *job) visible(ctx context.Context, win *window, after string) (*Chunk, error) {
	r := ChunkRequest{Table: win.table, After: after, MaxRows: j.rows, MaxBytes: j.w.a.cfg.ChunkBytes, Where: j.where, Keys: j.keys}
	if len(j.keys) > 0 {
		r.MaxBytes = 0 // they are few
	}
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		c, err := j.snap.Chunk(ctx, r)
		if err != nil {
			return nil, err
		}
		all := j.w.sees(win, c.Visible)
		switch {
		case all && r.MaxRows == j.rows:
			return c, nil
		case all:
			r.MaxRows = j.rows
			continue
		}
		r.MaxRows = 1 // enough to look
		if !sleep(ctx, wait) {
			return nil, ctx.Err()
		}
	}
}

// quiet waits until the log has no backlog, but not for long: behind one a chunk's window stays open, and fills.
func (j *job) quiet(ctx context.Context) error {
	for began := time.Now(); j.w.backlog.Load() && time.Since(began) < lull; {
		if !sleep(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	return ctx.Err()
}
