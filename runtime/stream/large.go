package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/runtime/event"
)

// A payload above the server's limit lies in the object store RUNNEL_large under its message's ID; the message in the stream
// has the header Runnel-Large and no data. The object is stored before the message and outlives it.
const (
	largeBucket = "RUNNEL_large"
	// An object outlives its message by this, and one that is older already is stored again before a new message names it.
	largeSlack = 24 * time.Hour
	largeFresh = time.Hour
	// A replica may not have an object yet that its leader has acknowledged.
	largeWait = 30 * time.Second
)

// openLarge makes the object store, or lengthens its retention to that of the stream.
func (c *Conn) openLarge(ctx context.Context, maxAge time.Duration) error {
	name := "OBJ_" + largeBucket
	info, err := c.streamInfo(ctx, name)
	if errors.Is(err, ErrNoStream) {
		err = c.retry(ctx, func(ctx context.Context) error {
			_, err := c.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
				Bucket:      largeBucket,
				Description: "Runnel: payloads above the server's max_payload",
				TTL:         maxAge + largeSlack,
				Storage:     jetstream.FileStorage,
				Replicas:    c.Replicas(),
			})
			return err
		})
		if err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
			return fmt.Errorf("create object store %s: %w", largeBucket, explainCreate(err))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("open object store %s: %w", largeBucket, err)
	}
	if info.Config.MaxAge >= maxAge+largeSlack {
		return nil
	}
	changed := info.Config
	changed.MaxAge = maxAge + largeSlack
	if err := c.retry(ctx, func(ctx context.Context) error {
		_, err := c.js.UpdateStream(ctx, changed)
		return err
	}); err != nil {
		return fmt.Errorf("lengthen the retention of object store %s: %w", largeBucket, err)
	}
	return nil
}

// putLarge stores a payload; doing so twice is harmless.
func (c *Conn) putLarge(ctx context.Context, id string, data []byte) error {
	err := c.retryLong(ctx, func(ctx context.Context) error {
		store, err := c.js.ObjectStore(ctx, largeBucket)
		if err != nil {
			return err
		}
		if have, err := store.GetInfo(ctx, id); err == nil && have.Size == uint64(len(data)) && time.Since(have.ModTime) < largeFresh {
			return nil
		}
		_, err = store.PutBytes(ctx, id, data)
		return err
	})
	if err != nil {
		return fmt.Errorf("store the payload of message %s in %s: %w", id, largeBucket, err)
	}
	return nil
}

// ErrPayloadLost says that the object store has answered, and does not hold a message's payload.
var ErrPayloadLost = errors.New("the object store does not hold it")

// Resolve fetches the payload of a message that is kept aside; others it leaves as they are. ErrPayloadLost where the store
// did not have it for as long as a replica may need, or as ctx allowed.
func (s *Stream) Resolve(ctx context.Context, m *event.Message) error {
	if m.Large == "" || len(m.Data) > 0 {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, largeWait)
	defer cancel()
	lost := false
	err := s.conn.retryLong(bounded, func(ctx context.Context) error {
		store, err := s.conn.js.ObjectStore(ctx, largeBucket)
		if err == nil {
			m.Data, err = store.GetBytes(ctx, m.Large)
		}
		if ctx.Err() == nil { // else the error says nothing but that
			lost = errors.Is(err, jetstream.ErrObjectNotFound) || errors.Is(err, jetstream.ErrBucketNotFound)
		}
		return err
	})
	if err != nil && lost {
		err = ErrPayloadLost
	}
	if err != nil {
		m.Data = nil
		return fmt.Errorf("read the payload of message %d on %s from %s: %w", m.Sequence, m.Subject, largeBucket, err)
	}
	return nil
}
