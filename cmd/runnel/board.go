package main

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// board is what agents and host last said. Terminal, metrics and readiness read it.
type board struct {
	mu        sync.Mutex
	sources   map[string]*sourceLine
	functions map[string]*functionLine
	metrics   *metrics
}

// sourceLine is the state of a source's agent in this process.
type sourceLine struct {
	Name      string
	State     capture.State
	Detail    string
	Reason    string // why it is halted
	Changed   time.Time
	Events    int64
	Bytes     int64
	Commit    time.Time // of the newest event
	Published time.Time
	Sequence  uint64 // stored
	Stored    time.Time
	Pending   bool // something was sent that is not known to be stored
	Recorded  time.Time
	Confirmed time.Time
	Position  event.Position
	Retained  int64 // bytes of log that the slot holds back; -1 unknown
	Retries   int64
	LastError string
	Loads     map[event.Table]capture.Loading
	Waits     string // the function that loads wait for
	rate      rate
}

// functionLine is the state of a function in this process.
type functionLine struct {
	Name      string
	State     registry.State
	Reason    string
	Stalled   bool
	Changed   time.Time
	Events    int64
	Bytes     int64
	Backlog   uint64
	Lag       float64 // seconds
	Heard     time.Time
	Written   time.Time
	Floor     time.Time
	Retries   int64
	Buried    int64
	LastError string
	rate      rate
}

func newBoard(m *metrics) *board {
	return &board{sources: map[string]*sourceLine{}, functions: map[string]*functionLine{}, metrics: m}
}

func (b *board) source(name string, f func(*sourceLine)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sources[name]
	if s == nil {
		s = &sourceLine{Name: name, Retained: -1, Changed: time.Now(), Loads: map[event.Table]capture.Loading{}}
		b.sources[name] = s
	}
	f(s)
}

func (b *board) function(name string, f func(*functionLine)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn := b.functions[name]
	if fn == nil {
		fn = &functionLine{Name: name, State: registry.Running, Changed: time.Now()}
		b.functions[name] = fn
	}
	f(fn)
}

// forget takes a source off the board.
func (b *board) forget(source string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sources, source)
}

// lines are copies, by name.
func (b *board) lines() ([]sourceLine, []functionLine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sources []sourceLine
	for _, s := range b.sources {
		line := *s
		line.Loads = maps.Clone(s.Loads)
		sources = append(sources, line)
	}
	var functions []functionLine
	for _, f := range b.functions {
		functions = append(functions, *f)
	}
	slices.SortFunc(sources, func(x, y sourceLine) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(functions, func(x, y functionLine) int { return strings.Compare(x.Name, y.Name) })
	return sources, functions
}

// agent is the observer of a source's agent.
func (b *board) agent(name string) capture.Observer {
	set := func(f func(*sourceLine)) { b.source(name, f) }
	return capture.Observer{
		State: func(state capture.State, detail string) {
			set(func(s *sourceLine) {
				s.State, s.Detail, s.Changed, s.Waits = state, detail, time.Now(), ""
				if state == capture.Streaming {
					s.Reason, s.LastError = "", ""
				}
			})
		},
		Published: func(events, bytes int, commit time.Time) {
			set(func(s *sourceLine) {
				now := time.Now()
				s.Events, s.Bytes = s.Events+int64(events), s.Bytes+int64(bytes)
				s.Commit, s.Published = commit, now
				if !s.Pending {
					s.Pending, s.Stored = true, now
				}
				s.rate.add(now, events)
			})
		},
		Stored: func(sequence uint64) {
			set(func(s *sourceLine) { s.Sequence, s.Stored, s.Pending = sequence, time.Now(), false })
		},
		Recorded:  func(p event.Position) { set(func(s *sourceLine) { s.Recorded, s.Position = time.Now(), p }) },
		Confirmed: func(event.Position) { set(func(s *sourceLine) { s.Confirmed = time.Now() }) },
		Retained:  func(bytes int64) { set(func(s *sourceLine) { s.Retained = bytes }) },
		Waiting:   func(function string) { set(func(s *sourceLine) { s.Waits = function }) },
		Loading:   func(l capture.Loading) { set(func(s *sourceLine) { s.Loads[l.Table] = l }) },
		Retry: func(err error, _ time.Duration) {
			set(func(s *sourceLine) { s.Retries, s.LastError = s.Retries+1, err.Error() })
		},
	}
}

// host is the observer of the host of functions.
func (b *board) host() host.Observer {
	return host.Observer{
		Written: func(function string, events int, bytes int64, took time.Duration) {
			b.metrics.batch.WithLabelValues(function).Observe(float64(events))
			b.metrics.apply.WithLabelValues(function).Observe(took.Seconds())
			b.function(function, func(f *functionLine) {
				now := time.Now()
				f.Events, f.Bytes, f.Written, f.LastError = f.Events+int64(events), f.Bytes+bytes, now, ""
				f.rate.add(now, events)
			})
		},
		Retried: func(function string, err error) {
			b.function(function, func(f *functionLine) { f.Retries, f.LastError = f.Retries+1, err.Error() })
		},
		State: func(function string, state registry.State, reason string) {
			if state == "" {
				b.mu.Lock()
				delete(b.functions, function)
				b.mu.Unlock()
				b.metrics.forget(function)
				return
			}
			b.function(function, func(f *functionLine) { f.State, f.Reason, f.Changed = state, reason, time.Now() })
		},
		Stalled: func(function string, stalled bool) {
			b.function(function, func(f *functionLine) { f.Stalled, f.Changed = stalled, time.Now() })
		},
		Floor: func(function string, _ int, _ sink.Point) {
			b.function(function, func(f *functionLine) { f.Floor = time.Now() })
		},
		Buried: func(function string) { b.function(function, func(f *functionLine) { f.Buried++ }) },
		Lag: func(function string, backlog uint64, seconds float64) {
			b.function(function, func(f *functionLine) { f.Backlog, f.Lag, f.Heard = backlog, seconds, time.Now() })
		},
	}
}

// rate counts events per second over the last seconds.
type rate struct {
	second int64
	counts [8]int64 // by second, modulo
}

func (r *rate) advance(now time.Time) {
	second := now.Unix()
	for s := max(r.second+1, second-int64(len(r.counts))+1); s <= second; s++ {
		r.counts[s%int64(len(r.counts))] = 0
	}
	r.second = max(r.second, second)
}

func (r *rate) add(now time.Time, n int) {
	r.advance(now)
	r.counts[now.Unix()%int64(len(r.counts))] += int64(n)
}

// perSecond is over the complete seconds that are remembered, at most 5.
func (r *rate) perSecond(now time.Time) float64 {
	r.advance(now)
	const window = 5
	var sum int64
	for s := now.Unix() - window; s < now.Unix(); s++ {
		sum += r.counts[s%int64(len(r.counts))]
	}
	return float64(sum) / window
}
