package main

import (
	"math/rand/v2"
	"time"
)

// Step is one injection of a schedule: one fault, or two at the same time.
type Step struct {
	After  time.Duration // of quiet before it
	Faults []Fault
	Seeds  []uint64 // of each fault's own randomness
}

// Schedule gives steps for ever. The same seed over the same faults gives the same steps: each round has all faults once, in a
// random order, and some of those that may have company in pairs.
type Schedule struct {
	r      *rand.Rand
	faults []Fault
	round  []Fault
}

// NewSchedule begins a schedule.
func NewSchedule(seed uint64, faults []Fault) *Schedule {
	return &Schedule{r: rand.New(rand.NewPCG(seed, 0x5eed)), faults: faults}
}

// pairs of a hundred steps that could have a companion have one.
const pairs = 25

// Next is the next step.
func (s *Schedule) Next() Step {
	step := Step{After: between(s.r, 200*time.Millisecond, 1500*time.Millisecond)}
	s.take(&step)
	if !step.Faults[0].Exclusive && s.r.IntN(100) < pairs && len(s.round) > 0 && !s.round[0].Exclusive {
		s.take(&step)
	}
	return step
}

func (s *Schedule) take(step *Step) {
	if len(s.round) == 0 {
		s.round = append(s.round, s.faults...)
		s.r.Shuffle(len(s.round), func(i, j int) { s.round[i], s.round[j] = s.round[j], s.round[i] })
	}
	step.Faults = append(step.Faults, s.round[0])
	step.Seeds = append(step.Seeds, s.r.Uint64())
	s.round = s.round[1:]
}
