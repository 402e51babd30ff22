package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// runCommand is `runnel run`.
type runCommand struct {
	nats   natsFlags
	http   process.HTTP
	log    process.Log
	listen string
	past   pastFlags

	functions []string
	labels    map[string]string
}

func newRun() *cobra.Command {
	r := &runCommand{}
	cmd := &cobra.Command{
		Use:   "run FILES",
		Short: "Run everything in one process: sources, functions and an embedded JetStream",
		Long: `Run deploys the files, then captures their sources and hosts their functions, all in one process, with JetStream
embedded in it (or at --nats URL). The stream and all progress are kept in the data folder: a run that was stopped or
killed goes on where it was. What is deployed, paused or resumed meanwhile takes effect at once.

Other commands find a running one through its data folder:

  runnel list --data .runnel`,
		Example: "  runnel run shop.yaml\n  runnel run sources.yaml functions.yaml --data /var/lib/runnel\n  runnel run shop.yaml --functions orders-search --labels zone=eu",
		Args:    atLeastOne("files with sources and functions"),
		RunE:    func(cmd *cobra.Command, args []string) error { return r.run(cmd.Context(), args, cmd.ErrOrStderr()) },
	}
	r.nats.add(cmd.Flags())
	r.http.Flags(cmd.Flags())
	r.log.Flags(cmd.Flags())
	cmd.Flags().StringVar(&r.listen, "listen", "", "address of the embedded JetStream for other commands and the nats CLI (default 127.0.0.1:4222, or the next free port)")
	cmd.Flags().StringSliceVar(&r.functions, "functions", nil, "names of the functions to host here; others wait for a runnel worker (default all)")
	cmd.Flags().StringToStringVar(&r.labels, "labels", nil, "labels of this worker, that functions may ask for: name=value,...")
	r.past.add(cmd)
	return cmd
}

func (r *runCommand) run(ctx context.Context, paths []string, errs io.Writer) error {
	screen := process.NewScreen(errs)
	log, err := r.log.Logger(screen)
	if err != nil {
		return err
	}
	if r.listen != "" && r.nats.External() {
		return usageError{errors.New("--listen is for the embedded JetStream, and --nats names another one")}
	}
	files, err := registry.ReadFiles(paths...)
	if err != nil {
		return err
	}
	if err := checkReferences(files); err != nil {
		return err
	}
	_, known := namesOf(files)
	if unknown := slices.DeleteFunc(slices.Clone(r.functions), func(name string) bool { return slices.Contains(known, name) }); len(unknown) > 0 {
		return usageError{fmt.Errorf("--functions %s: the files have no such function; they have %s", strings.Join(unknown, ","), strings.Join(known, ", "))}
	}
	s, err := r.open(ctx, log)
	if err != nil {
		return err
	}
	defer s.close()
	if err := deployAll(ctx, s, files, log); err != nil {
		return err
	}
	sources, functions := namesOf(files)
	halted := sources
	if r.past.any() { // revived once they are past the gap
		halted = nil
	}
	if err := revive(ctx, s.registry, halted, functions); err != nil {
		return err
	}
	metrics := process.NewMetrics(process.Version(version))
	sourceBoard, functionBoard := newBoard(), process.NewBoard(metrics)
	a := &agents{session: s, board: sourceBoard, log: log, ways: r.past}
	config := host.Config{Conn: s.conn, Registry: s.registry, NewHandler: handlerMaker(log), Log: log, Observer: functionBoard.Observer(), Labels: r.labels}
	if r.nats.External() { // what else is deployed there has processes of its own
		a.only, config.Functions = sources, functions
	} else if err := others(ctx, s.registry, sources, functions, log); err != nil {
		return err
	}
	if len(r.functions) > 0 {
		config.Functions = r.functions
	}
	var parts []func(context.Context) error
	if len(sources) > 0 || !r.nats.External() {
		parts = append(parts, a.run)
	}
	if len(functions) > 0 || !r.nats.External() {
		h, err := host.New(config)
		if err != nil {
			return err
		}
		parts = append(parts, h.Run)
	}
	p := process.Process{HTTP: r.http, Metrics: metrics, Screen: screen, Log: log, Reporters: []process.Reporter{sourceBoard, functionBoard}}
	return p.Run(ctx, parts...)
}

// others says what was deployed here before and goes on, although the files do not have it.
func others(ctx context.Context, r *registry.Registry, sources, functions []string, log *slog.Logger) error {
	deployed, err := r.Files(ctx)
	if err != nil {
		return err
	}
	s, f := namesOf(deployed)
	for _, name := range append(s, f...) {
		if !slices.Contains(sources, name) && !slices.Contains(functions, name) {
			log.Info("deployed before and not in the files: it goes on", "name", name, "to_stop_it", "runnel delete "+name)
		}
	}
	return nil
}

func (r *runCommand) open(ctx context.Context, log *slog.Logger) (*session, error) {
	if r.nats.External() {
		return r.nats.connect(ctx)
	}
	s, a, err := r.nats.embed(ctx, r.listen, log)
	if err != nil {
		return nil, err
	}
	log.Info("JetStream is embedded", "url", a.URL, "data", r.nats.Data,
		"look", fmt.Sprintf("nats --server %s --user %s --password \"$(jq -r .password %s)\" stream ls", a.URL, a.User, r.nats.AccessFile()))
	return s, nil
}

func deployAll(ctx context.Context, s *session, files *registry.Files, log *slog.Logger) error {
	steps, err := s.registry.Deploy(ctx, files)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if step.Action != registry.Unchanged {
			log.Info("deployed", "kind", step.Kind, "name", step.Name, "action", step.Action)
		}
	}
	return nil
}

func namesOf(files *registry.Files) (sources, functions []string) {
	for i := range files.Sources {
		sources = append(sources, files.Sources[i].Name)
	}
	for i := range files.Functions {
		functions = append(functions, files.Functions[i].Name)
	}
	return sources, functions
}
