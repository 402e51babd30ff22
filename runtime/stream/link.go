package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// link is a publisher's own connection. It never reconnects: what was sent on it is a prefix of what arrived, and nothing
// reaches a server that was restarted or restored before its owner has looked what is stored there.
type link struct {
	nc      *nats.Conn
	wire    *wire
	inbox   string
	answers chan *nats.Msg
	closed  chan struct{}
}

// answersKept is above what a window asks for; an answer that finds no room is like one that was lost.
const answersKept = 1024

func (c *Conn) openLink(ctx context.Context) (*link, error) {
	l := &link{answers: make(chan *nats.Msg, answersKept), closed: make(chan struct{}), wire: &wire{inProcess: c.inProcess}}
	options := []nats.Option{nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(l.closed) })}
	if c.inProcess != nil {
		options = append(options, nats.InProcessServer(l.wire))
	} else {
		options = append(options, nats.SetCustomDialer(l.wire))
	}
	nc, err := c.dial(ctx, options...)
	if err != nil {
		l.wire.cut()
		return nil, err
	}
	l.nc, l.inbox = nc, nc.NewInbox()
	if _, err := nc.ChanSubscribe(l.inbox, l.answers); err != nil {
		l.abort()
		return nil, err
	}
	return l, nil
}

// abort closes the link at once, whatever is stuck in it.
func (l *link) abort() {
	l.wire.cut()
	l.nc.Close()
}

// ack is JetStream's answer to a publish.
type ack struct {
	sequence  uint64
	duplicate bool
}

func parseAck(m *nats.Msg) (ack, error) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return ack{}, nats.ErrNoResponders
	}
	var a struct {
		Stream    string    `json:"stream"`
		Sequence  uint64    `json:"seq"`
		Duplicate bool      `json:"duplicate"`
		Error     *apiError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return ack{}, fmt.Errorf("answer of JetStream: %w", err)
	}
	if a.Error != nil {
		return ack{}, a.Error
	}
	if a.Stream == "" {
		return ack{}, jetstream.ErrInvalidJSAck
	}
	return ack{a.Sequence, a.Duplicate}, nil
}

// outOfStorage says whether JetStream refused because there is no room.
func outOfStorage(err error) bool {
	switch codeOf(err) {
	case codeNoStorage, codeNoResources:
		return true
	case codeStoreFailed:
		return !strings.Contains(err.Error(), "too large")
	}
	return false
}
