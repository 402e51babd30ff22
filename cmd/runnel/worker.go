package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/host"
)

// workerCommand is `runnel worker`.
type workerCommand struct {
	nats      natsFlags
	http      httpFlags
	log       logFlags
	functions []string
	labels    map[string]string
}

func newWorker() *cobra.Command {
	w := &workerCommand{}
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Host functions",
		Long: `Worker hosts the deployed functions, all of them or those that --functions names. The environment must hold the
variables that their targets refer to. Workers share the partitions of a function: start more of them to scale out, stop
some to scale in. A function whose specification says labels: {zone: eu} runs on workers with these labels only.`,
		Example: `  runnel worker --nats nats://nats:4222
  runnel worker --functions orders-search,people-search
  runnel worker --labels zone=eu,disk=fast`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error { return w.run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	w.nats.add(cmd.Flags())
	w.http.add(cmd.Flags())
	w.log.add(cmd.Flags())
	cmd.Flags().StringSliceVar(&w.functions, "functions", nil, "names of the functions to host (default all)")
	cmd.Flags().StringToStringVar(&w.labels, "labels", nil, "labels of this worker, that functions may ask for: name=value,...")
	return cmd
}

func (w *workerCommand) run(ctx context.Context, errs io.Writer) error {
	screen := newPainter(errs)
	log, err := w.log.logger(screen)
	if err != nil {
		return err
	}
	s, err := w.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	for _, name := range w.functions {
		if _, _, err := s.registry.FunctionOf(ctx, name); err != nil {
			return err
		}
	}
	board := newBoard(newMetrics())
	h, err := host.New(host.Config{
		Conn: s.conn, Registry: s.registry, Functions: w.functions, Labels: w.labels, NewHandler: handlerMaker(log), Log: log, Observer: board.host(),
	})
	if err != nil {
		return err
	}
	return together(ctx, w.http, board, screen, log, h.Run)
}
