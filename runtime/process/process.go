// Package process is what a long-running process of Runnel has beside its work: how it finds NATS, its flags and their environment,
// its log, health, metrics and status, and how it ends. `runnel worker`, and binaries with functions of their users, are Worker.
//
// A process ends in order: the first signal ends its context, its parts finish what they have begun and return, and then what
// observes them goes. A later signal ends it at once.
package process

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Process is what runs beside the work.
type Process struct {
	HTTP      HTTP
	Metrics   *Metrics
	Screen    *Screen
	Log       *slog.Logger
	Reporters []Reporter // in the order of their lines on the screen
}

// Reporter knows how a part of the work is doing.
type Reporter interface {
	prometheus.Collector

	// Unready says what makes no progress.
	Unready(now time.Time) []string

	// Status is what a terminal shows.
	Status(now time.Time) []Line
}

// Line of a status: what stands behind a name, or below the line before where there is none.
type Line struct{ Name, Text string }

// Run runs the parts of a process until ctx ends or one of them fails.
func (p *Process) Run(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	address, serve, err := p.serve(ctx)
	if err != nil {
		return err
	}
	if address != "" {
		p.Log.Info("serving health and metrics", "url", "http://"+address+"/metrics")
	}
	stopped, painted, bounded := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(bounded)
		boundMemory(ctx)
	}()
	go func() {
		defer close(painted)
		p.paint(stopped)
	}()
	g, inner := errgroup.WithContext(ctx)
	for _, part := range parts {
		g.Go(func() error { return part(inner) })
	}
	err = g.Wait()
	cancel()
	close(stopped)
	<-painted
	<-bounded
	if e := serve(); err == nil {
		err = e
	}
	if err == nil {
		p.Log.Info("stopped")
	}
	return err
}

// paint repaints the status twice a second until stop is closed.
func (p *Process) paint(stop <-chan struct{}) {
	if !p.Screen.live {
		<-stop
		return
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			p.Screen.Show(nil)
			return
		case <-tick.C:
			p.Screen.Show(p.status(time.Now()))
		}
	}
}

// status is the block that stands below the log.
func (p *Process) status(now time.Time) []string {
	var lines []Line
	for _, r := range p.Reporters {
		lines = append(lines, r.Status(now)...)
	}
	width := 8
	for _, l := range lines {
		width = max(width, len(l.Name))
	}
	block := []string{strings.Repeat("─", 60)}
	for _, l := range lines {
		if l.Name == "" {
			block = append(block, "  "+l.Text)
			continue
		}
		block = append(block, fmt.Sprintf("%-*s  %s", width, l.Name, l.Text))
	}
	return block
}
