package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// describedPartition is a partition of a function: who has it, how far it has come, and what it lacks.
type describedPartition struct {
	Partition  int           `json:"partition"`
	Owner      string        `json:"owner"` // instance; empty: nobody
	Worker     string        `json:"worker,omitempty"`
	Turn       int64         `json:"turn"` // how often it was claimed
	Floor      uint64        `json:"floor"`
	Version    event.Version `json:"version"`
	Messages   uint64        `json:"lag_messages"` // for this function, behind the floor
	LagSeconds float64       `json:"lag_seconds"`  // age of the oldest of them
}

// partitionsAtATime bounds how many partitions are asked for at the same time.
const partitionsAtATime = 8

// partitions looks at each partition of a function in the records and in the stream: what is true also of a function that nobody runs.
// None where its source has no stream yet.
func (s *session) partitions(ctx context.Context, n registry.Named[registry.FunctionRecord], workers []registry.Named[registry.Worker], now time.Time) ([]describedPartition, error) {
	spec, err := registry.ParseFunction(n.Name, n.Record.Spec)
	if err != nil {
		return nil, nil //nolint:nilerr // one that cannot be read is shown without them; its state says why
	}
	st, err := stream.Open(ctx, s.conn, spec.Source())
	if errors.Is(err, stream.ErrNoStream) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	owners, err := s.registry.OwnersOf(ctx, n.Name, n.Record.Generation)
	if err != nil {
		return nil, err
	}
	all := make([]describedPartition, spec.Lanes(st.Partitions()))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partitionsAtATime)
	for i := range all {
		o, ok := owners[i]
		if !ok {
			o.Floor = n.Record.StartOf(i)
		}
		p := &all[i]
		*p = describedPartition{Partition: i, Owner: o.Instance, Turn: o.Turn, Floor: o.Floor.Sequence, Version: o.Floor.Version, Worker: nameOf(o.Instance, workers)}
		g.Go(func() error { return p.ask(ctx, st, host.Subject(spec, i), now) })
	}
	return all, g.Wait()
}

// ask fills in what the stream holds behind the floor.
func (p *describedPartition) ask(ctx context.Context, st *stream.Stream, subject string, now time.Time) error {
	next, err := st.Next(ctx, subject, p.Floor+1)
	if errors.Is(err, stream.ErrNoMessage) {
		return nil
	}
	if err != nil {
		return err
	}
	p.LagSeconds = max(0, now.Sub(time.UnixMilli(next.TimeMS)).Seconds())
	p.Messages, err = st.Pending(ctx, subject, next.Sequence)
	return err
}

// nameOf is where a worker runs; "" where it is gone.
func nameOf(instance string, workers []registry.Named[registry.Worker]) string {
	for _, w := range workers {
		if w.Name == instance {
			return fmt.Sprintf("%s:%d", w.Record.Host, w.Record.PID)
		}
	}
	return ""
}

// owner is for people.
func (p *describedPartition) owner() string {
	switch {
	case p.Owner == "":
		return "nobody"
	case p.Worker == "":
		return p.Owner + " (gone)"
	}
	return p.Worker
}
