package main

import (
	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/registry"
)

func newResume() *cobra.Command {
	t := &target{}
	cmd := &cobra.Command{
		Use:   "resume NAME...",
		Short: "Let paused or halted sources and functions go on where they stopped",
		Args:  atLeastOne("names of sources or functions"),
		RunE:  func(cmd *cobra.Command, names []string) error { return t.each(cmd, names, setState(registry.Running)) },
	}
	t.add(cmd)
	return cmd
}
