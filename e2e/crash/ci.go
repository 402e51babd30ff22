package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// fixedRun is a run of the fixed set: each fault that its patterns name comes once.
type fixedRun struct {
	topology Topology
	seed     uint64
	targets  []string
	faults   []string
}

// ciRuns go on at the same time, and inject every fault at least once. Each stands where it meets most: what hurts the source, and
// what JetStream stores, where JetStream dies with the agent; kills of one process where another one takes over; what hurts
// JetStream's leaders, and the targets, in a cluster.
var ciRuns = []fixedRun{
	{TopologyRun, 1, []string{"clickhouse", "postgres"}, []string{
		"kill.again", "kill.all", "source.*", "net.*.source", "store.[^n]*", "target.*.warehouse", "operator.redrive",
	}},
	{TopologySplit, 2, []string{"clickhouse", "postgres", "ordered"}, []string{
		"kill@*", "kill.agent", "kill.worker", "restart.*", "freeze.*", "second.*", "net.*.agent", "net.*.worker",
		"target.*.analytics", "operator.rollback",
	}},
	{TopologyCluster, 3, []string{"elasticsearch", "clickhouse"}, []string{
		"nats.*", "store.node", "target.*.search", "net.*.target",
	}},
}

// unnamed are the faults that no run names.
func unnamed(db database, runs []fixedRun) (missing []string) {
	for _, f := range faults(db) {
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

// fixed does a set of runs at the same time, most of which is waiting, and fails where a run fails or a fault that it names was not
// injected.
func (o *options) fixed(ctx context.Context, runs []fixedRun) error {
	db, err := databaseOf(o.source)
	if err != nil {
		return err
	}
	began := time.Now()
	dir, err := os.MkdirTemp("", "runnel-crash")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "runnel")
	if err := compile(ctx, binary); err != nil {
		return err
	}
	sum := NewReport()
	sum.ledger.Runs = 0
	var all errgroup.Group
	for _, run := range runs {
		one := *o
		one.once, one.topology, one.seed, one.targets, one.faults = true, string(run.topology), run.seed, run.targets, run.faults
		one.binary, one.rate = binary, fixedRate
		all.Go(func() error {
			report, err := one.run(ctx)
			oneAtATime.Lock()
			defer oneAtATime.Unlock()
			sum.merge(report)
			if err != nil {
				sum.failed(fmt.Errorf("%s: %w", run.topology, err))
			}
			return err
		})
	}
	err = all.Wait()
	if missing := sum.missing(db, runs); len(missing) > 0 {
		e := fmt.Errorf("%d faults were not injected: %s", len(missing), strings.Join(missing, ", "))
		sum.failed(e)
		err = errors.Join(err, e)
	}
	fmt.Fprintf(o.out, "\nall runs, %d s:\n", int(time.Since(began).Seconds()))
	sum.print(o.out)
	return err
}

// missing are the faults that runs name and that were not injected.
func (r *Report) missing(db database, runs []fixedRun) (missing []string) {
	for _, f := range faults(db) {
		named := slices.ContainsFunc(runs, func(run fixedRun) bool { return matches(f.Name, run.faults) })
		if named && r.ledger.Faults[f.Name] == 0 {
			missing = append(missing, f.Name)
		}
	}
	return missing
}
