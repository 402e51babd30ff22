package main

import (
	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/registry"
)

func newPause() *cobra.Command {
	t := &target{}
	cmd := &cobra.Command{
		Use:   "pause NAME...",
		Short: "Stop sources or functions until they are resumed; nothing is lost",
		Long: `Pause stops a function, whose events wait in the stream for as long as its retention keeps them, or a source, whose
database keeps its log for it: watch the disk of the database meanwhile.`,
		Args: atLeastOne("names of sources or functions"),
		RunE: func(cmd *cobra.Command, names []string) error { return t.each(cmd, names, setState(registry.Paused)) },
	}
	t.add(cmd)
	return cmd
}
