package host

import (
	"context"
	"sync"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// streams keeps one handle for each source.
type streams struct {
	world World
	turn  chan struct{} // held by who asks the server; whoever else wants a stream waits as long as its context
	open  map[string]*sourceEnds
}

func (s *streams) find(ctx context.Context, source string) (*sourceEnds, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.turn }()
	opened, err := s.world.Stream(ctx, source)
	if err != nil {
		return nil, err
	}
	if e := s.open[source]; e != nil && e.Partitions() == opened.Partitions() {
		return e, nil // else it was deleted and made again
	}
	e := &sourceEnds{Stream: opened, turn: make(chan struct{}, 1)}
	s.open[source] = e
	return e, nil
}

// sourceEnds reads a stream's end for all lanes of all functions: whoever asks gets an answer that was asked for
// afterwards, and those who wait share one.
type sourceEnds struct {
	Stream
	turn chan struct{} // held by who asks the server
	mu   sync.Mutex
	next *answer // of the question that will be asked next
}

type answer struct {
	once sync.Once
	end  stream.End
	err  error
}

// End is what the leader says after the call began.
func (s *sourceEnds) End(ctx context.Context) (stream.End, error) {
	s.mu.Lock()
	if s.next == nil {
		s.next = &answer{}
	}
	a := s.next
	s.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return stream.End{}, ctx.Err()
	}
	defer func() { <-s.turn }()
	a.once.Do(func() {
		s.mu.Lock()
		s.next = nil
		s.mu.Unlock()
		a.end, a.err = s.Stream.End(ctx)
	})
	if a.err != nil && ctx.Err() == nil { // it may be the end of another one's context
		return s.Stream.End(ctx)
	}
	return a.end, a.err
}
