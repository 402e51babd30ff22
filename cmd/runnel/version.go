package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/process"
)

// version is set by the release's build.
var version = ""

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  runnel version",
		Args:    nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "runnel %s (%s, %s/%s)\n", process.Version(version), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
