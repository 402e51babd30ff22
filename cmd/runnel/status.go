package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// status is the block that `run` shows on a terminal.
func (b *board) status(now time.Time) []string {
	sources, functions := b.lines()
	width := 8
	for _, s := range sources {
		width = max(width, len(s.Name))
	}
	for _, f := range functions {
		width = max(width, len(f.Name))
	}
	lines := []string{strings.Repeat("─", 60)}
	for _, s := range sources {
		lines = append(lines, fmt.Sprintf("%-*s  %s", width, s.Name, s.text(now)))
		lines = append(lines, s.loads(now)...)
		if s.Waits != "" {
			lines = append(lines, "  load waits for function "+s.Waits)
		}
	}
	for _, f := range functions {
		lines = append(lines, fmt.Sprintf("%-*s  %s", width, f.Name, f.text(now)))
	}
	return lines
}

func (s *sourceLine) text(now time.Time) string {
	switch {
	case s.Reason != "":
		return oneLine(s.Reason)
	case s.State != capture.Streaming:
		text := string(s.State)
		if s.Detail != "" {
			text += " (" + s.Detail + ")"
		}
		if s.LastError != "" {
			text += ": " + oneLine(s.LastError)
		}
		return text
	}
	return fmt.Sprintf("%-9s %9s events/s   published %s", s.State, count(s.rate.perSecond(now)), number(s.Events))
}

func (f *functionLine) text(now time.Time) string {
	switch {
	case f.State == registry.Halted:
		return "halted: " + oneLine(f.Reason)
	case f.State == registry.Paused:
		return "paused"
	case f.Stalled:
		return "stalled: " + oneLine(f.LastError)
	}
	return fmt.Sprintf("%-9s %9s events/s   written %s   lag %s, %s messages", f.State, count(f.rate.perSecond(now)), number(f.Events),
		seconds(f.Lag), number(int64(f.Backlog)))
}

// loads are the bars of the tables that are being loaded.
func (s *sourceLine) loads(now time.Time) []string {
	var lines []string
	tables := slices.SortedFunc(maps.Keys(s.Loads), func(a, b event.Table) int { return strings.Compare(a.String(), b.String()) })
	for _, t := range tables {
		l := s.Loads[t]
		if l.Done {
			continue
		}
		share := 0.0
		if l.Estimate > 0 {
			share = min(float64(l.Rows)/float64(l.Estimate), 0.99)
		}
		line := fmt.Sprintf("  %-28s %s %3.0f%%  %s rows of about %s", t, bar(share, 20), share*100, number(l.Rows), number(max(l.Rows, l.Estimate)))
		if left := timeLeft(l, now); left >= time.Second {
			line += fmt.Sprintf(", %s left", left.Round(time.Second))
		}
		lines = append(lines, line)
	}
	return lines
}

func timeLeft(l capture.Loading, now time.Time) time.Duration {
	took, read := now.Sub(l.Began), l.Rows-l.Before
	if read <= 0 || took < time.Second || l.Estimate <= l.Rows {
		return 0
	}
	return time.Duration(float64(took) / float64(read) * float64(l.Estimate-l.Rows))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// number groups digits: 1,234,567.
func number(n int64) string {
	digits := fmt.Sprint(n)
	var out []byte
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			out = append(out, ',')
		}
		out = append(out, digits[i])
	}
	return string(out)
}

func count(v float64) string {
	if v > 0 && v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return number(int64(v))
}

func seconds(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.1f s", v)
	case v < 600:
		return fmt.Sprintf("%.0f s", v)
	}
	return time.Duration(v * float64(time.Second)).Round(time.Minute).String()
}

func size(n int64) string {
	const units = "KMGTP"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}
