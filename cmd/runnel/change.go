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

// each runs do for every name.
func (t *target) each(cmd *cobra.Command, names []string, do func(ctx context.Context, r *registry.Registry, kind, name string, out io.Writer) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), commandTimeout)
	defer cancel()
	s, err := t.nats.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	for _, name := range names {
		kind, err := t.find(ctx, s.registry, name)
		if err != nil {
			return err
		}
		if err := do(ctx, s.registry, kind, name, cmd.OutOrStdout()); err != nil {
			return err
		}
	}
	return nil
}

func setState(state registry.State) func(context.Context, *registry.Registry, string, string, io.Writer) error {
	return func(ctx context.Context, r *registry.Registry, kind, name string, out io.Writer) error {
		var err error
		if kind == "source" {
			err = r.SetSourceState(ctx, name, state, "")
		} else {
			err = r.SetFunctionState(ctx, name, 0, state, "")
		}
		if err == nil {
			_, err = fmt.Fprintf(out, "%s %s: %s\n", kind, name, state)
		}
		return err
	}
}
