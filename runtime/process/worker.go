package process

import (
	"context"
	"io"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// Worker is a process that hosts functions.
type Worker struct {
	NATS NATS
	HTTP HTTP
	Log  Log

	Functions []string          // names of the functions to host; none: all
	Labels    map[string]string // that functions may ask for
	Handlers  []string          // as host.Config has them
	Release   string            // of the binary; "": what its build says

	// NewHandler makes handlers, as host.Config wants it.
	NewHandler func(log *slog.Logger) func(context.Context, *registry.Function) (sink.Handler, error)
}

// Flags adds the flags.
func (w *Worker) Flags(f *pflag.FlagSet) {
	w.NATS.Flags(f)
	w.HTTP.Flags(f)
	w.Log.Flags(f)
	f.StringSliceVar(&w.Functions, "functions", nil, "names of the functions to host (default all)")
	f.StringToStringVar(&w.Labels, "labels", nil, "labels of this worker, that functions may ask for: name=value,...")
}

// Run connects and hosts functions until ctx ends. The log and, on a terminal, the status go to errs.
func (w *Worker) Run(ctx context.Context, errs io.Writer) error {
	screen := NewScreen(errs)
	log, err := w.Log.Logger(screen)
	if err != nil {
		return err
	}
	s, err := w.NATS.Connect(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return w.Serve(ctx, s, screen, log)
}

// Serve hosts functions over a connection that stays open.
func (w *Worker) Serve(ctx context.Context, s *Session, screen *Screen, log *slog.Logger) error {
	for _, name := range w.Functions {
		if _, _, err := s.Registry.FunctionOf(ctx, name); err != nil {
			return err
		}
	}
	metrics := NewMetrics(Version(w.Release))
	board := NewBoard(metrics)
	h, err := host.New(host.Config{
		Conn: s.Conn, Registry: s.Registry, Functions: w.Functions, Labels: w.Labels, Handlers: w.Handlers,
		NewHandler: w.NewHandler(log), Log: log, Observer: board.Observer(),
	})
	if err != nil {
		return err
	}
	p := &Process{HTTP: w.HTTP, Metrics: metrics, Screen: screen, Log: log, Reporters: []Reporter{board}}
	return p.Run(ctx, h.Run)
}
