package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/runnel-dev/runnel/e2e/servers"
)

// natsFaults are troubles of JetStream itself.
var natsFaults = []Fault{
	{
		Name:  "nats.kill",
		What:  "SIGKILL to the nats-server that leads the stream, which comes back within 3 s: nothing is lost",
		Needs: external,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			return w.away(ctx, r, 3*time.Second, (*servers.Node).Kill)
		},
	},
	{
		Name:  "nats.restart",
		What:  "orderly restart of the nats-server that leads the stream: nothing is lost",
		Needs: external,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			return w.away(ctx, r, 3*time.Second, func(n *servers.Node) { n.Stop(syscall.SIGTERM) })
		},
	},
	{
		Name:  "nats.away",
		What:  "the nats-server that leads the stream is away for 11 to 20 s, longer than the agent's patience and every lease: nothing is lost",
		Needs: external,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			return w.away(ctx, r, 20*time.Second, func(n *servers.Node) {
				n.Kill()
				_ = pause(ctx, 11*time.Second)
			})
		},
	},
	{
		Name:  "nats.freeze",
		What:  "SIGSTOP to the nats-server that leads the stream, for up to 15 s: nothing is lost",
		Needs: external,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			n, err := w.NATS.Leader(ctx, streamName)
			if err != nil {
				return err
			}
			servers.Freeze(w, n.PID())
			defer servers.Thaw(w, n.PID())
			return pause(ctx, while(r))
		},
	},
	{
		Name:  "nats.stepdown",
		What:  "the leaders of the stream and of a bucket step down, several times: nothing is lost",
		Needs: replicated,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			buckets := []string{"KV_RUNNEL_owners", "KV_RUNNEL_captures", "KV_RUNNEL_functions", "KV_RUNNEL_workers"}
			for range 1 + r.IntN(4) {
				for _, name := range []string{streamName, buckets[r.IntN(len(buckets))]} {
					if err := w.insist(ctx, "STREAM.LEADER.STEPDOWN."+name, nil, nil); err != nil {
						return err
					}
				}
				if err := pause(ctx, between(r, 0, 1500*time.Millisecond)); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		Name:  "nats.node",
		What:  "a node of three is lost: changes flow without it, and it comes back, with its disk or an empty one",
		Needs: replicated,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			n := w.NATS.Nodes[r.IntN(len(w.NATS.Nodes))]
			n.Kill()
			if _, err := w.recovered(ctx); err != nil {
				return fmt.Errorf("without %s: %w", n.Name, err)
			}
			if r.IntN(2) == 0 {
				n.Empty(w)
			}
			n.Restart(w)
			w.NATS.Wait(w)
			return nil
		},
	},
	{
		Name:  "nats.isolated",
		What:  "the node that leads the stream is cut off from the other two, and clients still reach it: changes flow past it",
		Needs: replicated,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			n, err := w.NATS.Leader(ctx, streamName)
			if err != nil {
				return err
			}
			w.NATS.CutOff(n)
			defer w.NATS.Wait(w)
			defer w.NATS.Rejoin(n)
			return pause(ctx, between(r, time.Second, 15*time.Second))
		},
	},
	{
		Name:  "nats.consumer",
		What:  "the node that leads a worker's consumer is killed: what was on its way is delivered again",
		Needs: replicated,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			names, err := w.consumers(ctx)
			if err != nil {
				return err
			}
			n, err := w.NATS.ConsumerLeader(ctx, streamName, names[r.IntN(len(names))])
			if err != nil {
				return err
			}
			n.Kill()
			err = pause(ctx, between(r, 0, 3*time.Second))
			n.Restart(w)
			w.NATS.Wait(w)
			return err
		},
	},
	{
		Name: "nats.consumers",
		What: "an operator deletes all consumers of the workers: they make new ones",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			names, err := w.consumers(ctx)
			if err != nil {
				return err
			}
			for _, name := range names {
				var refused *servers.Refusal
				err := w.insist(ctx, "CONSUMER.DELETE."+streamName+"."+name, nil, nil)
				if err != nil && (!errors.As(err, &refused) || refused.Code != consumerNotFound) {
					return err
				}
			}
			return nil
		},
	},
	{
		Name: "nats.purge",
		What: "an operator purges the stream: JetStream refuses, the stream does not allow it",
		Inject: func(ctx context.Context, w *World, _ *rand.Rand) error {
			var refused *servers.Refusal
			if err := w.insist(ctx, "STREAM.PURGE."+streamName, nil, nil); !errors.As(err, &refused) {
				return fmt.Errorf("the stream was purged: %w", err)
			}
			return nil
		},
	},
}

func external(w *World) bool { return w.NATS != nil }

func replicated(w *World) bool { return w.NATS != nil && len(w.NATS.Nodes) > 1 }

// consumerNotFound is the code of JetStream's error.
const consumerNotFound = 10014

// away ends the node that leads the stream, and starts it again within a time.
func (w *World) away(ctx context.Context, r *rand.Rand, most time.Duration, end func(*servers.Node)) error {
	n, err := w.NATS.Leader(ctx, streamName)
	if err != nil {
		return err
	}
	back := time.Now().Add(between(r, 0, most))
	end(n)
	err = pause(ctx, time.Until(back))
	n.Restart(w)
	w.NATS.Wait(w)
	return err
}

// consumers of the stream; there are some while workers work.
func (w *World) consumers(ctx context.Context) ([]string, error) {
	for {
		var list struct{ Consumers []string }
		if err := w.insist(ctx, "CONSUMER.NAMES."+streamName, nil, &list); err != nil {
			return nil, err
		}
		if len(list.Consumers) > 0 {
			return list.Consumers, nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, fmt.Errorf("no worker has a consumer: %w", err)
		}
	}
}
