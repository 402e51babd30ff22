package functiontest

import (
	"math/rand/v2"
	"time"
)

// plan is a history: what changes in the source, and what happens to those who deliver it. Any change and any step can be left out.
type plan struct {
	changes []change
	steps   []step
}

// step is one thing that happens on the way into the target. One that does not apply (nothing is left to write, no batch is late) does
// nothing. After the last one all that is left is written, and then late batches arrive.
type step struct {
	kind  stepKind
	part  int // partition; a Combiner writes all
	n     int // events of the batch
	looks int // of cut: the deadline passes when the handler looks at its context so often
	pause time.Duration
}

type stepKind int

const (
	write  stepKind = iota // the worker writes the next events
	twice                  // the same, and the answer is lost: they are written again
	halved                 // the same, and they are written again in halves
	cut                    // the deadline passes meanwhile
	floor                  // what the worker has written is written down
	crash                  // the worker is killed
	late                   // the worker is stopped when it is about to write, and counts as gone
	land                   // a late batch arrives
	move                   // the worker hands over to another one
	replay                 // a new generation begins at the history's beginning
)

// purpose is a kind of history.
type purpose struct {
	times int
	plan  func(r *runner, random *rand.Rand, n int) plan
}

// purposes are the kinds of histories, from the simplest one on. Each n-th one of a kind has more to it.
var purposes = []purpose{
	{4, func(r *runner, random *rand.Rand, n int) plan {
		return plan{r.traffic(random, 4+6*n, false), r.walk(random, 2*n, write)}
	}},
	{3, func(r *runner, random *rand.Rand, n int) plan {
		return plan{r.traffic(random, 4+4*n, false), r.walk(random, 10, twice, halved)}
	}},
	{3, func(r *runner, random *rand.Rand, n int) plan {
		return plan{r.traffic(random, 6+4*n, false), r.walk(random, 6+4*n, write, write, crash, floor)}
	}},
	{4, func(r *runner, random *rand.Rand, n int) plan {
		return plan{r.traffic(random, 4+4*n, false), r.walk(random, 3+2*n, write, late)}
	}},
	{6, func(r *runner, random *rand.Rand, n int) plan {
		p := plan{r.traffic(random, 10, false), r.walk(random, 4, cut)}
		for i := range p.steps {
			p.steps[i].looks, p.steps[i].n = n+i, 5
		}
		return p
	}},
	{3, func(r *runner, random *rand.Rand, n int) plan {
		return plan{r.traffic(random, 8+4*n, true), r.walk(random, 2*n, write, twice, crash)}
	}},
	{2, func(r *runner, random *rand.Rand, n int) plan {
		return plan{r.traffic(random, 8, false), r.walk(random, 6, write, write, replay, late, move)}
	}},
}

// mixed has everything.
func (r *runner) mixed(random *rand.Rand) plan {
	return plan{
		r.traffic(random, 3+random.IntN(25), random.IntN(3) == 0),
		r.walk(random, 2+random.IntN(14), write, write, write, twice, halved, cut, cut, floor, floor, crash, late, land, move, replay),
	}
}

// traffic are changes of a few rows.
func (r *runner) traffic(random *rand.Rand, n int, poison bool) []change {
	keys := 2 + n/5
	changes := make([]change, n)
	for i := range changes {
		c := change{key: 1 + random.IntN(keys)}
		switch d := random.IntN(20); {
		case d < 12:
			if random.IntN(3) == 0 {
				c.nulls = uint16(random.Uint32())
			}
		case d < 16:
			c.kind = remove
		case d < 18:
			c.kind, c.to = rekey, 1+random.IntN(keys)
		default:
			c.kind = []changeKind{reread, reread, restart, empty, other}[random.IntN(5)]
		}
		changes[i] = c
	}
	if poison && len(r.poison) > 0 {
		at := random.IntN(n)
		changes[at] = change{key: changes[at].key, poison: true}
	}
	return changes
}

// walk are steps of some kinds.
func (r *runner) walk(random *rand.Rand, n int, kinds ...stepKind) []step {
	steps := make([]step, n)
	for i := range steps {
		s := step{kind: kinds[random.IntN(len(kinds))], part: random.IntN(r.Partitions), n: 1 + random.IntN(5)}
		if s.kind == cut {
			s.looks = random.IntN(8)
			s.pause = []time.Duration{0, 0, 100 * time.Microsecond, time.Millisecond}[random.IntN(4)]
		}
		steps[i] = s
	}
	return steps
}
