package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// Ports of the HTTP listener where the operator names none.
const (
	firstHTTP = 8422
	lastHTTP  = 8521
)

// httpFlags say where health and metrics are served.
type httpFlags struct{ address string }

func (h *httpFlags) add(f *pflag.FlagSet) {
	f.StringVar(&h.address, "http", "", `address of /healthz, /readyz and /metrics (default 127.0.0.1:8422, or the next free port; "none" for none)`)
}

// serve listens until ctx ends. It gives the address.
func (h *httpFlags) serve(ctx context.Context, b *board) (address string, wait func() error, err error) {
	if h.address == "none" {
		return "", func() error { return nil }, nil
	}
	l, err := atFree(h.address, firstHTTP, lastHTTP, func(address string) (net.Listener, error) { return net.Listen("tcp", address) })
	if err != nil {
		return "", nil, fmt.Errorf("listen for health and metrics: %w; choose another address with --http", err)
	}
	b.metrics.registry.MustRegister(b)
	server := &http.Server{Handler: b.routes(), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	return l.Addr().String(), func() error {
		<-ctx.Done()
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := server.Shutdown(c); err != nil {
			_ = server.Close()
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}, nil
}

func (b *board) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(b.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reasons := b.unready(time.Now())
		if len(reasons) == 0 {
			_, _ = io.WriteString(w, "ok\n")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		for _, r := range reasons {
			_, _ = fmt.Fprintln(w, r)
		}
	})
	return mux
}

// patience is how long work may make no progress before the process counts as not ready.
const patience = 30 * time.Second

// unready says what does not make progress. A standby is ready: it does what it is there for.
func (b *board) unready(now time.Time) []string {
	var reasons []string
	say := func(format string, a ...any) { reasons = append(reasons, fmt.Sprintf(format, a...)) }
	sources, functions := b.lines()
	for _, s := range sources {
		switch {
		case s.Reason != "":
			say("source %s: %s", s.Name, s.Reason)
		case s.State == capture.Standby || s.State == capture.Stopped:
		case s.State != capture.Streaming:
			say("source %s: %s for %s", s.Name, s.State, now.Sub(s.Changed).Round(time.Second))
		case s.Pending && now.Sub(s.Stored) > patience:
			say("source %s: JetStream has stored nothing for %s", s.Name, now.Sub(s.Stored).Round(time.Second))
		}
	}
	for _, f := range functions {
		switch {
		case f.State == registry.Paused:
		case f.State == registry.Halted:
			say("function %s: halted: %s", f.Name, f.Reason)
		case f.Stalled:
			say("function %s: stalled: %s", f.Name, f.LastError)
		case f.Backlog > 0 && now.Sub(latest(f.Written, f.Floor, f.Changed)) > patience:
			say("function %s: %d messages wait and nothing was written for %s", f.Name, f.Backlog, now.Sub(latest(f.Written, f.Floor, f.Changed)).Round(time.Second))
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
