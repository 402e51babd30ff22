package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/runnel-dev/runnel/runtime/process"
)

// gauge is the progress of long work: one line that is painted over on a terminal, and elsewhere one now and then.
type gauge struct {
	out    io.Writer
	screen *process.Screen
	told   time.Time
	last   string
}

func newGauge(out io.Writer, screen *process.Screen) *gauge { return &gauge{out: out, screen: screen} }

// tellEvery is how often progress is printed where it cannot be painted over.
const tellEvery = 10 * time.Second

func (g *gauge) line(text string) {
	if g.screen.Live() {
		g.screen.Show([]string{text})
		return
	}
	if text == g.last || !g.told.IsZero() && time.Since(g.told) < tellEvery {
		return
	}
	g.told, g.last = time.Now(), text
	_, _ = fmt.Fprintln(g.out, text) // what follows is written, and tells
}

// end takes the line away.
func (g *gauge) end() {
	if g.screen.Live() {
		g.screen.Show(nil)
	}
}

func waitFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
