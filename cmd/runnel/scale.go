package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// scaleCommand is `runnel scale`.
type scaleCommand struct {
	target
	most   int
	dryRun bool
}

func newScale() *cobra.Command {
	c := &scaleCommand{}
	cmd := &cobra.Command{
		Use:   "scale FUNCTION... --max N",
		Short: "Bound how many workers run a function",
		Long: `Scale bounds how many workers have partitions of a function, for a target that takes no more connections. By default all
workers share them; start more of them to scale out. --max 0 takes the bound away. Partitions move one at a time, within seconds.`,
		Example: `  runnel scale orders-search --max 2
  runnel scale orders-search --max 0`,
		Args: atLeastOne("names of functions"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if !cmd.Flags().Changed("max") || c.most < 0 {
				return usageError{errors.New("expected --max with a number of workers; 0 for as many as there are")}
			}
			c.kind = "function"
			ctx, cancel := context.WithTimeout(cmd.Context(), commandTimeout)
			defer cancel()
			return c.each(ctx, names, func(s *session, n named) error { return c.scale(ctx, s, n, cmd.OutOrStdout()) })
		},
	}
	c.nats.add(cmd.Flags())
	cmd.ValidArgsFunction = names(&c.nats, false)
	cmd.Flags().IntVar(&c.most, "max", 0, "at most so many workers; 0: no bound")
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "say what would change, and change nothing")
	return cmd
}

func (c *scaleCommand) scale(ctx context.Context, s *session, n named, out io.Writer) error {
	_, record, err := s.registry.FunctionOf(ctx, n.name)
	if err != nil {
		return err
	}
	workers, err := s.registry.ListWorkers(ctx)
	if err != nil {
		return err
	}
	now := *summed(record, workers).Workers
	switch before := record.Record.Workers; {
	case before == c.most:
		_, err = fmt.Fprintf(out, "%s: %s already\n", n, bound(c.most))
		return err
	case c.dryRun:
		_, err = fmt.Fprintf(out, "would change %s from %s to %s; %d have partitions of it now\n", n, bound(before), bound(c.most), now)
		return err
	}
	if err := s.registry.ScaleFunction(ctx, n.name, c.most); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: %s; %d had partitions of it\n", n, bound(c.most), now)
	return err
}

func bound(n int) string {
	switch n {
	case 0:
		return "all workers"
	case 1:
		return "at most 1 worker"
	}
	return fmt.Sprintf("at most %d workers", n)
}
