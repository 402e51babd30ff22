package main

import (
	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/process"
)

func newWorker() *cobra.Command {
	w := &process.Worker{NewHandler: handlerMaker, Release: version}
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
		RunE: func(cmd *cobra.Command, _ []string) error { return w.Run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	w.Flags(cmd.Flags())
	return cmd
}
