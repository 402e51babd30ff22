package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// killFaults end and freeze processes of Runnel.
var killFaults = []Fault{
	{
		Name: "kill.agent",
		What: "SIGKILL to the capture agent that works, at a random moment",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			if err := pause(ctx, between(r, 0, time.Second)); err != nil {
				return err
			}
			w.Agent().Kill()
			return nil
		},
	},
	{
		Name: "kill.worker",
		What: "SIGKILL to a worker, at a random moment",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			if err := pause(ctx, between(r, 0, time.Second)); err != nil {
				return err
			}
			w.Workers[r.IntN(len(w.Workers))].Kill()
			return nil
		},
	},
}
