package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// purgeCommand is `runnel dlq purge`.
type purgeCommand struct {
	letterFilter
	all, dryRun, yes bool
}

func newDLQPurge() *cobra.Command {
	p := &purgeCommand{}
	cmd := &cobra.Command{
		Use:   "purge [FUNCTION]",
		Short: "Delete dead letters for ever",
		Long:  `Purge deletes dead letters of a function, a table, a reason or a time, or --all. It asks first. What is given up meanwhile stays.`,
		Example: `  runnel dlq purge orders-search --dry-run
  runnel dlq purge --table public.orders --reason 'too long' --yes`,
		Args: p.atMostOne,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen := p.function != "" || p.table != "" || p.reason != "" || p.since != ""
			if chosen == p.all {
				return usageError{errors.New("expected a function, --table, --reason or --since; or --all, alone")}
			}
			return p.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	p.add(cmd)
	cmd.Flags().BoolVar(&p.all, "all", false, "all of them")
	cmd.Flags().BoolVar(&p.dryRun, "dry-run", false, "say how many there are, and delete none")
	cmd.Flags().BoolVar(&p.yes, "yes", false, "do not ask")
	return cmd
}

func (p *purgeCommand) run(ctx context.Context, in io.Reader, out io.Writer) error {
	from, err := p.from(time.Now())
	if err != nil {
		return err
	}
	s, err := p.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	d := s.conn.DeadLetters()
	found, err := p.find(ctx, d, from)
	if err != nil {
		return err
	}
	what := letterCount(len(found))
	switch {
	case len(found) == 0:
		_, err := fmt.Fprintln(out, "no dead letters")
		return err
	case p.dryRun:
		_, err := fmt.Fprintf(out, "would delete %s\n", what)
		return err
	case !p.yes:
		if err := confirm(in, out, fmt.Sprintf("delete %s for ever?", what)); err != nil {
			return err
		}
	}
	return purge(ctx, d, found, out)
}

func purge(ctx context.Context, d *stream.DeadLetters, found []*stream.Letter, out io.Writer) error {
	for i, l := range found {
		if err := d.Delete(ctx, l.ID); err != nil {
			return fmt.Errorf("%w; %s of %d were deleted before", err, letterCount(i), len(found))
		}
	}
	_, err := fmt.Fprintf(out, "deleted %s\n", letterCount(len(found)))
	return err
}

func letterCount(n int) string {
	if n == 1 {
		return "1 dead letter"
	}
	return number(int64(n)) + " dead letters"
}

// confirm asks, and takes only yes for it.
func confirm(in io.Reader, out io.Writer, question string) error {
	if _, err := fmt.Fprintf(out, "%s [y/N] ", question); err != nil {
		return err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && answer == "" {
		return usageError{errors.New("nobody answers: say it with --yes")}
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return statusError{exitRuntime, "nothing was deleted"}
	}
	return nil
}
