package functions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"

	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// Main is the main function of a binary that hosts functions: it hosts those that are deployed with a `handler:` that it has, until
// SIGINT or SIGTERM. It has the flags of `runnel worker`, which can also be set in the environment (--nats is RUNNEL_NATS_URL, --http
// is RUNNEL_HTTP), and its exit codes: 0 done, 1 something failed at run time, 2 wrong usage, 3 wrong configuration.
//
// Without a flag it joins the `runnel run` of the folder .runnel. Targets that Runnel knows are left to `runnel worker`.
func Main(handlers Handlers) {
	ctx, stop := process.Signals(context.Background())
	code := command(ctx, handlers, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is Main without the process around it.
func command(ctx context.Context, handlers Handlers, args []string, out, errs io.Writer) int {
	name := filepath.Base(args[0])
	w, err := handlers.worker()
	if err == nil {
		err = run(ctx, w, name, args[1:], out, errs)
	}
	if err != nil {
		fmt.Fprintf(errs, "%s: %v\n", name, err)
	}
	return process.ExitCode(err)
}

func run(ctx context.Context, w *process.Worker, name string, args []string, out, errs io.Writer) error {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	w.Flags(flags)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		_, err = fmt.Fprintf(out, usage, name, strings.Join(w.Handlers, "\n  handler: "), flags.FlagUsages())
		return err
	case err != nil:
		return process.UsageError(err)
	case flags.NArg() > 0:
		return process.UsageError(fmt.Errorf("expected no arguments, found %q", flags.Args()))
	}
	if err := process.FromEnvironment(flags); err != nil {
		return err
	}
	return w.Run(ctx, errs)
}

const usage = `Hosts the functions that are deployed with one of its handlers:

  handler: %[2]s

Deploy, look at and change them with runnel. Start more of these to scale out.

Usage:
  %[1]s [flags]

Flags:
%[3]s
Every flag can also be set in the environment: --http is RUNNEL_HTTP, --nats-user is RUNNEL_NATS_USER, --nats is RUNNEL_NATS_URL.
`

// Options of Serve. The zero value hosts every function whose handler is there.
type Options struct {
	// Functions are the names of the functions to host; none means all that have one of the handlers.
	Functions []string

	// Labels are what functions may ask of a worker.
	Labels map[string]string

	// HTTP is the address of /healthz, /readyz and /metrics; "" is nowhere.
	HTTP string

	// SyncInterval is that of the NATS servers: what JetStream stored counts as durable after twice that. Default 2m, as theirs.
	SyncInterval time.Duration

	// Log is where it is told what happens; default nowhere.
	Log *slog.Logger
}

// Serve hosts functions within a program that has a connection to NATS already, as Main does. The connection says where to connect
// to, and as whom; it is not used otherwise. Serve returns nil once ctx has ended and all that was begun is finished.
func Serve(ctx context.Context, nc *nats.Conn, handlers Handlers, o Options) error {
	w, err := handlers.worker()
	if err != nil {
		return err
	}
	w.Functions, w.Labels, w.HTTP = o.Functions, o.Labels, process.HTTP{Address: o.HTTP}
	if o.HTTP == "" {
		w.HTTP.Address = "none"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	conn, err := stream.Connect(ctx, stream.Config{Like: nc, Name: "runnel", SyncInterval: o.SyncInterval})
	if err != nil {
		return err
	}
	s, err := process.Open(ctx, &process.Session{Conn: conn})
	if err != nil {
		return err
	}
	defer s.Close()
	return w.Serve(ctx, s, process.NewScreen(io.Discard), o.Log)
}

// worker is one that makes these handlers.
func (h Handlers) worker() (*process.Worker, error) {
	names := slices.Sorted(maps.Keys(h))
	for _, name := range names {
		if h[name] == nil {
			return nil, fmt.Errorf("handler %s has no maker", name)
		}
		if err := registry.CheckHandler(name); err != nil {
			return nil, err
		}
	}
	if names == nil {
		return nil, errors.New("no handlers: name at least one, such as functions.Handlers{\"cache\": newCache}")
	}
	return &process.Worker{Handlers: names, NewHandler: h.maker}, nil
}

// maker is what the host calls.
func (h Handlers) maker(log *slog.Logger) func(context.Context, *registry.Function) (sink.Handler, error) {
	return func(ctx context.Context, f *registry.Function) (made sink.Handler, err error) {
		config := make(map[string]string, len(f.Config))
		for name, text := range f.Config {
			if config[name], err = registry.Resolve(text); err != nil {
				return nil, Halt(fmt.Errorf("config.%s of function %s: %w", name, f.Name, err))
			}
		}
		return h[f.Handler](ctx, Function{Name: f.Name, From: f.From, Config: config, Log: log.With("function", f.Name)})
	}
}
