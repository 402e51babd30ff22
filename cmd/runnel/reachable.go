package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/shape"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// reachableWithin bounds how long a deployment waits for a target.
const reachableWithin = 10 * time.Second

// checkTargets looks at the targets of functions that are about to be created or changed, as their workers will: one that does not fit its
// tables is refused, and one that cannot be reached too, unless force says that it will be there. Where this environment lacks what the
// specification refers to, only a worker can look.
func (s *session) checkTargets(ctx context.Context, files *registry.Files, steps []registry.Step, force bool, out io.Writer) error {
	for i := range files.Functions {
		f := &files.Functions[i]
		for _, step := range steps {
			if step.Kind != "function" || step.Name != f.Name || step.Action == registry.Unchanged {
				continue
			}
			err := s.checkTarget(ctx, f, out)
			switch {
			case err == nil:
			case sink.IsHalt(err):
				return configurationError{fmt.Errorf("function %s: its target does not fit: %w", f.Name, err)}
			case !force:
				return configurationError{fmt.Errorf("function %s: its target cannot be reached: %w; deploy it once it can be, or with --force: its workers wait for it", f.Name, err)}
			}
		}
	}
	return nil
}

func (s *session) checkTarget(ctx context.Context, f *registry.Function, out io.Writer) error {
	if f.Handler != "" {
		why, err := s.handlerless(ctx, f)
		if err == nil && why != "" {
			_, err = fmt.Fprintf(out, "function %s: %s\n", f.Name, why)
		}
		return err
	}
	for _, text := range f.References() {
		if _, err := registry.Resolve(text); err != nil {
			_, e := fmt.Fprintf(out, "the target of function %s is not looked at: %v\n", f.Name, err)
			return e
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reachableWithin)
	defer cancel()
	handler, done, err := lookAt(f)
	if err != nil {
		return err
	}
	defer done()
	check, ok := handler.(sink.Checker)
	if !ok {
		return nil
	}
	known, err := registry.NewestSchemas(ctx, s.registry.Schemas, f)
	if err != nil {
		return fmt.Errorf("read the tables of function %s: %w", f.Name, err)
	}
	spec, err := f.Shape()
	if err != nil {
		return err
	}
	targets := make([]*event.Schema, len(known))
	for i, k := range known {
		if targets[i] = k; spec.Zero() {
			continue
		}
		made, err := shape.New(spec, k)
		if err != nil {
			return sink.Halt(err)
		}
		targets[i] = made.Schema()
	}
	return check.Check(ctx, targets)
}
