package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// killFaults end, freeze and double processes of Runnel: at random moments, and at each step of the flow.
var killFaults = slices.Concat(processFaults, pointFaults())

var processFaults = []Fault{
	{
		Name: "kill.agent", What: "SIGKILL to the capture agent that works, at a random moment",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			defer own(w.Agents)()
			if err := pause(ctx, between(r, 0, time.Second)); err != nil {
				return err
			}
			w.Agent().Kill()
			return nil
		},
	},
	{
		Name: "kill.worker", What: "SIGKILL to a worker, at a random moment",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			defer own(w.Workers)()
			if err := pause(ctx, between(r, 0, time.Second)); err != nil {
				return err
			}
			w.Workers[r.IntN(len(w.Workers))].Kill()
			return nil
		},
	},
	{
		Name: "kill.again", What: "SIGKILL to the agent or a worker several times in a row, also in the middle of its start",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			all := w.Agents
			if r.IntN(2) == 0 {
				all = w.Workers
			}
			defer own(all)()
			p := all[r.IntN(len(all))]
			for range 4 {
				if err := p.Replace(Life{}); err != nil {
					return err
				}
				if err := pause(ctx, between(r, 10*time.Millisecond, 600*time.Millisecond)); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		Name: "kill.all", What: "SIGKILL to all processes of Runnel at once",
		Inject: func(_ context.Context, w *World, _ *rand.Rand) error {
			defer own(w.processes())()
			for _, p := range w.processes() {
				p.Kill()
			}
			return nil
		},
	},
	{
		Name: "restart.agent", What: "an orderly restart of the capture agent: SIGTERM, and a new start",
		Inject: func(ctx context.Context, w *World, _ *rand.Rand) error {
			defer own(w.Agents)()
			return w.Agent().Restart(ctx, Life{})
		},
	},
	{
		Name: "restart.worker", What: "an orderly restart of a worker: it releases its partitions",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			defer own(w.Workers)()
			return w.Workers[r.IntN(len(w.Workers))].Restart(ctx, Life{})
		},
	},
	{
		Name: "freeze.agent", What: "SIGSTOP to the agent for longer than any lease, while a standby may take over, then SIGCONT: a zombie that must be fenced",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			defer own(w.Agents)()
			return freeze(ctx, w.Agent(), w.DB.Patience(r)+between(r, 0, 2*time.Second))
		},
	},
	{
		Name: "freeze.worker", What: "SIGSTOP to a worker for longer than its lease, while another one takes its partitions, then SIGCONT: two that believe to own them",
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			defer own(w.Workers)()
			return freeze(ctx, w.Workers[r.IntN(len(w.Workers))], between(r, frozen, frozen+2*time.Second))
		},
	},
	{
		Name: "second.agent", What: "one more agent of the same source: it waits, and when the first one is killed a standby takes over",
		Needs: notAlone,
		Inject: func(ctx context.Context, w *World, _ *rand.Rand) error {
			defer own(w.Agents)()
			p := w.another(w.Agents[0], "agent-3")
			if err := p.Start(Life{}); err != nil {
				return err
			}
			defer p.end()
			if _, err := w.AwaitLog(ctx, []*Process{p}, "standby: another agent", "capture started"); err != nil {
				return fmt.Errorf("a further agent neither waits nor works: %w; see %s", err, p.log)
			}
			if p.captures() { // the others were not there
				p.Kill()
				return p.Fault()
			}
			w.Agent().Kill()
			if err := pause(ctx, 2*time.Second); err != nil {
				return err
			}
			return p.Fault()
		},
	},
	{
		Name: "second.worker", What: "one more worker for a while; it is killed with what it has taken over",
		Needs: notAlone,
		Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
			defer own(w.Workers)()
			p := w.another(w.Workers[0], "worker-3")
			if err := p.Start(Life{}); err != nil {
				return err
			}
			defer p.end()
			if err := w.Workers[r.IntN(len(w.Workers))].Restart(ctx, Life{}); err != nil {
				return err
			}
			return pause(ctx, between(r, time.Second, 3*time.Second))
		},
	},
}

// frozen is longer than a worker's lease (10 s), and than an agent is patient.
const frozen = 11 * time.Second

func freeze(ctx context.Context, p *Process, d time.Duration) error {
	if err := p.Stop(); err != nil {
		return err
	}
	err := pause(ctx, d)
	if e := p.Continue(); err == nil {
		err = e
	}
	return err
}

func notAlone(w *World) bool { return w.Topology != TopologyRun }

// own keeps other faults from the lives of these processes.
func own(processes []*Process) (release func()) {
	for _, p := range processes {
		p.owner.Lock()
	}
	return func() {
		for _, p := range processes {
			p.owner.Unlock()
		}
	}
}

// another is a process like one that runs; who starts it ends it.
func (w *World) another(like *Process, name string) *Process {
	p := w.process(name, like.Role, like.args...)
	p.log += fmt.Sprintf(".%d", w.others.Add(1))
	return p
}
