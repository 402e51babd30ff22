package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
)

func newDelete() *cobra.Command {
	t := &target{}
	cmd := &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete sources or functions; what they wrote stays",
		Long: `Delete takes a function or a source away. A function's tables and indexes stay in the target. A source's slot,
publication and stream stay too, so that deploying it again goes on without a gap; delete says how to remove them.`,
		Args: atLeastOne("names of sources or functions"),
		RunE: func(cmd *cobra.Command, names []string) error { return t.each(cmd, names, deleteOne) },
	}
	t.add(cmd)
	return cmd
}

func deleteOne(ctx context.Context, r *registry.Registry, kind, name string, out io.Writer) error {
	if kind == "function" {
		if err := r.DeleteFunction(ctx, name); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "deleted function %s\n", name)
		return err
	}
	spec, _, specErr := r.SourceOf(ctx, name)
	if err := r.DeleteSource(ctx, name); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "deleted source %s\n", name); err != nil || specErr != nil || spec.Postgres == nil {
		return err
	}
	_, err := fmt.Fprintf(out, `
Its database keeps its log until the slot is dropped. If it is not to come back:
  SELECT pg_drop_replication_slot('%s');
  DROP PUBLICATION IF EXISTS %q, %q;
  nats stream rm %s
`, spec.Postgres.Slot, spec.Postgres.Publication, spec.Postgres.Publication+"_insert", event.StreamName(name))
	return err
}
