package main

import (
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/process"
)

// Unready names the sources that make no progress. A standby is ready: it does what it is there for.
func (b *board) Unready(now time.Time) []string {
	var reasons []string
	say := func(format string, a ...any) { reasons = append(reasons, fmt.Sprintf(format, a...)) }
	for _, s := range b.lines() {
		switch {
		case s.Reason != "":
			say("source %s: %s", s.Name, s.Reason)
		case s.State == capture.Standby || s.State == capture.Stopped:
		case s.State != capture.Streaming:
			say("source %s: %s for %s", s.Name, s.State, now.Sub(s.Changed).Round(time.Second))
		case s.Pending && now.Sub(s.Stored) > process.Patience:
			say("source %s: JetStream has stored nothing for %s", s.Name, now.Sub(s.Stored).Round(time.Second))
		}
	}
	return reasons
}
