package host

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// lines are the connections on which messages come: one for each function, as long as it reads. On one connection for all, an event of a
// function would wait for all that another one has asked for.
type lines struct {
	conn *stream.Conn

	mu   sync.Mutex
	open map[string]*line
}

type line struct {
	nc    *nats.Conn
	users int
	dial  sync.Mutex
}

// take gives the function's connection, until give.
func (l *lines) take(ctx context.Context, function string) (*nats.Conn, error) {
	l.mu.Lock()
	one := l.open[function]
	if one == nil {
		one = &line{}
		l.open[function] = one
	}
	one.users++
	l.mu.Unlock()
	one.dial.Lock()
	defer one.dial.Unlock()
	if one.nc != nil {
		return one.nc, nil
	}
	nc, err := l.conn.Beside(ctx)
	if err != nil {
		l.give(function)
		return nil, err
	}
	one.nc = nc
	return nc, nil
}

func (l *lines) give(function string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.open[function]
	if one.users--; one.users > 0 {
		return
	}
	delete(l.open, function)
	if one.nc != nil {
		one.nc.Close()
	}
}
