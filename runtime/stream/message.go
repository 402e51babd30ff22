package stream

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Decode makes a message of what JetStream delivered. A message whose payload is kept aside has to be given to Resolve
// before its events are read.
func Decode(subject string, sequence uint64, h nats.Header, stored time.Time, data []byte) (*event.Message, error) {
	m := &event.Message{
		Subject:  subject,
		Sequence: sequence,
		ID:       h.Get(event.HeaderID),
		For:      h.Get(event.HeaderFor),
		Large:    h.Get(event.HeaderLarge),
		TimeMS:   stored.UnixMilli(),
		Data:     data,
	}
	var err error
	if m.Writer, err = event.ParseWriter(h.Get(event.HeaderEpoch)); err != nil {
		return nil, foreign(m, err)
	}
	if m.Group, err = event.ParseGroup(h.Get(event.HeaderGroup)); err != nil {
		return nil, foreign(m, err)
	}
	return m, nil
}

func foreign(m *event.Message, err error) error {
	return fmt.Errorf("message %d on %s was not written by a capture agent (%w): nothing else may publish on cdc.>", m.Sequence, m.Subject, err)
}
