package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/registry"
)

// deployCommand is `runnel deploy`.
type deployCommand struct {
	nats   natsFlags
	dryRun bool
	json   bool
	force  bool
}

func newDeploy() *cobra.Command {
	d := &deployCommand{}
	cmd := &cobra.Command{
		Use:   "deploy FILES",
		Short: "Create or change sources and functions; agents and workers follow without a restart",
		Long: `Deploy creates what the files say and is not there, and changes what is. A function whose from, filter, ops, columns, set, mask or
ordering changed gets a new generation in the place of the old one, and its tables are read again where its target would not match.
A target that does not fit is refused, and so is one that cannot be reached, unless --force says that it will be there.`,
		Example: `  runnel deploy shop.yaml --dry-run
  runnel deploy sources.yaml functions.yaml`,
		Args: atLeastOne("files with sources and functions"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), commandTimeout)
			defer cancel()
			return d.run(ctx, args, cmd.OutOrStdout())
		},
	}
	d.nats.add(cmd.Flags())
	cmd.Flags().BoolVar(&d.dryRun, "dry-run", false, "only show what would be done")
	cmd.Flags().BoolVar(&d.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&d.force, "force", false, "deploy functions also whose target cannot be reached now")
	return cmd
}

func (d *deployCommand) run(ctx context.Context, paths []string, out io.Writer) error {
	files, err := registry.ReadFiles(paths...)
	if err != nil {
		return err
	}
	s, err := d.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	return d.deploy(ctx, s, files, out)
}

func (d *deployCommand) deploy(ctx context.Context, s *session, files *registry.Files, out io.Writer) error {
	steps, err := s.registry.Plan(ctx, files)
	if err != nil {
		return err
	}
	notes := out
	if d.json {
		notes = io.Discard
	}
	if err := s.checkTargets(ctx, files, steps, d.force, notes); err != nil {
		return err
	}
	if !d.dryRun {
		if steps, err = s.registry.Deploy(ctx, files); err != nil {
			return err
		}
	}
	if d.json {
		return printJSON(out, steps)
	}
	for _, step := range steps {
		if _, err := fmt.Fprintf(out, "%-9s  %-8s  %s\n", step.Action, step.Kind, step.Name); err != nil {
			return err
		}
		for line := range strings.Lines(step.Diff) {
			if _, err := fmt.Fprint(out, "    ", line); err != nil {
				return err
			}
		}
		if step.Note != "" {
			if _, err := fmt.Fprintf(out, "    (%s)\n", step.Note); err != nil {
				return err
			}
		}
	}
	if d.dryRun {
		_, err = fmt.Fprintln(out, "nothing was changed: this is a dry run")
	}
	return err
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
