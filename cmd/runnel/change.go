package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/runnel-dev/runnel/runtime/registry"
)

// target says which source or function a name means. One name may be both; then --kind decides.
type target struct {
	nats natsFlags
	kind string
}

func (t *target) add(cmd *cobra.Command) {
	t.nats.add(cmd.Flags())
	cmd.ValidArgsFunction = names(&t.nats, true)
	cmd.Flags().StringVar(&t.kind, "kind", "", "source or function, where both have that name")
}

// find gives the kind.
func (t *target) find(ctx context.Context, r *registry.Registry, name string) (string, error) {
	if t.kind != "" && t.kind != "source" && t.kind != "function" {
		return "", usageError{fmt.Errorf("--kind %q: expected source or function", t.kind)}
	}
	var notSource, notFunction *registry.NotDeployedError
	_, _, err := r.SourceOf(ctx, name)
	if err != nil && !errors.As(err, &notSource) && !damaged(err) {
		return "", err
	}
	_, _, err = r.FunctionOf(ctx, name)
	if err != nil && !errors.As(err, &notFunction) && !damaged(err) {
		return "", err
	}
	switch {
	case t.kind == "source" && notSource != nil:
		return "", notSource
	case t.kind == "function" && notFunction != nil:
		return "", notFunction
	case t.kind != "":
		return t.kind, nil
	case notSource != nil && notFunction != nil:
		both := &registry.NotDeployedError{Kind: "source or function", Name: name, Names: append(notSource.Names, notFunction.Names...)}
		return "", both
	case notSource == nil && notFunction == nil:
		return "", misconfigured("%q is a source and a function: say which with --kind", name)
	case notSource == nil:
		return "source", nil
	}
	return "function", nil
}

// damaged: a stored specification that this version cannot read.
func damaged(err error) bool {
	var faults registry.Faults
	return errors.As(err, &faults)
}

// named is one source or function that a command line names.
type named struct{ kind, name string }

func (n named) String() string { return n.kind + " " + n.name }

// each runs do for every name, once all of them are known to be deployed.
func (t *target) each(ctx context.Context, names []string, do func(s *session, n named) error) error {
	s, err := t.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var all []named
	for _, name := range names {
		kind, err := t.find(ctx, s.registry, name)
		if err != nil {
			return err
		}
		all = append(all, named{kind, name})
	}
	for _, n := range all {
		if err := do(s, n); err != nil {
			return err
		}
	}
	return nil
}

// stateCommand is `runnel pause` and `runnel resume`.
type stateCommand struct {
	target
	state  registry.State
	dryRun bool
}

func (c *stateCommand) command(cmd *cobra.Command) *cobra.Command {
	cmd.Args = atLeastOne("names of sources or functions")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), commandTimeout)
		defer cancel()
		return c.each(ctx, names, func(s *session, n named) error { return c.set(ctx, s, n, cmd.OutOrStdout()) })
	}
	c.add(cmd)
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "say what would change, and change nothing")
	return cmd
}

func (c *stateCommand) set(ctx context.Context, s *session, n named, out io.Writer) error {
	state, reason, err := stateOf(ctx, s.registry, n)
	switch {
	case err != nil:
		return err
	case state == c.state:
		_, err = fmt.Fprintf(out, "%s: %s already\n", n, state)
		return err
	case c.dryRun:
		_, err = fmt.Fprintf(out, "would change %s from %s to %s\n", n, stateText(string(state), reason), c.state)
		return err
	case n.kind == "source":
		err = s.registry.SetSourceState(ctx, n.name, c.state, "")
	default:
		err = s.registry.SetFunctionState(ctx, n.name, 0, c.state, "")
	}
	if err == nil {
		_, err = fmt.Fprintf(out, "%s: %s\n", n, c.state)
	}
	return err
}

func stateOf(ctx context.Context, r *registry.Registry, n named) (registry.State, string, error) {
	if n.kind == "source" {
		_, record, err := r.SourceOf(ctx, n.name)
		return record.Record.State, record.Record.Reason, err
	}
	_, record, err := r.FunctionOf(ctx, n.name)
	return record.Record.State, record.Record.Reason, err
}
