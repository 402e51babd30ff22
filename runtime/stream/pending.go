package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Pending counts the messages on a subject (wildcards allowed) from a sequence on. The server counts them for a consumer that lives
// for the question only.
func (s *Stream) Pending(ctx context.Context, subject string, from uint64) (uint64, error) {
	c, err := s.conn.js.CreateConsumer(ctx, s.name, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       max(from, 1),
		AckPolicy:         jetstream.AckNonePolicy,
		FilterSubject:     subject,
		InactiveThreshold: 5 * time.Second,
		Replicas:          1,
		MemoryStorage:     true,
	})
	if err != nil {
		return 0, fmt.Errorf("count what stream %s holds on %s: %w", s.name, subject, err)
	}
	info := c.CachedInfo()
	_ = s.conn.js.DeleteConsumer(ctx, s.name, info.Name) // else its inactive threshold does
	return info.NumPending, nil
}
