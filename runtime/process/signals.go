package process

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Signals gives a context that the first SIGINT or SIGTERM ends, so that all drains; a later one exits at once.
func Signals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	c := make(chan os.Signal, 2)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-c:
			cancel()
		case <-ctx.Done():
			return
		}
		impatience(c, time.Second)
		os.Exit(ExitRuntime)
	}()
	return ctx, func() { signal.Stop(c); cancel() }
}

// impatience returns at a signal that is no echo of the one before: timeout(1), shells and supervisors signal the process and
// its group, so that one wish arrives more than once, and must not cut the draining that it asked for.
func impatience(c <-chan os.Signal, echo time.Duration) {
	for first := time.Now(); ; {
		<-c
		if time.Since(first) >= echo {
			return
		}
	}
}
