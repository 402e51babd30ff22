package capture

import (
	"sync"

	"github.com/runnel-dev/runnel/runtime/event"
)

// sent is a message on its way, or stored.
type sent struct {
	sequence uint64
	group    event.Group
	version  event.Version  // of its last line
	position event.Position // where the log goes on if this is the last message that is stored
	change   event.Position // the newest change up to it
}

// ledger remembers what was sent until it is stored: at most the chain's window. The chain makes what is stored a prefix, so
// its newest message says all.
type ledger struct {
	mu     sync.Mutex
	flight []sent
	newest sent // of the stored ones
}

func (l *ledger) start(s sent) { l.newest = s }

func (l *ledger) add(s sent, stored uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flight = append(l.flight, s)
	if len(l.flight) >= 2*event.FenceMarkers {
		l.drop(stored)
	}
}

func (l *ledger) drop(stored uint64) {
	n := 0
	for n < len(l.flight) && l.flight[n].sequence <= stored {
		n++
	}
	if n > 0 {
		l.newest = l.flight[n-1]
		l.flight = append(l.flight[:0], l.flight[n:]...)
	}
}

// stored is the newest message up to a sequence.
func (l *ledger) stored(sequence uint64) sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(sequence)
	return l.newest
}
