package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// schemas finds the versions of tables that events name. An agent stores one before it is used, so an unknown one is waited
// for only where KV is behind or has lost its end; the agent stores the current ones again when it starts.
type schemas struct {
	bucket  Bucket
	patient time.Duration
	mu      sync.Mutex
	known   map[string]*event.Schema
}

func newSchemas(b Bucket, wait time.Duration) *schemas {
	return &schemas{bucket: b, patient: wait, known: map[string]*event.Schema{}}
}

func schemaKey(source string, t event.Table, fingerprint string) string {
	return event.KeyToken(source) + "." + event.KeyToken(t.Schema) + "." + event.KeyToken(t.Name) + "." + event.KeyToken(fingerprint)
}

// find gives a schema; haltError where it stays unknown.
func (s *schemas) find(ctx context.Context, source string, t event.Table, fingerprint string) (*event.Schema, error) {
	key := schemaKey(source, t, fingerprint)
	s.mu.Lock()
	known := s.known[key]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	for began := time.Now(); ; {
		e, err := s.bucket.Get(ctx, key)
		if err == nil {
			return s.keep(key, e)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, stream.ErrNotFound) && time.Since(began) > s.patient {
			return nil, haltError{fmt.Errorf("events of %s name a table version %s that is not in %s; start the capture agent of %s again, which stores it, then resume the function",
				t, fingerprint, registry.BucketSchemas, source)}
		}
		if err := sleep(ctx, min(100*time.Millisecond, s.patient/4)); err != nil {
			return nil, err
		}
	}
}

func (s *schemas) keep(key string, e stream.Entry) (*event.Schema, error) {
	schema, err := event.ParseSchema(e.Value)
	if err != nil {
		return nil, haltError{fmt.Errorf("schema %s in %s: %w", key, registry.BucketSchemas, err)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.known[key]; first != nil {
		return first, nil // one pointer for one structure: sinks group by it
	}
	s.known[key] = schema
	return schema, nil
}
