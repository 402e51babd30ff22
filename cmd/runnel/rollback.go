package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/registry"
)

// rollbackCommand is `runnel rollback`.
type rollbackCommand struct {
	nats                      natsFlags
	list, json, dryRun, force bool
}

func newRollback() *cobra.Command {
	r := &rollbackCommand{}
	cmd := &cobra.Command{
		Use:   "rollback FUNCTION [VERSION]",
		Short: "Deploy an earlier version of a function once more; --list shows them",
		Long: `Every deployment of a function is a version. Rollback deploys an earlier one once more, the one before the newest if none is named,
as a new version. What follows from it follows from any deployment: where another filter or other tables come back, the target's rows
are read again.`,
		Example: "  runnel rollback orders-search --list\n  runnel rollback orders-search\n  runnel rollback orders-search 3 --dry-run",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError{fmt.Errorf("expected the name of one function, and perhaps a version, found %d arguments", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), commandTimeout)
			defer cancel()
			version := 0
			if len(args) == 2 {
				var err error
				if version, err = strconv.Atoi(args[1]); err != nil || version < 1 {
					return usageError{fmt.Errorf("%q is no version: expected a number, such as 3", args[1])}
				}
			}
			return r.run(ctx, args[0], version, cmd.OutOrStdout())
		},
	}
	r.nats.add(cmd.Flags())
	f := cmd.Flags()
	f.BoolVar(&r.list, "list", false, "show the versions, newest first, and change nothing")
	f.BoolVar(&r.json, "json", false, "print JSON")
	f.BoolVar(&r.dryRun, "dry-run", false, "only show what would be done")
	f.BoolVar(&r.force, "force", false, "deploy it also where the target cannot be reached now")
	return cmd
}

func (r *rollbackCommand) run(ctx context.Context, name string, version int, out io.Writer) error {
	s, err := r.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if r.list {
		return r.versions(ctx, s, name, out)
	}
	files, v, err := s.registry.VersionOf(ctx, name, version)
	if err != nil {
		return err
	}
	if !r.json {
		if _, err := fmt.Fprintf(out, "version %d of %s\n", v.Version, v.Deployed.Local().Format(time.DateTime)); err != nil {
			return err
		}
	}
	d := &deployCommand{dryRun: r.dryRun, json: r.json, force: r.force}
	return d.deploy(ctx, s, files, out)
}

func (r *rollbackCommand) versions(ctx context.Context, s *session, name string, out io.Writer) error {
	all, err := s.registry.VersionsOf(ctx, name)
	if err != nil {
		return err
	}
	if r.json {
		if all == nil {
			all = []registry.Version{}
		}
		return printJSON(out, all)
	}
	for i := len(all) - 1; i >= 0; i-- {
		v := all[i]
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "%d\t%s\n", v.Version, v.Deployed.Local().Format(time.DateTime))
		if err := w.Flush(); err != nil {
			return err
		}
		for line := range strings.Lines(v.Diff) {
			if !strings.HasPrefix(line, "  ") {
				if _, err := fmt.Fprint(out, "    ", line); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
