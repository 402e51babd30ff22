package main

import (
	"context"
	"maps"
	"slices"

	"github.com/runnel-dev/runnel/runtime/registry"
)

// unhosted says why no worker hosts a function, and what to start.
func unhosted(n registry.Named[registry.FunctionRecord], workers []registry.Named[registry.Worker]) string {
	spec, err := registry.ParseFunction(n.Name, n.Record.Spec)
	if err != nil {
		return "no worker hosts it: start runnel worker, or runnel run"
	}
	labels := ""
	for _, k := range slices.Sorted(maps.Keys(spec.Labels)) {
		labels += " --labels " + k + "=" + spec.Labels[k]
	}
	if why := handlerless(spec, workers); why != "" {
		return why + labels
	}
	if spec.Handler != "" {
		return "no worker hosts it: start one that has the handler " + spec.Handler + labels
	}
	return "no worker hosts it: start runnel worker" + labels + ", or runnel run"
}

// handlerless says that no worker has the handler that a function names; "" where one has, or runnel itself.
func handlerless(f *registry.Function, workers []registry.Named[registry.Worker]) string {
	if f.Handler == "" || slices.ContainsFunc(workers, func(w registry.Named[registry.Worker]) bool { return w.Record.Has(f.Handler) }) {
		return ""
	}
	return "no worker has the handler " + f.Handler + ": start the binary that has it"
}

// handlerless asks for the workers.
func (s *session) handlerless(ctx context.Context, f *registry.Function) (string, error) {
	if f.Handler == "" {
		return "", nil
	}
	workers, err := s.registry.ListWorkers(ctx)
	return handlerless(f, workers), err
}
