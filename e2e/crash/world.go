// Command crash runs Runnel on real servers while it is killed, frozen, cut off and lied to, by a schedule that is random from
// a seed, lets everything heal, and holds stream and targets against the source's own history. scripts/crash calls it.
//
// What it promises: a run ends with status 0 only if every fault of its schedule was injected, the flow came back after each,
// and no checker found anything.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/proxy"
	"github.com/runnel-dev/runnel/e2e/servers"
)

// Topology is how Runnel is laid out.
type Topology string

// Topologies.
const (
	TopologyRun     Topology = "run"     // one `runnel run` with JetStream embedded
	TopologySplit   Topology = "split"   // one nats-server, two `runnel capture`, two `runnel worker`
	TopologyCluster Topology = "cluster" // the same with three nats-servers and three replicas
)

// Limits. They bound how long something broken is waited for, on a machine that is busy.
const (
	limitInject  = 6 * time.Minute // of one fault, with its healing
	limitRecover = 4 * time.Minute // until a change flows into every target again
	limitCatchUp = 4 * time.Minute // until every target equals the source at the end
)

// World is everything that a run consists of. Faults act on it; while one runs, fields that others may use at the same time are
// changed by exclusive faults only.
type World struct {
	Seed     uint64
	Topology Topology
	Dir      string // of logs and data; kept when the run fails

	DB      database
	Source  *servers.Server // the primary; an exclusive fault that fails over puts the new one here
	Targets []*Target
	NATS    *servers.Cluster // nil where JetStream is embedded

	// In the topology "run" all three hold the same one process.
	Run, Agents, Workers []*Process

	Traffic  *Traffic
	Recorder *check.Recorder // of what samplers see in targets and source, and of declared exceptions

	born     time.Time // when the stream existed
	others   atomic.Int32
	binary   string
	env      []string // of all processes
	links    map[string][]*proxy.Proxy
	dataDisk *servers.Disk // under the data folder of `runnel run`; nil where it cannot be filled
	kept     string        // the last copy of JetStream's store
	marks    map[*Process]int64
	mu       sync.Mutex
	cleanups []func()
	unseen   []error // of samplers that never saw anything
}

// Target is what a function writes into.
type Target struct {
	Function string // search, analytics, warehouse, ledger
	Kind     string // elasticsearch, clickhouse, postgres
	Link     string // worker-search and so on: the proxy between the workers and it
	Server   *servers.Server

	chosen string     // how --target names it
	owner  sync.Mutex // of the fault that decides about the server
}

// Target finds a function's target; nil where the run has none.
func (w *World) Target(function string) *Target {
	for _, t := range w.Targets {
		if t.Function == function {
			return t
		}
	}
	return nil
}

// Gap declares a loss: what the source committed, or the stream stored, since a time may be missing, be there twice, or out of
// order until now. A fault that provokes a loss takes the time before it injects, and declares once the flow is healed. What
// was before and comes after is checked as ever, and so is the equality of every target at the end. Other exceptions are
// declared to the Recorder itself.
func (w *World) Gap(from time.Time, why string) {
	for _, p := range []check.Promise{check.Lost, check.Duplicated, check.Disordered} {
		w.Recorder.Allow(check.Allowance{Promise: p, From: from, Until: time.Now(), Why: why})
	}
	w.Logf("declared a loss: %s", why)
}

// AwaitLog waits until a process of Runnel has logged one of the texts since this fault began, and returns it.
func (w *World) AwaitLog(ctx context.Context, processes []*Process, texts ...string) (string, error) {
	for {
		for _, p := range processes {
			for _, text := range texts {
				if p.logged(w.since(p), text) {
					return text, nil
				}
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return "", fmt.Errorf("no process logged any of %q: %w", texts, err)
		}
	}
}

// Resnapshot is what an operator does about a gap: one agent is started once with --resnapshot, the others stay away until it
// streams.
func (w *World) Resnapshot(ctx context.Context) error {
	release := w.Hold(w.Agents[1:]...)
	defer release()
	p := w.Agents[0]
	from := p.logSize()
	const started = "capture started"
	if err := p.Restart(ctx, Life{Args: []string{"--resnapshot"}, Until: started}); err != nil {
		return err
	}
	for !p.logged(from, started) {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("with --resnapshot %s does not start to capture: %w", p.Name, err)
		}
	}
	return nil
}

// Hold stops processes in an orderly way and keeps them down until release.
func (w *World) Hold(processes ...*Process) (release func()) {
	for _, p := range processes {
		p.hold()
	}
	return func() {
		for _, p := range processes {
			p.release()
		}
	}
}

// Agent is the process that captures now, not a standby.
func (w *World) Agent() *Process {
	for _, p := range w.Agents {
		if p.captures() {
			return p
		}
	}
	return w.Agents[0]
}

// since is where a process' log was when the fault under way began.
func (w *World) since(p *Process) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.marks[p]
}

// mark remembers where all logs are.
func (w *World) mark() {
	marks := map[*Process]int64{}
	for _, p := range w.processes() {
		marks[p] = p.logSize()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks = marks
}

// processes are all of Runnel's, each once.
func (w *World) processes() []*Process {
	if len(w.Run) > 0 {
		return w.Run
	}
	return append(append([]*Process(nil), w.Agents...), w.Workers...)
}

// pause waits; it returns ctx's error when that ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// between is a random duration.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}

// The world is a servers.TB: what a server cannot do ends the fault, and the runner reports it.

// failure is how a server's trouble travels.
type failure string

// Helper is of servers.TB.
func (w *World) Helper() {}

// Failed says whether servers show their logs when they stop.
func (w *World) Failed() bool { return false }

// Logf writes a line of the run's own log, with the time since its start.
func (w *World) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s: %s\n", time.Now().Format("15:04:05.000"), w.Topology, fmt.Sprintf(format, args...))
}

// Fatal ends the fault under way, or the run.
func (w *World) Fatal(args ...any) { panic(failure(fmt.Sprint(args...))) }

// Fatalf ends the fault under way, or the run.
func (w *World) Fatalf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// Skipf is for servers that are not installed: a run never skips in silence.
func (w *World) Skipf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// Cleanup is called at the end of the run, the last one first.
func (w *World) Cleanup(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cleanups = append(w.cleanups, f)
}

// close ends everything that the world started.
func (w *World) close() {
	for i := len(w.cleanups) - 1; i >= 0; i-- {
		w.cleanups[i]()
	}
}

// keepServers copies the servers' logs to the run's folder: their own ones go with them.
func (w *World) keepServers() {
	keep := func(name string, s *servers.Server) {
		if s == nil {
			return
		}
		if log, err := os.ReadFile(s.Dir + "/server.log"); err == nil {
			_ = os.WriteFile(w.Dir+"/"+name+".server.log", log, 0o644) // the run has failed already
		}
	}
	keep("source", w.Source)
	for _, t := range w.Targets {
		keep(t.Function, t.Server)
	}
	if w.NATS != nil {
		for _, n := range w.NATS.Nodes {
			keep(n.Name, n.Server)
		}
	}
}
