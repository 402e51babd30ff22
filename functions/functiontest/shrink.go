package functiontest

import (
	"context"
	"slices"
	"time"
)

// most bounds the search for a shorter history.
const (
	mostPlays = 600
	mostTime  = 30 * time.Second
)

// shrink looks for the shortest history that still fails: with fewer changes and steps, and simpler ones.
func (r *runner) shrink(ctx context.Context, p plan, found *played) error {
	until := time.Now().Add(mostTime)
	plays := 0
	fails := func(smaller plan) (bool, error) {
		if plays++; plays > mostPlays || time.Now().After(until) {
			return false, nil
		}
		again, err := r.play(ctx, smaller)
		if again != nil {
			found, p = again, smaller
		}
		return again != nil, err
	}
	for progress := true; progress; {
		progress = false
		for _, pass := range []func(plan, func(plan) (bool, error)) (bool, error){fewer, simpler} {
			smaller, err := pass(p, fails)
			if err != nil {
				return err
			}
			progress = progress || smaller
		}
	}
	return found.failure()
}

// fewer leaves out runs of changes and steps, first long ones.
func fewer(p plan, fails func(plan) (bool, error)) (progress bool, err error) {
	size := func() int { return len(p.steps) + len(p.changes) }
	without := func(from, n int) plan {
		q := plan{slices.Clone(p.changes), slices.Clone(p.steps)}
		for i := min(from+n, size()) - 1; i >= from; i-- {
			if i < len(p.steps) {
				q.steps = slices.Delete(q.steps, i, i+1)
			} else {
				q.changes = slices.Delete(q.changes, i-len(p.steps), i-len(p.steps)+1)
			}
		}
		return q
	}
	for n := max(size()/2, 1); n > 0; n /= 2 {
		for from := 0; from < size(); {
			q := without(from, n)
			ok, err := fails(q)
			if err != nil {
				return progress, err
			}
			if ok {
				p, progress = q, true
				continue
			}
			from += n
		}
	}
	return progress, nil
}

// simpler replaces single changes and steps.
func simpler(p plan, fails func(plan) (bool, error)) (progress bool, err error) {
	try := func(q plan) error {
		ok, err := fails(q)
		if ok {
			p, progress = q, true
		}
		return err
	}
	for n, key := range keysOf(p.changes) {
		if key == n+1 {
			continue
		}
		for flip := range 2 { // the other key may be in the other partition
			q := plan{slices.Clone(p.changes), slices.Clone(p.steps)}
			for i := range q.changes {
				q.changes[i].rename(key, n+1)
			}
			for i := range q.steps {
				q.steps[i].part ^= flip
			}
			if err := try(q); err != nil {
				return progress, err
			}
		}
	}
	for i := range p.changes {
		for _, c := range p.changes[i].simpler() {
			q := plan{slices.Clone(p.changes), p.steps}
			if q.changes[i] = c; c == p.changes[i] {
				continue
			}
			if err := try(q); err != nil {
				return progress, err
			}
		}
	}
	for i := range p.steps {
		for _, s := range p.steps[i].simpler() {
			q := plan{p.changes, slices.Clone(p.steps)}
			if q.steps[i] = s; s == p.steps[i] {
				continue
			}
			if err := try(q); err != nil {
				return progress, err
			}
		}
	}
	return progress, nil
}

// keysOf are the keys of changes, in order.
func keysOf(changes []change) []int {
	var keys []int
	for _, c := range changes {
		keys = append(keys, c.key)
		if c.kind == rekey {
			keys = append(keys, c.to)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (c *change) rename(from, to int) {
	if c.key == from {
		c.key = to
	}
	if c.to == from {
		c.to = to
	}
}

// simpler are changes that say less.
func (c change) simpler() []change {
	var all []change
	if c.kind == rekey {
		all = append(all, change{key: c.to, nulls: c.nulls})
	}
	if c.kind != put {
		all = append(all, change{key: c.key, nulls: c.nulls})
	}
	if c.poison {
		all = append(all, change{kind: c.kind, key: c.key, nulls: c.nulls})
	}
	if c.nulls != 0 {
		d := c
		d.nulls = 0
		all = append(all, d)
	}
	if c.key > 1 {
		d := c
		d.key = 1
		all = append(all, d)
	}
	return all
}

// simpler are steps that do less.
func (s step) simpler() []step {
	var all []step
	switch s.kind {
	case cut, halved:
		all = append(all, step{kind: twice, part: s.part, n: s.n})
	case replay, late:
		all = append(all, step{kind: crash})
	default:
	}
	if s.n > 1 {
		d := s
		d.n = 1
		all = append(all, d)
	}
	if s.looks > 0 || s.pause > 0 {
		d := s
		d.looks, d.pause = 0, 0
		all = append(all, d)
	}
	return all
}
