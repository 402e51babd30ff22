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
	s.take(&step)
	for len(step.Faults) < s.Company && !step.Faults[0].Exclusive && len(s.round) > 0 && !s.round[0].Exclusive && s.r.IntN(100) < s.Often {
		s.take(&step)
	}
	return step
}

// Once says whether every fault has come once.
func (s *Schedule) Once() bool { return s.rounds > 1 || s.rounds == 1 && len(s.round) == 0 }

func (s *Schedule) take(step *Step) {
	if len(s.round) == 0 {
		s.rounds++
		s.round = append(s.round, s.faults...)
		s.r.Shuffle(len(s.round), func(i, j int) { s.round[i], s.round[j] = s.round[j], s.round[i] })
		if s.rounds == 1 {
			slices.SortStableFunc(s.round, func(a, b Fault) int { return late(a) - late(b) })
		}
	}
	step.Faults = append(step.Faults, s.round[0])
	step.Seeds = append(step.Seeds, s.r.Uint64())
	s.round = s.round[1:]
}

func late(f Fault) int {
	if f.Late {
		return 1
	}
	return 0
}
