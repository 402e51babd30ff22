package fakenats

import "time"

// event is something that happens at a time: bytes arrive, or a timer of the server's fires.
type event struct {
	at int64 // Unix nanoseconds
	n  uint64
	do func()
}

// events is a heap of what is to come, the earliest first; of one time in the order in which they were noted.
type events []event

func (h events) before(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}

func (h *events) push(e event) {
	*h = append(*h, e)
	for i := len(*h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.before(i, up) {
			break
		}
		(*h)[i], (*h)[up] = (*h)[up], (*h)[i]
		i = up
	}
}

func (h *events) pop() event {
	old := *h
	top, last := old[0], len(old)-1
	old[0] = old[last]
	old[last] = event{}
	*h = old[:last]
	for i := 0; ; {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < last && h.before(child, least) {
				least = child
			}
		}
		if least == i {
			return top
		}
		(*h)[i], (*h)[least] = (*h)[least], (*h)[i]
		i = least
	}
}

// after notes that something is to happen. The lock is held, and is when it happens.
func (s *Server) after(d time.Duration, do func()) { s.at(now()+int64(d), do) }

func (s *Server) at(at int64, do func()) {
	s.ordered++
	s.events.push(event{at, s.ordered, do})
	if s.events[0].n == s.ordered {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func now() int64 { return time.Now().UnixNano() }

// run lets everything happen at its time.
func (s *Server) run() {
	defer close(s.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(s.runDue())
		select {
		case <-s.wake:
		case <-timer.C:
		case <-s.quit:
			return
		}
	}
}

// runDue does what is due, and says how long there is nothing to do.
func (s *Server) runDue() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.events) > 0 {
		t := now()
		if d := s.events[0].at - t; d > 0 {
			return time.Duration(d)
		}
		s.events.pop().do()
		s.flush()
	}
	return time.Hour
}

// flush sends what the last event wrote to connections.
func (s *Server) flush() {
	for _, c := range s.dirty {
		c.dirty = false
		if len(c.out) > 0 {
			c.down.send(c.out)
			c.out = nil
		}
	}
	s.dirty = s.dirty[:0]
}
