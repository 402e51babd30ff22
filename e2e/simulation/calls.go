package simulation

import (
	"context"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Below are the calls of agent and host to the outside, each of which may be the last one of its process.

type streamCalls struct {
	*stream.Stream
	p          *process
	resnapshot bool // it may go on past a gap
}

func (s streamCalls) End(ctx context.Context) (stream.End, error) {
	return call(s.p, "reading the stream's end", func() (stream.End, error) { return s.Stream.End(ctx) })
}

func (s streamCalls) LastOn(ctx context.Context, subject string) (*event.Message, error) {
	return call(s.p, "reading the last message", func() (*event.Message, error) { return s.Stream.LastOn(ctx, subject) })
}

func (s streamCalls) Stored(ctx context.Context, g event.Group, from uint64) ([]*event.Message, error) {
	return call(s.p, "reading a group back", func() ([]*event.Message, error) { return s.Stream.Stored(ctx, g, from) })
}

func (s streamCalls) Fence(ctx context.Context, after uint64, epoch uint32, g event.Group, instance string) (event.Writer, error) {
	return call(s.p, "the fence", func() (event.Writer, error) { return s.Stream.Fence(ctx, after, epoch, g, instance) })
}

func (s streamCalls) Chain(w event.Writer, after uint64, o stream.ChainOptions) *chainCalls {
	s.p.w.h.note(s.p.name, "writes as %s after %d", w, after)
	if !s.p.starting.Load() {
		s.p.w.c.count("a running writer takes another epoch")
	}
	if s.resnapshot || s.p.past.Load() {
		s.p.w.m.Again(w.Epoch)
	}
	return &chainCalls{s.Stream.Chain(w, after, o), s.p}
}

type chainCalls struct {
	*stream.Chain
	p *process
}

func (c *chainCalls) Publish(ctx context.Context, m *stream.Outgoing) (uint64, error) {
	return call(c.p, "publishing "+m.ID, func() (uint64, error) {
		if m.Group.K > 1 {
			c.p.w.c.count("a group of several messages is published")
		}
		return c.Chain.Publish(ctx, m)
	})
}

func (c *chainCalls) Flush() error { return c.p.run("a flush", c.Chain.Flush) }

type bucketCalls struct {
	*stream.Bucket
	p    *process
	name string
}

func (b bucketCalls) Get(ctx context.Context, key string) (stream.Entry, error) {
	return call(b.p, "reading "+b.name, func() (stream.Entry, error) { return b.Bucket.Get(ctx, key) })
}

func (b bucketCalls) Put(ctx context.Context, key string, v []byte) (uint64, error) {
	return call(b.p, "writing "+b.name, func() (uint64, error) { return b.Bucket.Put(ctx, key, v) })
}

func (b bucketCalls) Swap(ctx context.Context, key string, v []byte, revision uint64) (uint64, error) {
	return call(b.p, "swapping "+b.name, func() (uint64, error) {
		r, err := b.Bucket.Swap(ctx, key, v, revision)
		if err == nil && b.name == "captures" {
			b.p.noted.Store(true)
		}
		return r, err
	})
}

// sourceCalls is the source as a process sees it.
type sourceCalls struct {
	d          *database
	p          *process
	resnapshot bool // the operator lets it go on past a gap
}

func (s sourceCalls) Acquire(ctx context.Context, waiting func(string)) (capture.Log, error) {
	return s.take(ctx, "acquiring the slot", waiting, nil)
}

func (s sourceCalls) Renew(ctx context.Context, waiting func(string), still func(context.Context) error) (capture.Log, error) {
	if still == nil {
		still = func(context.Context) error { return nil }
	}
	return s.take(ctx, "renewing the slot", waiting, still)
}

func (s sourceCalls) take(ctx context.Context, what string, waiting func(string), renew func(context.Context) error) (capture.Log, error) {
	l, err := call(s.p, what, func() (*connection, error) {
		l, err := s.d.take(ctx, s.p.name, waiting, renew)
		if err == nil {
			untouched := l.fresh && s.p.w.m.Untouched(l.info.Confirmed.Commit)
			past := renew != nil || untouched || s.p.w.pending.Load() || s.p.w.rereading()
			if s.resnapshot || past {
				s.p.past.Store(past)
				s.p.w.m.Past(l.info.Confirmed.Commit)
			}
			s.p.mu.Lock()
			s.p.log = l
			dead := s.p.dead
			s.p.mu.Unlock()
			if dead {
				_ = l.Close(ctx)
			}
		}
		return l, err
	})
	if err != nil {
		return nil, err
	}
	return logCalls{l, s.p}, nil
}

type logCalls struct {
	*connection
	p *process
}

// way is how long a question to the source takes.
func (l logCalls) way(ctx context.Context) error {
	return l.p.travel(ctx, l.p.w.c.between("way to the source", l.p.name, 50*time.Microsecond, 2*time.Millisecond))
}

func (l logCalls) Next(ctx context.Context) (capture.Run, error) {
	return call(l.p, "reading the log", func() (capture.Run, error) {
		if err := l.way(ctx); err != nil {
			return capture.Run{}, err
		}
		return l.connection.Next(ctx)
	})
}

func (l logCalls) Check(ctx context.Context, from, first event.Position, identity string) error {
	return l.p.run("checking the source", func() error { return l.connection.Check(ctx, from, first, identity) })
}

func (l logCalls) Start(ctx context.Context, after, met event.Position) error {
	return l.p.run("starting the log", func() error { return l.connection.Start(ctx, after, met) })
}

func (l logCalls) Holds(ctx context.Context) error {
	return l.p.run("asking for the slot", func() error { return l.connection.Holds(ctx) })
}

func (l logCalls) Confirm(ctx context.Context, p event.Position) error {
	lost := l.p.w.c.fault("the answer to a Confirm is lost", l.p.name)
	err := l.p.run("confirming", func() error { return l.connection.Confirm(ctx, p) })
	if lost && err == nil {
		return errNoReply
	}
	return err
}

func (l logCalls) Tables(ctx context.Context) ([]capture.TableInfo, error) {
	return call(l.p, "listing tables", func() ([]capture.TableInfo, error) { return l.connection.Tables(ctx) })
}

func (l logCalls) Visible(ctx context.Context) (func(uint64) bool, error) {
	return call(l.p, "taking a snapshot", func() (func(uint64) bool, error) { return l.connection.Visible(ctx) })
}

func (l logCalls) Chunk(ctx context.Context, r capture.ChunkRequest) (*capture.Chunk, error) {
	return call(l.p, "reading a chunk", func() (*capture.Chunk, error) {
		c, err := l.connection.Chunk(ctx, r)
		if err != nil {
			return nil, err
		}
		d := l.p.w.c.between("way of a chunk", l.p.name, 50*time.Microsecond, 5*time.Millisecond)
		if l.p.w.c.fault("a chunk is on its way for long", l.p.name) {
			d = l.p.w.c.between("a long way", l.p.name, 10*time.Millisecond, time.Second)
		}
		return c, l.p.travel(ctx, d)
	})
}

func (l logCalls) Mark(ctx context.Context, id string) error {
	return l.p.run("marking", func() error { return l.connection.Mark(ctx, id) })
}

func (l logCalls) Whole(ctx context.Context, t event.Table, f func(*capture.Chunk) error) error {
	return l.p.run("reading a whole table", func() error { return l.connection.Whole(ctx, t, f) })
}

// worldCalls is JetStream as a host sees it.
type worldCalls struct {
	host.World
	p *process
}

func (w worldCalls) Bucket(name string) host.Bucket {
	return hostBucketCalls{w.World.Bucket(name), w.p, name}
}

func (w worldCalls) Stream(ctx context.Context, source string) (host.Stream, error) {
	s, err := call(w.p, "opening the stream", func() (host.Stream, error) { return w.World.Stream(ctx, source) })
	if err != nil {
		return nil, err
	}
	return hostStreamCalls{s, w.p}, nil
}

type hostBucketCalls struct {
	host.Bucket
	p    *process
	name string
}

func (b hostBucketCalls) Get(ctx context.Context, key string) (stream.Entry, error) {
	return call(b.p, "reading "+b.name, func() (stream.Entry, error) { return b.Bucket.Get(ctx, key) })
}

func (b hostBucketCalls) Put(ctx context.Context, key string, v []byte) (uint64, error) {
	return call(b.p, "writing "+b.name, func() (uint64, error) { return b.Bucket.Put(ctx, key, v) })
}

func (b hostBucketCalls) Swap(ctx context.Context, key string, v []byte, revision uint64) (uint64, error) {
	return call(b.p, "swapping "+b.name, func() (uint64, error) {
		r, err := b.Bucket.Swap(ctx, key, v, revision)
		if err == nil && b.name == "captures" {
			b.p.noted.Store(true)
		}
		return r, err
	})
}

type hostStreamCalls struct {
	host.Stream
	p *process
}

func (s hostStreamCalls) End(ctx context.Context) (stream.End, error) {
	return call(s.p, "reading the stream's end", func() (stream.End, error) { return s.Stream.End(ctx) })
}

func (s hostStreamCalls) Next(ctx context.Context, subject string, from uint64) (*event.Message, error) {
	return call(s.p, "looking for the next message", func() (*event.Message, error) { return s.Stream.Next(ctx, subject, from) })
}

func (s hostStreamCalls) FenceAfter(ctx context.Context, epoch uint32) (uint64, bool, error) {
	type fence struct {
		sequence uint64
		ok       bool
	}
	f, err := call(s.p, "looking for fences", func() (f fence, err error) {
		f.sequence, f.ok, err = s.Stream.FenceAfter(ctx, epoch)
		return f, err
	})
	return f.sequence, f.ok, err
}

func (s hostStreamCalls) Consume(ctx context.Context, t host.Tap) (host.Feed, error) {
	return call(s.p, "making a consumer", func() (host.Feed, error) { return s.Stream.Consume(ctx, t) })
}
