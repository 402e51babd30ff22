package main

import (
	"context"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// backlog finds the function that has read the least of a source's stream, among those that work: who is paused, halted or
// stalled must not hold up a load.
func backlog(ctx context.Context, r *registry.Registry, st *stream.Stream, source string) (capture.Backlog, error) {
	functions, err := r.ListFunctions(ctx)
	if err != nil {
		return capture.Backlog{}, err
	}
	workers, err := r.ListWorkers(ctx)
	if err != nil {
		return capture.Backlog{}, err
	}
	var working []floors
	for _, f := range functions {
		spec, err := registry.ParseFunction(f.Name, f.Record.Spec)
		if err != nil {
			return capture.Backlog{}, err
		}
		if spec.Source() != source || f.Record.State != registry.Running || stalled(workers, f.Name) {
			continue
		}
		generation, one := f.Record.Generation, spec.Ordering == registry.OrderSource
		if f.Record.Waits { // the one before has not stopped yet
			generation, one = f.Record.Replaces.Generation, f.Record.Replaces.One
		}
		owners, err := r.OwnersOf(ctx, f.Name, generation)
		if err != nil {
			return capture.Backlog{}, err
		}
		working = append(working, floors{f.Name, f.Record, one, owners})
	}
	end, err := st.End(ctx)
	if err != nil {
		return capture.Backlog{}, err
	}
	return slowest(end, st.Partitions(), working), nil
}

// floors are how far a function has come.
type floors struct {
	name   string
	record registry.FunctionRecord
	one    bool // partition for all
	owners map[int]registry.Owner
}

// lowest is the sequence up to which all is written, in every partition.
func (f *floors) lowest(partitions int) uint64 {
	lowest := ^uint64(0)
	if f.one {
		partitions = 1
	}
	for p := range partitions {
		at := f.record.StartOf(p).Sequence
		if o, ok := f.owners[p]; ok {
			at = o.Floor.Sequence
		}
		lowest = min(lowest, at)
	}
	return lowest
}

func stalled(workers []registry.Named[registry.Worker], function string) bool {
	for _, w := range workers {
		if w.Record.Status[function].Stalled {
			return true
		}
	}
	return false
}

// slowest takes all messages as equally large.
func slowest(end stream.End, partitions int, working []floors) capture.Backlog {
	b := capture.Backlog{Limit: uint64(max(end.MaxBytes, 0))}
	if end.Last < end.First {
		return b
	}
	for _, f := range working {
		read := min(max(f.lowest(partitions)+1, end.First)-end.First, end.Last-end.First+1)
		all := float64(end.Last - end.First + 1)
		unread := uint64(float64(end.Bytes) * (all - float64(read)) / all)
		if unread > b.Unread {
			b.Function, b.Unread = f.name, unread
		}
	}
	return b
}
