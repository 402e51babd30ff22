package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Server reads what Runnel keeps in NATS, as the docs specify it, with connections of its own. It only reads. Dial is asked again
// after each failure, so a server may come back at another address.
type Server struct {
	Dial   func() (*nats.Conn, error)
	Source string

	mu sync.Mutex
	nc *nats.Conn
}

// Close ends the connection.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
}

func (s *Server) drop() {
	if s.nc != nil {
		s.nc.Close()
		s.nc = nil
	}
}

// use calls f with JetStream; one call at a time, so the connection may be dropped after a failure.
func (s *Server) use(f func(js jetstream.JetStream) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nc == nil {
		nc, err := s.Dial()
		if err != nil {
			return fmt.Errorf("reach NATS: %w", err)
		}
		s.nc = nc
	}
	js, err := jetstream.New(s.nc)
	if err == nil {
		err = f(js)
	}
	if err != nil {
		s.drop()
	}
	return err
}

// Floors are the checkpoints of a function's newest generation.
func (s *Server) Floors(ctx context.Context, function string) ([]Floor, error) {
	var floors []Floor
	err := s.use(func(js jetstream.JetStream) error {
		kv, err := js.KeyValue(ctx, "RUNNEL_owners")
		if err != nil {
			return fmt.Errorf("read the checkpoints of %s: %w", function, err)
		}
		keys, err := kv.ListKeysFiltered(ctx, function+".*.*")
		if err != nil {
			return fmt.Errorf("read the checkpoints of %s: %w", function, err)
		}
		defer keys.Stop() //nolint:errcheck // it is at its end
		newest := int64(0)
		for key := range keys.Keys() {
			parts := strings.Split(key, ".")
			generation, err1 := strconv.ParseInt(parts[len(parts)-2], 10, 64)
			partition, err2 := strconv.Atoi(parts[len(parts)-1])
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("read the checkpoints of %s: record %s: %w", function, key, err)
			}
			if generation < newest {
				continue
			}
			e, err := kv.Get(ctx, key)
			if errors.Is(err, jetstream.ErrKeyNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("read the checkpoints of %s: record %s: %w", function, key, err)
			}
			var record struct{ Floor Floor }
			if err := json.Unmarshal(e.Value(), &record); err != nil {
				return fmt.Errorf("read the checkpoints of %s: record %s: %w", function, key, err)
			}
			if generation > newest {
				newest, floors = generation, nil
			}
			record.Floor.Partition = partition
			floors = append(floors, record.Floor)
		}
		return nil
	})
	return floors, err
}

// End is the commit up to which the stream holds the source's log, and the sequence of its last message, as its leader says; 0 for a stream that is empty.
func (s *Server) End(ctx context.Context) (reached, sequence uint64, err error) {
	err = s.use(func(js jetstream.JetStream) error {
		st, err := js.Stream(ctx, event.StreamName(s.Source))
		if err != nil {
			return fmt.Errorf("read the end of the stream of %s: %w", s.Source, err)
		}
		sequence = st.CachedInfo().State.LastSeq
		request, _ := json.Marshal(map[string]string{"last_by_subj": "cdc." + event.EscapeToken(s.Source) + ".>"})
		answer, err := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+event.StreamName(s.Source), request)
		if err != nil {
			return fmt.Errorf("read the end of the stream of %s: %w", s.Source, err)
		}
		var got struct {
			Message *struct {
				Sequence uint64 `json:"seq"`
				Headers  []byte `json:"hdrs"`
			} `json:"message"`
		}
		if err := json.Unmarshal(answer.Data, &got); err != nil || got.Message == nil {
			return err
		}
		h, err := nats.DecodeHeadersMsg(got.Message.Headers)
		if err != nil {
			return fmt.Errorf("read the end of the stream of %s: %w", s.Source, err)
		}
		g, err := event.ParseGroup(h.Get(event.HeaderGroup))
		if err != nil {
			return fmt.Errorf("read the end of the stream of %s: %w", s.Source, err)
		}
		reached, sequence = g.From.Commit, got.Message.Sequence
		if g.Complete() {
			reached = g.To.Commit
		}
		return nil
	})
	return reached, sequence, err
}
