package main

import (
	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/registry"
)

func newResume() *cobra.Command {
	c := &stateCommand{state: registry.Running}
	return c.command(&cobra.Command{
		Use:   "resume NAME...",
		Short: "Let paused or halted sources and functions go on where they stopped",
		Long: `Resume lets a source or function go on where it stopped: one that was paused, or one that halted by itself, once what it
halted for is mended. runnel list says why.`,
		Example: `  runnel resume orders-search
  runnel resume orders-search orders-lake`,
	})
}
