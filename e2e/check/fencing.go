package check

import (
	"errors"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Fenced says what is wrong with the writers of a stream, markers included.
func Fenced(messages Messages, source string) error {
	var r Report
	if err := r.walk(messages, &fencing{r: &r, fence: event.FenceSubject(source)}); err != nil {
		return err
	}
	if !r.Kept() {
		return errors.New(r.Findings[0].Text)
	}
	return nil
}

// fencing: the stream has one writer at a time. Each begins with its own whole fence, which a stream whose beginning retention took
// may lack for its first writer, and once there is a later one nothing of it follows.
type fencing struct {
	r       *Report
	fence   string // subject
	now     event.Writer
	begun   bool // there was a message
	whole   bool // the fence was seen from its beginning
	markers int
}

func (f *fencing) message(m *event.Message, _ []event.Event) {
	marker := m.Subject == f.fence
	switch {
	case !f.begun:
		f.begun, f.now, f.whole = true, m.Writer, marker && m.Writer.Base-m.Sequence == event.FenceMarkers-1
	case m.Writer == f.now:
	case m.Writer.Epoch <= f.now.Epoch:
		f.r.Found(Interleaved, "message %d is of writer %s, after messages of %s", m.Sequence, m.Writer, f.now)
		return
	default:
		if !marker {
			f.r.Found(Interleaved, "message %d: writer %s follows %s without a fence", m.Sequence, m.Writer, f.now)
		}
		f.now, f.whole, f.markers = m.Writer, marker, 0
	}
	if marker {
		if f.markers++; f.whole && m.Sequence != m.Writer.Base-event.FenceMarkers+uint64(f.markers) {
			f.r.Found(Interleaved, "message %d is marker %d of writer %s, out of its place", m.Sequence, f.markers, m.Writer)
			f.whole = false
		}
		return
	}
	if f.whole && f.markers != event.FenceMarkers {
		f.r.Found(Interleaved, "message %d: the fence of writer %s has %d markers, not %d", m.Sequence, m.Writer, f.markers, event.FenceMarkers)
		f.whole = false
	}
	if m.Sequence <= m.Writer.Base {
		f.r.Found(Interleaved, "message %d lies in the fence of writer %s", m.Sequence, m.Writer)
	}
}

func (f *fencing) end() {}
