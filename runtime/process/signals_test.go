package process

import (
	"os"
	"testing"
	"time"
)

// A signal that arrives twice is one wish; a later one is impatience.
func TestImpatience(t *testing.T) {
	t.Parallel()
	const echo = 100 * time.Millisecond
	c, over := make(chan os.Signal), make(chan time.Duration, 1)
	began := time.Now()
	go func() {
		impatience(c, echo)
		over <- time.Since(began)
	}()
	for {
		select {
		case c <- os.Interrupt:
		case took := <-over:
			if took < echo {
				t.Errorf("exits after %v, want %v", took, echo)
			}
			return
		}
	}
}
