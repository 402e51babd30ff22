package fakenats

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"time"
)

// Faults are what may go wrong by itself, as chances between 0 and 1 of each single thing; the zero value is a server
// that answers at once and always. What a test makes go wrong at a time of its own are methods of Server and Client.
type Faults struct {
	// Of each chunk of bytes, in either direction.
	LatencyMin, LatencyMax time.Duration
	Late                   float64 // takes up to LateMost more
	LateMost               time.Duration
	Split                  float64 // arrives in two parts
	Cut                    float64 // the connection is cut at any byte of it

	// Of each publish to a stream.
	PublishLost   float64 // the one who took it did not lead the stream any more
	AckLost       float64 // stored, but the answer is lost
	AckLate       float64 // the answer takes up to LateMost
	InFlight      float64 // refused since another write of the subject is being proposed: 10164
	NoResponders  float64 // refused since the stream has no leader: 503
	StoreRefuses  float64 // refused for want of resources: 10023, or of storage: 10077
	AnswerUnknown float64 // a fence's batch: the connection of who sent it breaks when it is stored

	// Of each request to JetStream's API.
	RequestLost float64 // the one who took it does not lead any more: nothing happens
	ReplyLost   float64 // it happens, and nobody is told
	Unavailable float64 // 10008: no leader at the moment
	DirectStale float64 // a Direct Get is answered by a replica that lags

	// Of each delivery of a consumer.
	DeliveryLost float64 // counted as sent
	ConsumerGone float64 // with the server that it lived on: nobody is told
	ConsumerLate float64 // new messages are noticed up to LateMost late
}

func chance(r *rand.Rand, p float64) bool { return p > 0 && r.Float64() < p }

// happens draws whether something goes wrong, and counts it.
func (s *Server) happens(name string, p float64) bool {
	if !chance(s.rand, p) {
		return false
	}
	s.hit(name)
	return true
}

// latency is that of the next chunk. A handshake takes no time: nats.go holds its mutex meanwhile.
func (c *conn) latency() time.Duration {
	f := &c.s.faults
	if !c.ready {
		return 0
	}
	d := f.LatencyMin
	if f.LatencyMax > f.LatencyMin {
		d += time.Duration(c.rand.Int64N(int64(f.LatencyMax - f.LatencyMin)))
	}
	if chance(c.rand, f.Late) {
		c.s.hit("bytes late")
		d += time.Duration(c.late())
	}
	return d
}

// late is how late something is that is late, in nanoseconds.
func (c *conn) late() int64 {
	if most := c.s.faults.LateMost; most > 0 {
		return c.rand.Int64N(int64(most))
	}
	return 0
}

func (s *Server) late() time.Duration {
	if most := s.faults.LateMost; most > 0 {
		return time.Duration(s.rand.Int64N(int64(most)))
	}
	return 0
}

// hit counts a rare path.
func (s *Server) hit(name string) { s.counts[name]++ }

// Counts are the rare paths that were taken, and how often.
func (s *Server) Counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// Count is how often a rare path was taken.
func (s *Server) Count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[name]
}

func (s *Server) tracef(format string, a ...any) {
	if s.options.Trace != nil {
		s.options.Trace(fmt.Sprintf(format, a...))
	}
}
