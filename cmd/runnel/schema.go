package main

import (
	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/registry"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the YAML files, for editors",
		Long: `Schema prints the JSON Schema (2020-12) of sources, functions and tests. An editor that knows it completes fields, shows
what they mean, and marks what is wrong. Say in the first line of a YAML file where it is:

  # yaml-language-server: $schema=runnel.schema.json`,
		Example: `  runnel schema > runnel.schema.json`,
		Args:    nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(registry.JSONSchema)
			return err
		},
	}
}
