package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/text"
)

// Status has a line for each source, and below it one for each table that is loaded.
func (b *board) Status(now time.Time) []process.Line {
	var lines []process.Line
	for _, s := range b.lines() {
		lines = append(lines, process.Line{Name: s.Name, Text: s.text(now)})
		for _, load := range s.loads(now) {
			lines = append(lines, process.Line{Text: load})
		}
		if s.Waits != "" {
			lines = append(lines, process.Line{Text: "load waits for function " + s.Waits})
		}
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
	return fmt.Sprintf("%-9s %9s events/s   published %s", s.State, count(s.rate.PerSecond(now)), number(s.Events))
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
		line := fmt.Sprintf("%-28s %s %3.0f%%  %s rows of about %s", t, bar(share, 20), share*100, number(l.Rows), number(max(l.Rows, l.Estimate)))
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

// bar of a share between 0 and 1.
func bar(share float64, width int) string {
	full := int(min(max(share, 0), 1) * float64(width))
	return "[" + strings.Repeat("█", full) + strings.Repeat("░", width-full) + "]"
}

// How numbers and texts are shown.
var (
	oneLine = text.OneLine
	number  = text.Number
	count   = text.Count
	seconds = text.Seconds
	size    = text.Size
)
