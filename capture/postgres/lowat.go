package postgres

import (
	"net"
	"syscall"
	"time"
)

// The walsender writes every row by itself, and a reader that is woken for each of them halves its speed: the wake-ups, not
// the rows, are what both sides are busy with. While much arrives the kernel is asked to wake us only for a large amount
// (SO_RCVLOWAT), or after a moment; at the end of a burst that moment is lost once. On a busy machine a backlog does not look like a
// burst: what was committed a while ago is one too, whatever its rate.
const (
	lowWater    = 128 << 10
	lowWait     = 10 * time.Millisecond
	burstBytes  = 128 << 10 // in burstWindow: a backlog
	burstWindow = 20 * time.Millisecond
	backlogAge  = 200 * time.Millisecond
	calm        = 50 * time.Millisecond // nothing came for so long: there is no backlog
)

// lowWaterMark switches SO_RCVLOWAT of a TCP connection.
type lowWaterMark struct {
	raw   syscall.RawConn // nil: not possible
	on    bool
	since time.Time
	bytes int
}

func newLowWaterMark(c net.Conn) lowWaterMark {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	var m lowWaterMark
	if t, ok := c.(*net.TCPConn); ok {
		m.raw, _ = t.SyscallConn() // an error leaves it off
	}
	return m
}

// received counts what one read gave, and whether it is late.
func (m *lowWaterMark) received(n int, late bool) {
	if m.on || m.raw == nil {
		return
	}
	if late {
		m.set(lowWater)
		return
	}
	if now := time.Now(); now.Sub(m.since) > burstWindow {
		m.since, m.bytes = now, 0
	}
	if m.bytes += n; m.bytes >= burstBytes {
		m.set(lowWater)
	}
}

// off wakes for every byte again.
func (m *lowWaterMark) off() {
	m.set(1)
	m.on, m.bytes = false, 0
}

func (m *lowWaterMark) set(n int) {
	err := m.raw.Control(func(fd uintptr) {
		if setLowWater(fd, n) == nil {
			m.on = n > 1
		}
	})
	if err != nil {
		m.on = false
	}
}
