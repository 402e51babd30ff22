package process

import (
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/text"
)

// Patience is how long work may make no progress before the process counts as not ready.
const Patience = 30 * time.Second

// Unready names the functions that make no progress.
func (b *Board) Unready(now time.Time) []string {
	var reasons []string
	say := func(format string, a ...any) { reasons = append(reasons, fmt.Sprintf(format, a...)) }
	for _, f := range b.lines() {
		switch still := now.Sub(latest(f.Written, f.Floor, f.Changed)); {
		case f.State == registry.Paused:
		case f.State == registry.Halted:
			say("function %s: halted: %s", f.Name, f.Reason)
		case f.Stalled:
			say("function %s: stalled: %s", f.Name, f.LastError)
		case f.Backlog > 0 && still > Patience:
			say("function %s: %d messages wait and nothing was written for %s", f.Name, f.Backlog, still.Round(time.Second))
		}
	}
	return reasons
}

func latest(times ...time.Time) time.Time {
	var l time.Time
	for _, t := range times {
		if t.After(l) {
			l = t
		}
	}
	return l
}

// Status has a line for each function.
func (b *Board) Status(now time.Time) []Line {
	var lines []Line
	for _, f := range b.lines() {
		lines = append(lines, Line{f.Name, f.text(now)})
	}
	return lines
}

func (f *functionLine) text(now time.Time) string {
	switch {
	case f.State == registry.Halted:
		return "halted: " + text.OneLine(f.Reason)
	case f.State == registry.Paused:
		return "paused"
	case f.Stalled:
		return "stalled: " + text.OneLine(f.LastError)
	}
	return fmt.Sprintf("%-9s %9s events/s   written %s   lag %s, %s messages", f.State, text.Count(f.rate.PerSecond(now)), text.Number(f.Events),
		text.Seconds(f.Lag), text.Number(int64(f.Backlog)))
}
