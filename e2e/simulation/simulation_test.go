package simulation_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/e2e/simulation"
)

var (
	seconds = flag.Int("seconds", 0, "how long schedules are played, with those of testdata/seeds; 0: these and a fixed number of others")
	first   = flag.Uint64("seed", 1, "of the first schedule")
	long    = flag.Bool("long", false, "with -one: the long schedule of that seed")
	one     = flag.Bool("one", false, "play only that schedule, and print its history")
	goOn    = flag.Bool("all", false, "go on after a violation, and list all seeds that show one")
	shrink  = flag.Duration("shrink", time.Minute, "how long a schedule that showed a violation is made smaller")
	child   = flag.Bool("child", false, "play what standard input asks for")
)

// verdict is what a command that plays schedules prints last, after what the test framework has to say.
var verdict string

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		fmt.Print(verdict)
		os.Exit(code)
	}))
}

// TestSimulation plays schedules on all processors, first those of testdata/seeds, in each of which a promise was broken once.
func TestSimulation(t *testing.T) {
	switch {
	case *child:
		serve(t)
		return
	case *one:
		r := newPlayer(t).play(simulation.Options{Seed: *first, Long: *long, Tell: true})
		fmt.Print(r.History)
		if r.Violation != "" {
			t.Fatalf("seed %d: %s", r.Seed, r.Violation)
		}
		return
	}
	s := &summary{counts: map[string]int{}, began: time.Now(), next: *first, known: known(t)}
	t.Run("schedules", func(t *testing.T) {
		for n := range runtime.NumCPU() {
			t.Run(strconv.Itoa(n), func(t *testing.T) {
				t.Parallel()
				p := newPlayer(t)
				for o, more := s.schedule(); more; o, more = s.schedule() {
					s.add(p.play(o))
				}
			})
		}
	})
	s.report(t)
}

// serve is a child: it plays what standard input asks for, one schedule after the other.
func serve(t *testing.T) {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o simulation.Options
		if in.Decode(&o) != nil {
			return
		}
		var r *simulation.Result
		synctest.Test(t, func(*testing.T) { r = simulation.Run(o) })
		if err := out.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
}

// known are the schedules that were found: a seed and what went wrong, one a line; before that `long`, or `short` as most are.
func known(t *testing.T) []simulation.Options {
	text, err := os.ReadFile("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	var all []simulation.Options
	for line := range strings.Lines(string(text)) {
		var length string
		var o simulation.Options
		if _, err := fmt.Sscan(line, &length, &o.Seed); err != nil {
			t.Fatalf("testdata/seeds: %s: %v", line, err)
		}
		o.Long = length == "long"
		all = append(all, o)
	}
	return all
}

// summary adds schedules up.
type summary struct {
	began time.Time

	mu        sync.Mutex
	known     []simulation.Options
	next      uint64
	schedules int
	events    int
	virtual   time.Duration
	counts    map[string]int
	broken    []*simulation.Result
}

// schedule is the next one to be played.
func (s *summary) schedule() (simulation.Options, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) > 0 {
		o := s.known[0]
		s.known = s.known[1:]
		return o, true
	}
	over := time.Since(s.began) > time.Duration(*seconds)*time.Second
	if *seconds == 0 {
		over = s.next-*first >= fixed
	}
	if len(s.broken) > 0 && !*goOn || over {
		return simulation.Options{}, false
	}
	s.next++
	return simulation.Options{Seed: s.next - 1}, true
}

func (s *summary) add(r *simulation.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedules++
	s.events += r.Events
	s.virtual += r.Virtual
	for name, n := range r.Counts {
		s.counts[name] += n
	}
	if r.Violation != "" {
		s.broken = append(s.broken, r)
		fmt.Printf("seed %d: %s\n", r.Seed, r.Violation)
	}
}

// fixed is how many schedules are played where no time is given, after those of testdata/seeds: some seconds' worth.
const fixed = 10

// enough schedules show every rare path for certain.
const enough = 1000

// report prints what was seen; the last line is for machines.
func (s *summary) report(t *testing.T) {
	minutes := time.Since(s.began).Minutes()
	if len(s.broken) > 0 && !*goOn {
		r := s.broken[0]
		small := simulation.Shrink(r, *shrink, newPlayer(t).play)
		lines := strings.SplitAfter(small.History, "\n")
		fmt.Printf("seed %d: %s\n%s\nof %d faults and operations these are left: %s\n", r.Seed, small.Violation,
			strings.Join(lines[max(0, len(lines)-1500):], ""), len(r.Happened), strings.Join(small.Happened, ", "))
	}
	for _, r := range s.broken {
		t.Errorf("seed %d: %s", r.Seed, r.Violation)
	}
	crashes, faults := 0, 0
	for _, name := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Printf("%9d %s\n", s.counts[name], name)
		switch {
		case strings.Contains(name, " dies "):
			crashes += s.counts[name]
		case simulation.IsFault(name):
			faults += s.counts[name]
		}
	}
	if s.schedules < enough {
		fmt.Printf("%d schedules are too few to say that each rare path was taken: that needs %d\n", s.schedules, enough)
	} else {
		for _, name := range simulation.RarePaths() {
			if s.counts[name] == 0 {
				t.Errorf("no schedule has shown: %s", name)
			}
		}
	}
	fmt.Printf("%.0f schedules a minute, each %.0f s of virtual time\n", float64(s.schedules)/minutes, s.virtual.Seconds()/float64(s.schedules))
	verdict = fmt.Sprintf("simulation: schedules=%d events=%d crashes=%d faults=%d violations=%d\n", s.schedules, s.events, crashes, faults, len(s.broken))
}
