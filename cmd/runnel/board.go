package main

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/process"
)

// board is what agents last said: a process.Reporter.
type board struct {
	mu      sync.Mutex
	sources map[string]*sourceLine
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
	rate      process.Rate
}

func newBoard() *board { return &board{sources: map[string]*sourceLine{}} }

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

// forget takes a source off the board.
func (b *board) forget(source string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sources, source)
}

// lines are copies, by name.
func (b *board) lines() []sourceLine {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sources []sourceLine
	for _, s := range b.sources {
		line := *s
		line.Loads = maps.Clone(s.Loads)
		sources = append(sources, line)
	}
	slices.SortFunc(sources, func(x, y sourceLine) int { return strings.Compare(x.Name, y.Name) })
	return sources
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
				s.rate.Add(now, events)
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
