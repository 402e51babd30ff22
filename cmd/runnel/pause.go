package main

import (
	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/registry"
)

func newPause() *cobra.Command {
	c := &stateCommand{state: registry.Paused}
	return c.command(&cobra.Command{
		Use:   "pause NAME...",
		Short: "Stop sources or functions until they are resumed; nothing is lost",
		Long: `Pause stops a function, whose events wait in the stream for as long as its retention keeps them, or a source, whose
database keeps its log for it: watch the disk of the database meanwhile. Workers and agents see it within a second.`,
		Example: `  runnel pause orders-search
  runnel pause shop --kind source --dry-run`,
	})
}
