package simulation

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// history is what happened, in the order of virtual time, and the first violation of a promise.
type history struct {
	began time.Time

	mu        sync.Mutex
	lines     []line
	violation string
	violated  chan struct{} // closed with the first violation
}

type line struct {
	at     time.Duration
	who    string
	format string
	args   []any
}

func newHistory() *history {
	return &history{began: time.Now(), violated: make(chan struct{})}
}

// note adds a line; its arguments must not change any more.
func (h *history) note(who, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, line{time.Since(h.began), who, format, args})
}

// fail notes a violation. Only the first one counts: what follows may be its consequence.
func (h *history) fail(promise, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.violation != "" {
		return
	}
	h.violation = promise + ": " + fmt.Sprintf(format, args...)
	h.lines = append(h.lines, line{time.Since(h.began), "CHECK", "VIOLATION of %s", []any{h.violation}})
	close(h.violated)
}

func (h *history) failed() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.violation
}

// text is the history for people, the last lines of it.
func (h *history) text(most int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	lines := h.lines
	if len(lines) > most {
		fmt.Fprintf(&b, "… %d lines before\n", len(lines)-most)
		lines = lines[len(lines)-most:]
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "%12.6f %-12s %s\n", l.at.Seconds(), l.who, fmt.Sprintf(l.format, l.args...))
	}
	return b.String()
}
