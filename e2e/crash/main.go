package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options of the command line.
type options struct {
	source   string
	seconds  int
	seed     uint64
	topology string
	targets  []string
	faults   []string
	keep     bool
	once     bool // instead of the length: until every fault was injected
	record   bool
	binary   string // of runnel; default: one is built
	rate     int    // of the traffic, in transactions a second
	out      io.Writer
}

// ledgerFile is where docs/guarantees.md reads what was injected.
const ledgerFile = "e2e/crash/ledger.json"

// rate of the traffic in transactions a second: two cores carry three targets and the faults too. In a fixed set, whose runs go on
// at the same time, it is lower; and in a long one, whose rows are looked at again and again, read after each gap, and judged at the
// end: what makes it long is faults.
const (
	rate      = 80
	fixedRate = 25
	usual     = 900 // seconds with that rate
)

// rateFor is the rate of a run that nobody gave one.
func rateFor(seconds int) int { return max(rate*usual/max(seconds, usual), 5) }

func main() {
	var o options
	flag.IntVar(&o.seconds, "seconds", 50, "length of the traffic with faults")
	flag.Uint64Var(&o.seed, "seed", 0, "seed of the schedule; 0: a random one, which is printed")
	flag.StringVar(&o.topology, "topology", "", "run, split or cluster; default: by the seed")
	flag.StringVar(&o.source, "source", kindPostgres, "kind of the source: postgres, mysql or mariadb")
	targets := flag.String("target", "elasticsearch,clickhouse,postgres", "kinds of targets")
	faultNames := flag.String("faults", "", "names or patterns of faults; default: all that apply")
	list := flag.Bool("list", false, "list the faults and end")
	flag.BoolVar(&o.keep, "keep", false, "keep logs and data also when nothing was found")
	ci := flag.Bool("ci", false, "a fixed set of runs that injects every fault once, in the least time")
	flag.IntVar(&o.rate, "rate", 0, fmt.Sprintf("transactions a second; default: %d, fewer in a long run", rate))
	flag.BoolVar(&o.once, "once", false, "instead of the length: until every fault was injected once")
	flag.BoolVar(&o.record, "record", false, "add the account to "+ledgerFile)
	flag.Parse()
	o.out = os.Stdout
	db, err := databaseOf(o.source)
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(2)
	}
	if *list {
		for _, f := range faults(db) {
			fmt.Printf("%-28s %s\n", f.Name, f.What)
		}
		return
	}
	if o.rate == 0 {
		o.rate = rateFor(o.seconds)
	}
	o.targets, o.faults = split(*targets), split(*faultNames)
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *ci {
		err = o.fixed(ctx, ciRuns)
	} else {
		_, err = o.run(ctx)
	}
	if err != nil {
		os.Exit(1)
	}
}

func split(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ","), func(s string) bool { return s == "" })
}

// run is one world from its making to its verdict, which is the last line that it prints.
func (o *options) run(ctx context.Context) (*Report, error) {
	report := NewReport()
	dir, err := os.MkdirTemp("", "runnel-crash")
	if err != nil {
		return report, err
	}
	db, err := databaseOf(o.source)
	if err != nil {
		return report, err
	}
	w := &World{DB: db, Seed: o.seed, Topology: o.layout(), Dir: dir, binary: o.binary, marks: map[*Process]int64{}}
	err = guard(func() error { return o.live(ctx, w, report) })
	for _, p := range w.processes() {
		report.ledger.Kills += p.Kills()
	}
	if err != nil {
		w.keepServers()
	}
	w.close()
	if err == nil {
		err = report.checked.Err()
	}
	if err != nil {
		report.failed(err, "logs and data: "+dir, "again: "+o.again())
	} else if !o.keep {
		os.RemoveAll(dir)
	}
	return report, o.account(report, err)
}

// oneAtATime is for what runs that go on at the same time share: the ledger and the output.
var oneAtATime sync.Mutex

// account records and prints what a run did.
func (o *options) account(report *Report, err error) error {
	oneAtATime.Lock()
	defer oneAtATime.Unlock()
	if o.record {
		if e := report.record(ledgerFile, o.source); err == nil {
			err = e
		}
	}
	report.print(o.out)
	return err
}

// again is the command that repeats the run.
func (o *options) again() string {
	length := fmt.Sprintf("--seconds %d", o.seconds)
	if o.rate != rateFor(o.seconds) {
		length += fmt.Sprintf(" --rate %d", o.rate)
	}
	if o.once {
		length = fmt.Sprintf("--once --rate %d", o.rate)
	}
	if o.source != kindPostgres {
		length = "--source " + o.source + " " + length
	}
	s := fmt.Sprintf("./scripts/crash %s --seed %d --topology %s --target %s", length, o.seed, o.layout(), strings.Join(o.targets, ","))
	if len(o.faults) > 0 {
		s += " --faults '" + strings.Join(o.faults, ",") + "'"
	}
	return s
}

// layout is the topology that was asked for, or the seed's.
func (o *options) layout() Topology {
	if o.topology != "" {
		return Topology(o.topology)
	}
	return []Topology{TopologyRun, TopologySplit, TopologyCluster}[o.seed%3]
}

// live builds the world, drives the schedule, and checks.
func (o *options) live(ctx context.Context, w *World, report *Report) error {
	w.Logf("source %s, seed %d, topology %s, targets %s, in %s", o.source, o.seed, w.Topology, strings.Join(o.targets, ", "), w.Dir)
	if w.binary == "" {
		w.binary = filepath.Join(w.Dir, "runnel")
		if err := compile(ctx, w.binary); err != nil {
			return err
		}
	}
	if err := w.record(); err != nil {
		return err
	}
	if err := w.build(ctx, o.targets); err != nil {
		return err
	}
	chosen, err := choose(w, o.faults)
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no fault applies to topology %s", w.Topology)
	}
	w.Traffic = &Traffic{world: w, rate: o.rate, seed: o.seed}
	if _, err := w.recovered(ctx); err != nil {
		return err
	}
	stop := w.sample(ctx)
	defer stop()
	w.Traffic.Start()
	began := time.Now()
	end := began.Add(time.Duration(o.seconds) * time.Second)
	s := NewSchedule(o.seed, chosen)
	over := func() bool { return time.Now().After(end) }
	if o.once {
		s.Company, s.Packed, over = 4, true, s.Once
	}
	err = w.drive(ctx, s, over, report)
	if e := w.Traffic.Pause(context.WithoutCancel(ctx)); err == nil {
		err = e
	}
	report.ledger.Seconds = int(time.Since(began).Seconds())
	if err != nil {
		return err
	}
	w.Logf("traffic stopped; waiting until every target equals the source")
	err = w.verify(ctx, report)
	stop()
	return errors.Join(append(w.unseen, err)...)
}
