package host

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// eventOverhead is about what a decoded event costs beside its line.
const eventOverhead = 384

// lostError says that a consumer may have lost something: what it delivered before is contiguous, and a new one goes on
// after that.
type lostError struct{ why string }

func (e lostError) Error() string { return "the consumer lost its place: " + e.why }

// consumer holds what a private consumer delivered, with one request standing whenever there is room, so that a message on
// an idle stream comes at once. What take returns has no hole: the server counts a message as delivered before the client
// has it, so a jump in the consumer's own sequence, a heartbeat that tells of more than what came, or silence breaks it.
type consumer struct {
	heartbeat time.Duration
	room      func() int64 // bytes that this partition may hold
	requested int          // messages of a request

	mu       sync.Mutex
	feed     Feed
	held     []Delivery
	bytes    int64
	lines    int
	first    time.Time // when the oldest held one came
	sequence uint64    // consumer sequence of the last message that came
	pending  uint64
	number   uint64 // of the newest request
	left     int    // messages that it may still bring; 0: none stands
	single   bool   // the next message exceeds a request's bytes: ask for it alone
	broken   error
	silence  *time.Timer
	arrived  chan struct{}
}

func consume(ctx context.Context, s Stream, t Tap, heartbeat time.Duration, messages int, room func() int64) (*consumer, error) {
	c := &consumer{heartbeat: heartbeat, room: room, requested: messages, arrived: make(chan struct{}, 1)}
	c.silence = time.AfterFunc(time.Hour, c.silent)
	c.silence.Stop()
	t.Receive = c.receive
	feed, err := s.Consume(ctx, t)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.feed = feed
	c.request()
	return c, nil
}

// request lets one stand if there is room. The lock is held.
func (c *consumer) request() {
	room := c.room()
	if c.feed == nil || c.broken != nil || c.left > 0 || c.bytes > room/2 || c.single && len(c.held) > 0 {
		return
	}
	c.number++
	r := Request{Number: c.number, Messages: c.requested, Bytes: int(room / 4), Heartbeat: c.heartbeat}
	if c.single {
		r.Messages, r.Bytes = 1, 0
	}
	c.left = r.Messages
	c.silence.Reset(c.heartbeat * 5 / 2)
	if err := c.feed.Request(r); err != nil {
		c.lose(err.Error())
	}
}

func (c *consumer) lose(why string) {
	if c.broken == nil {
		c.broken = lostError{why}
	}
	c.silence.Stop()
}

func (c *consumer) silent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left > 0 {
		c.lose("no heartbeat")
		c.signal()
	}
}

func (c *consumer) signal() {
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

// receive takes a packet.
func (c *consumer) receive(p Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return
	}
	c.silence.Reset(c.heartbeat * 5 / 2)
	switch p.Status {
	case Sent:
		if p.Consumer != c.sequence+1 {
			c.lose(fmt.Sprintf("message %d came after %d", p.Consumer, c.sequence))
			break
		}
		c.hold(p.Delivery)
	case Heartbeat:
		if p.Delivered != c.sequence {
			c.lose(fmt.Sprintf("%d messages were sent, %d came", p.Delivered, c.sequence))
		}
	case Ended:
		if p.Request == c.number {
			c.left = 0
		}
	case TooLarge:
		if p.Request == c.number {
			c.single = c.left == c.requested
			c.left = 0
		}
	case Broken:
		c.lose(p.Reason)
	}
	if c.left == 0 {
		c.silence.Stop()
	}
	c.request()
	c.signal()
}

func (c *consumer) hold(d Delivery) {
	d.lines = d.Message.Lines()
	d.size = len(d.Message.Data) + d.lines*eventOverhead
	if len(c.held) == 0 {
		c.first = time.Now()
	}
	c.held = append(c.held, d)
	c.bytes += int64(d.size)
	c.lines += d.lines
	c.sequence, c.pending = d.Consumer, d.Pending
	if c.left > 0 {
		c.left--
	}
	c.single = false
}

// limits of a batch.
type limits struct {
	rows  int
	bytes int64
	age   time.Duration
}

// reached says whether a batch is about as large as it may be.
func (l limits) reached(got []Delivery) bool {
	rows, bytes := 0, int64(0)
	for i := range got {
		rows, bytes = rows+got[i].lines, bytes+int64(got[i].size)
	}
	return 2*rows >= l.rows || 2*bytes >= l.bytes
}

// take waits until there is a batch or the time is over, and appends it. A batch closes by rows, bytes or age; without an
// age it is whatever has come. lostError comes only after everything that was contiguous.
func (c *consumer) take(ctx context.Context, dst []Delivery, l limits, wait time.Duration) ([]Delivery, error) {
	over := time.NewTimer(max(wait, 0))
	defer over.Stop()
	for {
		c.mu.Lock()
		young := time.Duration(0)
		if len(c.held) > 0 {
			young = l.age - time.Since(c.first)
			full := c.lines >= l.rows || c.bytes >= min(l.bytes, c.room()/2) || c.left == 0
			if full || young <= 0 || c.broken != nil {
				dst = c.cut(dst, l)
				c.request()
				c.mu.Unlock()
				return dst, nil
			}
		}
		err := c.broken
		c.mu.Unlock()
		if err != nil {
			return dst, err
		}
		if young > 0 {
			over.Reset(young)
		}
		select {
		case <-ctx.Done():
			return dst, ctx.Err()
		case <-c.arrived:
		case <-over.C:
			if young <= 0 {
				return dst, nil
			}
		}
	}
}

// cut moves a batch from what is held, at least one message. The lock is held.
func (c *consumer) cut(dst []Delivery, l limits) []Delivery {
	n, rows, bytes := 0, 0, int64(0)
	for n < len(c.held) {
		d := &c.held[n]
		if n > 0 && (rows+d.lines > l.rows || bytes+int64(d.size) > l.bytes) {
			break
		}
		rows, bytes, n = rows+d.lines, bytes+int64(d.size), n+1
	}
	dst = append(dst, c.held[:n]...)
	kept := copy(c.held, c.held[n:])
	clear(c.held[kept:]) // the messages' memory
	c.held = c.held[:kept]
	c.bytes -= bytes
	c.lines -= rows
	c.first = time.Now()
	return dst
}

// backlog is what was not taken yet, here and in the stream.
func (c *consumer) backlog() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending + uint64(len(c.held))
}

// empty says that everything that came was taken.
func (c *consumer) empty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held) == 0 && c.broken == nil
}

func (c *consumer) ack(d Delivery) { c.feed.Ack(d) }

func (c *consumer) close(ctx context.Context) {
	c.mu.Lock()
	c.lose("closed")
	c.mu.Unlock()
	c.feed.Close(ctx)
}
