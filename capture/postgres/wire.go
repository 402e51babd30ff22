package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// wire is a replication connection. One goroutine reads, any may send the status.
type wire struct {
	conn   *pgconn.PgConn
	socket net.Conn
	frames *frames
	low    lowWaterMark

	mu        sync.Mutex // the sending side
	confirmed pglogrepl.LSN
	streaming bool
	err       error // why nothing can be sent any more
}

// start enters the copy mode. The position is always 0/0: the server begins where the slot stands.
func (w *wire) start(ctx context.Context, slot string, publications []string, confirmed pglogrepl.LSN) error {
	var names []string
	for _, p := range publications {
		names = append(names, quote(p))
	}
	err := pglogrepl.StartReplication(ctx, w.conn, slot, 0, pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication, PluginArgs: []string{
		"proto_version '1'", "publication_names " + literal(strings.Join(names, ",")), "messages 'true'"}})
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.confirmed, w.streaming = confirmed, true
	w.mu.Unlock()
	return nil
}

// confirm says that the log up to p is not needed any more.
func (w *wire) confirm(p pglogrepl.LSN) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p <= w.confirmed {
		return nil
	}
	w.confirmed = p
	return w.send(false)
}

// status repeats what is confirmed; asking for an answer makes the server say how far it has come.
func (w *wire) status(answer bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.send(answer)
}

// send is called with mu held. All three positions are the confirmed one: pglogrepl takes a zero for "as far as received",
// and a server that waits for us in synchronous_standby_names must not be told that we have what JetStream has not.
func (w *wire) send(answer bool) error {
	if w.err != nil {
		return w.err
	}
	if !w.streaming || w.confirmed == 0 {
		return nil
	}
	w.socket.SetWriteDeadline(time.Now().Add(writeTimeout))
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), w.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: w.confirmed, WALFlushPosition: w.confirmed, WALApplyPosition: w.confirmed, ReplyRequested: answer})
	if err != nil {
		w.err = fmt.Errorf("send the replication status: %w", err)
	}
	return w.err
}

// fail ends the connection from another goroutine, also while nobody reads: reading and sending give why.
func (w *wire) fail(why error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = why
	}
	w.mu.Unlock()
	w.socket.Close()
}

// position is what is confirmed.
func (w *wire) position() pglogrepl.LSN {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.confirmed
}

// failure is why the connection ended, if it did.
func (w *wire) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

const (
	writeTimeout = 10 * time.Second
	silence      = 15 * time.Second // the server answers every statusInterval
	goodbye      = 2 * time.Second
)

var errSilent = errors.New("the server is silent")

// watch makes fill end when ctx does, until stop is called.
func (w *wire) watch(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { w.socket.SetReadDeadline(time.Unix(1, 0)) })
}

// fill waits until something was read, and says how long nothing was there; ctx is being watched. errSilent: nothing came for a long
// time. late says that what was read last had been committed long before.
func (w *wire) fill(ctx context.Context, late bool) (waited time.Duration, err error) {
	if w.low.on {
		if done, err := w.fillMuch(ctx); done {
			return 0, err
		}
	}
	// The order matters: the deadline that the watch sets comes after this one, or ctx has ended already.
	began := time.Now()
	w.socket.SetReadDeadline(began.Add(silence))
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	n, err := w.frames.fill()
	if err == nil {
		w.low.received(n, late)
		return time.Since(began), nil
	}
	if isTimeout(err) && ctx.Err() == nil && w.failure() == nil {
		return silence, errSilent
	}
	return 0, w.broken(ctx, err)
}

// fillMuch waits for a large amount, or for a moment; done is false where there was less.
func (w *wire) fillMuch(ctx context.Context) (done bool, err error) {
	w.socket.SetReadDeadline(time.Now().Add(lowWait))
	if _, err = w.frames.fill(); err == nil {
		return true, nil
	}
	w.low.off()
	if isTimeout(err) {
		return false, nil
	}
	return true, w.broken(ctx, err)
}

// broken says why nothing can be read any more.
func (w *wire) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f := w.failure(); f != nil {
		return f
	}
	return fmt.Errorf("read the log: %w", err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// serverError decodes an ErrorResponse.
func serverError(body []byte) error {
	var m pgproto3.ErrorResponse
	if err := m.Decode(body); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	return pgconn.ErrorResponseToPgError(&m)
}

// close says goodbye and waits a moment until the server, which then has given the slot back, closes the connection too.
func (w *wire) close(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = net.ErrClosed
	}
	w.socket.SetDeadline(time.Now().Add(goodbye))
	w.conn.Frontend().Send(&pgproto3.Terminate{})
	if w.conn.Frontend().Flush() == nil {
		_, _ = io.Copy(io.Discard, w.socket)
	}
	w.conn.Close(ctx)
}
