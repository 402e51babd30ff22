package fakenats

import (
	"time"

	"github.com/nats-io/nats.go"
)

// Message is a stored message.
type Message struct {
	Subject  string
	Sequence uint64
	Header   nats.Header
	Data     []byte
	Time     time.Time
}

func (m *message) public() Message {
	p := Message{Subject: m.subject, Sequence: m.seq, Data: m.data(), Time: date(m.at)}
	if m.header > 0 {
		var err error
		if p.Header, err = nats.DecodeHeadersMsg(m.headers()); err != nil {
			panic(err) // nats.go wrote it
		}
	}
	return p
}

// Streams are the names of all streams, sorted.
func (s *Server) Streams() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, st := range s.streams {
		names = append(names, st.config.Name)
	}
	return names
}

// Messages are all that a stream holds; no fault touches them.
func (s *Server) Messages(stream string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Message
	if st := s.stream(stream); st != nil {
		for _, m := range st.msgs {
			if m != nil {
				all = append(all, m.public())
			}
		}
	}
	return all
}

// Ends are the first and the last sequence of a stream; an empty one has first = last + 1.
func (s *Server) Ends(stream string) (first, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.stream(stream); st != nil {
		return st.first(), st.last
	}
	return 1, 0
}

// Consumers are the names of a stream's consumers.
func (s *Server) Consumers(stream string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	if st := s.stream(stream); st != nil {
		for _, o := range st.consumers {
			names = append(names, o.name)
		}
	}
	return names
}
