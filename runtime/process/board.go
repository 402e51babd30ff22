package process

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// Board is what the host of functions last said. It is a Reporter.
type Board struct {
	mu        sync.Mutex
	functions map[string]*functionLine
	metrics   *Metrics
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
	rate      Rate
}

// NewBoard makes an empty board, which counts in m what no line can keep.
func NewBoard(m *Metrics) *Board { return &Board{functions: map[string]*functionLine{}, metrics: m} }

func (b *Board) function(name string, f func(*functionLine)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn := b.functions[name]
	if fn == nil {
		fn = &functionLine{Name: name, State: registry.Running, Changed: time.Now()}
		b.functions[name] = fn
	}
	f(fn)
}

// lines are copies, by name.
func (b *Board) lines() []functionLine {
	b.mu.Lock()
	defer b.mu.Unlock()
	var functions []functionLine
	for _, f := range b.functions {
		functions = append(functions, *f)
	}
	slices.SortFunc(functions, func(x, y functionLine) int { return strings.Compare(x.Name, y.Name) })
	return functions
}

// Observer is the observer of the host of functions.
func (b *Board) Observer() host.Observer {
	return host.Observer{
		Written: func(function string, events int, bytes int64, took time.Duration) {
			b.metrics.batch.WithLabelValues(function).Observe(float64(events))
			b.metrics.apply.WithLabelValues(function).Observe(took.Seconds())
			b.function(function, func(f *functionLine) {
				now := time.Now()
				f.Events, f.Bytes, f.Written, f.LastError = f.Events+int64(events), f.Bytes+bytes, now, ""
				f.rate.Add(now, events)
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
