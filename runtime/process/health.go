package process

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
)

// Ports of the HTTP listener where the operator names none.
const (
	firstHTTP = 8422
	lastHTTP  = 8521
)

// HTTP says where health and metrics are served.
type HTTP struct {
	Address string // "": the first free port from 8422; "none": nowhere
}

// Flags adds the flag.
func (h *HTTP) Flags(f *pflag.FlagSet) {
	f.StringVar(&h.Address, "http", "", `address of /healthz, /readyz and /metrics (default 127.0.0.1:8422, or the next free port; "none" for none)`)
}

// serve listens until ctx ends. It gives the address.
func (p *Process) serve(ctx context.Context) (address string, wait func() error, err error) {
	if p.HTTP.Address == "none" {
		return "", func() error { return nil }, nil
	}
	l, err := AtFree(p.HTTP.Address, firstHTTP, lastHTTP, func(address string) (net.Listener, error) { return net.Listen("tcp", address) })
	if err != nil {
		return "", nil, fmt.Errorf("listen for health and metrics: %w; choose another address with --http", err)
	}
	for _, r := range p.Reporters {
		p.Metrics.registry.MustRegister(r)
	}
	server := &http.Server{Handler: p.routes(), ReadHeaderTimeout: 5 * time.Second}
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

func (p *Process) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.Metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		var reasons []string
		for _, r := range p.Reporters {
			reasons = append(reasons, r.Unready(time.Now())...)
		}
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
