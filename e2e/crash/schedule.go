package main

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Step is one injection of a schedule: one fault, or some at the same time.
type Step struct {
	After  time.Duration // of quiet before it
	Faults []Fault
	Seeds  []uint64 // of each fault's own randomness
}

// Schedule gives steps for ever. The same seed over the same faults gives the same steps: each round has all faults once, in a
// random order, and those that may have company now and then have it.
type Schedule struct {
	Company int // faults at the same time, at most
	Often   int // of a hundred faults that could join the one before, so many do

	// Packed fills each step with faults of different lanes, wherever in the round they stand: the most in the least time.
	Packed bool

	r      *rand.Rand
	faults []Fault
	round  []Fault
	rounds int // that have begun
}

// NewSchedule begins a schedule in which now and then two faults come together.
func NewSchedule(seed uint64, faults []Fault) *Schedule {
	return &Schedule{Company: 2, Often: 25, r: rand.New(rand.NewPCG(seed, 0x5eed)), faults: faults}
}

// Next is the next step.
func (s *Schedule) Next() Step {
	step := Step{After: between(s.r, 200*time.Millisecond, 1500*time.Millisecond)}
	if s.Packed {
		step.After /= 5
	}
	s.begin()
	s.take(&step, 0)
	if step.Faults[0].Exclusive {
		return step
	}
	if s.Packed {
		s.pack(&step)
		return step
	}
	for len(step.Faults) < s.Company && len(s.round) > 0 && !s.round[0].Exclusive && s.r.IntN(100) < s.Often {
		s.take(&step, 0)
	}
	return step
}

func (s *Schedule) pack(step *Step) {
	for i := 0; i < len(s.round) && len(step.Faults) < s.Company; {
		f := s.round[i]
		if f.Exclusive || slices.ContainsFunc(step.Faults, func(o Fault) bool { return o.lane() == f.lane() }) {
			i++
			continue
		}
		s.take(step, i)
	}
}

// Once says whether every fault has come once.
func (s *Schedule) Once() bool { return s.rounds > 1 || s.rounds == 1 && len(s.round) == 0 }

// begin begins a round where the one before is over.
func (s *Schedule) begin() {
	if len(s.round) > 0 {
		return
	}
	s.rounds++
	s.round = append(s.round, s.faults...)
	s.r.Shuffle(len(s.round), func(i, j int) { s.round[i], s.round[j] = s.round[j], s.round[i] })
	if s.rounds == 1 {
		slices.SortStableFunc(s.round, func(a, b Fault) int { return late(a) - late(b) })
	}
}

// take moves a fault of the round into the step.
func (s *Schedule) take(step *Step, i int) {
	step.Faults = append(step.Faults, s.round[i])
	step.Seeds = append(step.Seeds, s.r.Uint64())
	s.round = slices.Delete(s.round, i, i+1)
}

func late(f Fault) int {
	if f.Late {
		return 1
	}
	return 0
}
