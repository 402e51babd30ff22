package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/runtime/event"
)

// stored is a message as $JS.API.STREAM.MSG.GET answers.
type stored struct {
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"seq"`
	Raw      []byte    `json:"hdrs"`
	Data     []byte    `json:"data"`
	Time     time.Time `json:"time"`
}

func (m *stored) header() (nats.Header, error) {
	if len(m.Raw) == 0 {
		return nats.Header{}, nil
	}
	h, err := nats.DecodeHeadersMsg(m.Raw)
	if err != nil {
		return nil, fmt.Errorf("headers of message %d on %s: %w", m.Sequence, m.Subject, err)
	}
	return h, nil
}

// selector says which message MSG.GET shall give.
type selector struct {
	Sequence uint64 `json:"seq,omitempty"`
	LastOn   string `json:"last_by_subj,omitempty"`
	NextOn   string `json:"next_by_subj,omitempty"`
}

// get reads a message from the stream's leader; ErrNoMessage, ErrNoStream.
func (c *Conn) get(ctx context.Context, stream string, which selector) (*stored, error) {
	var got struct {
		answer
		Message *stored `json:"message"`
	}
	err := c.retryIn(ctx, readTimeout, readMost, func(ctx context.Context) error {
		got.Message, got.Error = nil, nil
		return c.ask(ctx, "$JS.API.STREAM.MSG.GET."+stream, which, &got)
	})
	switch {
	case err == nil && got.Message == nil, codeOf(err) == codeNoMessage:
		return nil, ErrNoMessage
	case codeOf(err) == codeNoStream:
		return nil, ErrNoStream
	case err != nil:
		return nil, err
	}
	return got.Message, nil
}

func (s *Stream) read(ctx context.Context, which selector) (*event.Message, error) {
	raw, err := s.conn.get(ctx, s.name, which)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", s.name, err)
	}
	h, err := raw.header()
	if err != nil {
		return nil, err
	}
	m, err := Decode(raw.Subject, raw.Sequence, h, raw.Time, raw.Data)
	if err != nil {
		return nil, err
	}
	return m, s.Resolve(ctx, m)
}

// Message reads one message from the leader; ErrNoMessage.
func (s *Stream) Message(ctx context.Context, sequence uint64) (*event.Message, error) {
	if sequence == 0 {
		return nil, fmt.Errorf("read stream %s: %w", s.name, ErrNoMessage)
	}
	return s.read(ctx, selector{Sequence: sequence})
}

// Next is the first message at or after a sequence on a subject (wildcards allowed); ErrNoMessage.
func (s *Stream) Next(ctx context.Context, subject string, from uint64) (*event.Message, error) {
	return s.read(ctx, selector{Sequence: max(from, 1), NextOn: subject})
}

// LastOn is the last message on a subject (wildcards allowed); ErrNoMessage.
func (s *Stream) LastOn(ctx context.Context, subject string) (*event.Message, error) {
	return s.read(ctx, selector{LastOn: subject})
}

// End is what the leader says about the stream's ends.
type End struct {
	First, Last     uint64         // sequences; an empty stream has First = Last + 1
	Message         *event.Message // the last message; nil if none is held
	Messages, Bytes uint64
	MaxBytes        int64
	Deleted         int // interior deletes: corruption
}

// End asks the leader ($JS.API.STREAM.MSG.GET last_by_subj ">", and STREAM.INFO), never a replica.
func (s *Stream) End(ctx context.Context) (End, error) {
	for {
		info, err := s.conn.streamInfo(ctx, s.name)
		if err != nil {
			return End{}, fmt.Errorf("read the end of stream %s: %w", s.name, err)
		}
		st := info.State
		e := End{First: st.FirstSeq, Last: st.LastSeq, Messages: st.Messages, Bytes: st.Bytes, MaxBytes: info.Config.MaxBytes, Deleted: st.NumDeleted}
		last, err := s.LastOn(ctx, ">")
		switch {
		case err == nil && last.Sequence >= st.LastSeq:
			e.Message, e.Last = last, last.Sequence
			return e, nil
		case errors.Is(err, ErrNoMessage) && st.Messages == 0:
			e.First = e.Last + 1
			return e, nil
		case err != nil && !errors.Is(err, ErrNoMessage):
			return End{}, err
		}
		// The two answers do not fit: the stream lost its tail or its last message expired between them, or two servers
		// believed to be its leader.
		if pause(ctx, retryFirst); ctx.Err() != nil {
			return End{}, fmt.Errorf("read the end of stream %s: %w", s.name, ctx.Err())
		}
	}
}

// Stored are the messages held of a group, markers aside, in order. It looks from a sequence on; one below the group's first
// message costs a read per message in between.
func (s *Stream) Stored(ctx context.Context, g event.Group, from uint64) ([]*event.Message, error) {
	// Tables have five tokens, markers three.
	tables := "cdc." + event.EscapeToken(s.source) + ".*.*.*"
	var out []*event.Message
	for {
		m, err := s.Next(ctx, tables, from)
		if errors.Is(err, ErrNoMessage) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if m.Group.From.Compare(g.From) == 0 && m.Group.To.Compare(g.To) == 0 && m.Group.N == g.N {
			out = append(out, m)
		}
		from = m.Sequence + 1
	}
}

// FenceAfter is the first marker of an epoch later than the given one; ok is false where there is none. Epochs grow along
// the stream.
func (s *Stream) FenceAfter(ctx context.Context, epoch uint32) (sequence uint64, ok bool, err error) {
	fences := event.FenceSubject(s.source)
	last, err := s.LastOn(ctx, fences)
	if errors.Is(err, ErrNoMessage) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if last.Writer.Epoch <= epoch {
		return 0, false, nil
	}
	// Binary search for the first sequence after which the next marker is of a later epoch.
	found, low, high := last.Sequence, uint64(1), last.Sequence
	for low < high {
		middle := low + (high-low)/2
		m, err := s.Next(ctx, fences, middle)
		switch {
		case errors.Is(err, ErrNoMessage): // the stream lost its tail meanwhile
			return s.FenceAfter(ctx, epoch)
		case err != nil:
			return 0, false, err
		case m.Writer.Epoch > epoch:
			found, high = m.Sequence, middle
		default:
			low = m.Sequence + 1
		}
	}
	return found, true, nil
}
