package stream

import (
	"math/bits"

	"github.com/runnel-dev/runnel/runtime/event"
)

// The window of a chain: what may be in flight. A larger message travels alone.
const (
	windowMessages = event.FenceMarkers // what a successor's fence covers; never more
	windowBytes    = 8 << 20
	askMessages    = 64              // an acknowledgement is asked every so many messages
	askBytes       = windowBytes / 8 // or so many bytes
)

// slot is a message that is not known to be stored.
type slot struct {
	subject, id, group, to, large string
	data                          []byte // from the window's buffers
	size                          int    // bytes that count
}

// window holds the messages (stored, sent], each under its sequence.
type window struct {
	stored, sent uint64
	slots        [windowMessages]slot
	bytes        int
	free         buffers
}

func (w *window) at(sequence uint64) *slot { return &w.slots[sequence%windowMessages] }
func (w *window) empty() bool              { return w.stored == w.sent }

// fits says whether a message of that size may be added.
func (w *window) fits(size int) bool {
	return w.empty() || w.sent-w.stored < windowMessages && w.bytes+size <= windowBytes
}

// add takes a message in; its data are copied.
func (w *window) add(m *Outgoing, large string, data []byte) uint64 {
	w.sent++
	s := w.at(w.sent)
	buf := w.free.get(len(data))
	*s = slot{subject: m.Subject, id: m.ID, group: m.Group.String(), to: m.For, large: large, data: append(buf, data...), size: sizeOf(m, data)}
	w.bytes += s.size
	return w.sent
}

// drop forgets what is stored.
func (w *window) drop(through uint64) {
	for w.stored < through {
		w.stored++
		s := w.at(w.stored)
		w.bytes -= s.size
		w.free.put(s.data)
		*s = slot{}
	}
}

func sizeOf(m *Outgoing, data []byte) int {
	const headers = 200
	return len(data) + len(m.Subject) + len(m.ID) + headers
}

// largestKept is where reuse ends: a class of powers of two could double what a large payload takes.
const largestKept = 1 << 20

// buffers keeps released payload buffers for reuse, in classes of powers of two and at most windowBytes of them.
type buffers struct {
	classes [32][][]byte
	bytes   int
}

func class(size int) int { return bits.Len(uint(max(size, 1) - 1)) }

func (b *buffers) get(size int) []byte {
	c := class(size)
	if n := len(b.classes[c]); n > 0 {
		buf := b.classes[c][n-1]
		b.classes[c] = b.classes[c][:n-1]
		b.bytes -= cap(buf)
		return buf
	}
	if size == 0 || size > largestKept {
		return nil
	}
	return make([]byte, 0, 1<<c)
}

func (b *buffers) put(buf []byte) {
	if cap(buf) == 0 || cap(buf) > largestKept || b.bytes+cap(buf) > windowBytes {
		return
	}
	c := class(cap(buf))
	b.bytes += cap(buf)
	b.classes[c] = append(b.classes[c], buf[:0])
}
