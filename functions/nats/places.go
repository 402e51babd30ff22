package nats

import (
	"sync"

	"github.com/runnel-dev/runnel/runtime/event"
)

// mostPlaces is how many rows are remembered: more than can come again after a crash, since checkpoints move once a second.
const mostPlaces = 1 << 16

// places remembers what was stored last of each row, of at least the last mostPlaces rows.
type places struct {
	mu       sync.Mutex
	now, old map[string]stored
}

// stored is an event of a row, and where it is.
type stored struct {
	version  event.Version
	sequence uint64
}

func (p *places) note(row string, s stored) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil || len(p.now) >= mostPlaces {
		p.now, p.old = map[string]stored{}, p.now
	}
	p.now[row] = s
}

// of is the zero stored where nothing is remembered.
func (p *places) of(row string) stored {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.now[row]; ok {
		return s
	}
	return p.old[row]
}
