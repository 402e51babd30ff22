package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// serverLog is what the embedded server logs to. It is also the only place where the server says that a write to its store
// failed: such a store answers reads and takes nothing any more, without any answer to a publisher.
type serverLog struct {
	to     *slog.Logger
	failed chan string // the text of a failed write

	mu   sync.Mutex
	last string
}

func (l *serverLog) Noticef(string, ...any) {}
func (l *serverLog) Debugf(string, ...any)  {}
func (l *serverLog) Tracef(string, ...any)  {}

func (l *serverLog) Warnf(format string, v ...any) {
	l.to.Warn("embedded JetStream", slog.String("message", fmt.Sprintf(format, v...)))
}

func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if !storeFailed(text) {
		l.to.Error("embedded JetStream", slog.String("message", text))
		return
	}
	// It comes several times for one write. Whoever watches the store makes one error of it, which says what to do.
	l.to.Warn("embedded JetStream", slog.String("message", text))
	select {
	case l.failed <- text:
	default:
	}
}

// Fatalf notes why the server does not start; it must not end the process.
func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.to.Error("embedded JetStream", slog.String("message", text))
	l.mu.Lock()
	l.last = text
	l.mu.Unlock()
}

func (l *serverLog) reset() {
	l.mu.Lock()
	l.last = ""
	l.mu.Unlock()
	select {
	case <-l.failed:
	default:
	}
}

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return errors.New("the server did not get ready in time")
	}
	return errors.New(l.last)
}

// storeFailed knows the server's words for a write that failed, after which it must be started again: see setWriteErr in
// nats-server's filestore.go, stream.go and raft.go, and handleOutOfSpace in jetstream.go.
func storeFailed(text string) bool {
	for _, words := range []string{"ritical write error", "failed to store a msg", "no space left", "disk quota exceeded", "will be DISABLED", "disabling JetStream"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

func outOfSpace(text string) bool {
	return strings.Contains(text, "no space left") || strings.Contains(text, "disk quota exceeded") || strings.Contains(text, "out of resources")
}
