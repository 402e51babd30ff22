package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"
)

// fixedRun is a run of a fixed set: each fault that its patterns name comes once.
type fixedRun struct {
	topology Topology
	seed     uint64
	targets  []string
	faults   []string
}

var (
	allTargets = []string{"elasticsearch", "clickhouse", "postgres"}
	quick      = []string{"clickhouse", "postgres"} // without the one that takes two cores for itself
)

// ciRuns are what CI has time for: a kill at each step, the network, and the leaders of a cluster.
var ciRuns = []fixedRun{
	{TopologySplit, 1, quick, []string{"kill@*", "kill.*", "restart.*", "freeze.*", "second.*"}},
	{TopologyRun, 2, allTargets, []string{"kill.all", "net.*.source", "net.*.target", "nats.purge", "nats.consumers"}},
	{TopologyCluster, 3, []string{"postgres"}, []string{"nats.kill", "nats.stepdown", "nats.isolated", "nats.consumer", "net.cut.*", "net.strand.*"}},
}

// allRuns inject every fault at least once. Each fault stands where its topology gives it most to do: kills of the agent where
// JetStream dies with it, kills of a worker where another one takes over.
var allRuns = []fixedRun{
	{TopologyRun, 1, allTargets, []string{
		"kill.*", "restart.*", "kill@start.*", "kill@fence.*", "kill@log.*", "kill@chain.*", "kill@group.*", "kill@record.*", "kill@slot.*",
		"kill@mark.*", "kill@load.*", "kill@chunk.*", "source.*", "net.*.source", "store.*",
	}},
	{TopologySplit, 2, allTargets, []string{
		"kill@claim.*", "kill@consumer.*", "kill@fetched", "kill@write.*", "kill@floor.*", "kill@barrier.*", "kill@sweep.*", "kill@release.*",
		"freeze.*", "second.*", "target.*", "net.*.target", "net.*.worker", "net.*.agent", "store.*",
	}},
	{TopologyCluster, 3, allTargets, []string{"nats.*", "store.*"}},
}

// unnamed are the faults that no run names.
func unnamed(runs []fixedRun) (missing []string) {
	for _, f := range faults() {
		if !slices.ContainsFunc(runs, func(r fixedRun) bool { return matches(f.Name, r.faults) }) {
			missing = append(missing, f.Name)
		}
	}
	return missing
}

func matches(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// fixed goes through a set of runs, and fails where a run fails or a fault that it names was not injected.
func (o *options) fixed(ctx context.Context, runs []fixedRun) error {
	began := time.Now()
	sum := NewReport()
	sum.ledger.Runs = 0
	for _, run := range runs {
		one := *o
		one.once, one.topology, one.seed, one.targets, one.faults = true, string(run.topology), run.seed, run.targets, run.faults
		report, err := one.run(ctx)
		sum.merge(report)
		if err != nil {
			return err
		}
	}
	var missing []string
	for _, f := range faults() {
		named := slices.ContainsFunc(runs, func(r fixedRun) bool { return matches(f.Name, r.faults) })
		if named && sum.ledger.Faults[f.Name] == 0 {
			missing = append(missing, f.Name)
		}
	}
	if len(missing) > 0 {
		sum.failed(fmt.Errorf("%d faults were not injected: %v", len(missing), missing))
	}
	fmt.Printf("\nall runs, %d s:\n", int(time.Since(began).Seconds()))
	sum.print(o.out)
	if len(missing) > 0 {
		return fmt.Errorf("faults were not injected: %v", missing)
	}
	return nil
}
