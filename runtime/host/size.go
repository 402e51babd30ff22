package host

import (
	"sync"
	"time"
)

// size is how many rows the next batch of a generation's lanes may have. It follows the target's own response times: a write that
// takes longer than the goal makes the next ones smaller, a full one that takes less than half of it makes them larger.
// Failures say nothing about sizes, but for the one of having taken too long.
type size struct {
	most int
	goal time.Duration

	mu   sync.Mutex
	rows int
}

func newSize(most int, goal time.Duration) *size { return &size{most: most, goal: goal, rows: most} }

// now gives the limits of a batch, of those that were configured.
func (s *size) now(rows int, bytes int64) (int, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows >= s.most {
		return rows, bytes
	}
	return min(rows, s.rows), max(bytes*int64(s.rows)/int64(s.most), 1)
}

// took notes how long a write of so many rows took, or how long it was waited for in vain. full: it could not have been larger.
func (s *size) took(rows int, full bool, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case rows == 0:
	case d > s.goal:
		fits := int(float64(rows) * float64(s.goal) / float64(d))
		s.rows = max(min(s.rows, fits), 1)
	case full && d < s.goal/2:
		s.rows = min(2*s.rows, s.most)
	}
}
