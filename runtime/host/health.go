package host

import "sync"

// health is whether the target takes what the lanes write. A function is stalled while a lane has failed twice in a row.
type health struct {
	mu     sync.Mutex
	fails  map[*lane]int // in a row; nil stands for the function's start
	last   string
	events uint64 // since the last status
}

// stalled asks with the lock held.
func (s *health) stalled() bool {
	for _, n := range s.fails {
		if n >= 2 {
			return true
		}
	}
	return false
}

func (s *health) failed(g *generation, l *lane, err error) {
	s.mu.Lock()
	before := s.stalled()
	if s.fails == nil {
		s.fails = map[*lane]int{}
	}
	s.fails[l]++
	s.last = err.Error()
	turned := !before && s.stalled()
	s.mu.Unlock()
	if observe := g.host.cfg.Observer.Retried; observe != nil {
		observe(g.f.name, err)
	}
	if turned {
		g.log.Warn("function is stalled: what it needs does not answer; it is tried again until it does", "error", err)
		g.tellStalled(true)
	}
}

func (s *health) works(g *generation, l *lane) {
	s.mu.Lock()
	before := s.stalled()
	delete(s.fails, l)
	if len(s.fails) == 0 {
		s.last = ""
	}
	turned := before && !s.stalled()
	s.mu.Unlock()
	if turned {
		g.log.Info("function goes on")
		g.tellStalled(false)
	}
}

func (s *health) wrote(events int) {
	s.mu.Lock()
	s.events += uint64(events)
	s.mu.Unlock()
}

// clear ends with the generation.
func (s *health) clear(g *generation) {
	s.mu.Lock()
	before := s.stalled()
	s.fails = nil
	s.mu.Unlock()
	if before {
		g.tellStalled(false)
	}
}

func (g *generation) tellStalled(stalled bool) {
	if observe := g.host.cfg.Observer.Stalled; observe != nil {
		observe(g.f.name, stalled)
	}
}
