package simulation

import (
	"fmt"
	"hash/fnv"
	"sync"
	"time"
)

// chance decides everything that is random in a schedule. Each place that draws has a sequence of its own, so that what happens in
// one place does not depend on the order in which goroutines of other places run.
type chance struct {
	seed  uint64
	often int             // times the rates of what is rare
	share uint64          // of the classes of faults, in percent, that belong to this seed
	drop  map[string]bool // faults and operations that are left out, by their number

	mu       sync.Mutex
	quiet    bool // faults have not begun
	calm     bool // they are over
	drawn    map[place]uint64
	happened []string // numbers of the faults and operations so far
	counts   map[string]int
	on       map[string]bool
}

// place is where something is drawn.
type place struct{ what, who string }

func newChance(o Options) *chance {
	c := &chance{seed: o.Seed, often: 1, share: 55, quiet: true, drop: map[string]bool{}, drawn: map[place]uint64{}, counts: map[string]int{}, on: map[string]bool{}}
	for _, n := range o.Drop {
		c.drop[n] = true
	}
	return c
}

// draw is the next number of a place, and how many came before it.
func (c *chance) draw(p place) (number, serial uint64) {
	n := c.drawn[p]
	c.drawn[p] = n + 1
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.what))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(p.who))
	return mix(h.Sum64() ^ mix(c.seed) ^ mix(n+1)), n
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// intn is a number in [0, n).
func (c *chance) intn(what, who string, n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, _ := c.draw(place{what, who})
	return int(x % uint64(n))
}

// between is a time in [a, b), with nanoseconds of its own, so that two things hardly ever happen at one instant.
func (c *chance) between(what, who string, a, b time.Duration) time.Duration {
	return a + time.Duration(c.intn(what, who, int(b-a)))
}

// fault says whether a fault happens at this place.
func (c *chance) fault(class, who string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, n := c.draw(place{class, who})
	rate := rates[class]
	if rate < rare {
		rate *= c.often
	}
	if c.quiet || c.calm || int(x%100_000) >= rate || !c.enabled(class) {
		return false
	}
	return c.take(class, who, n)
}

// rare is below what rate something is: in a short schedule it comes more often, so that as much happens as in a long one.
const rare = 5_000

// operation says whether something that an actor does on purpose is done: always, unless it is left out.
func (c *chance) operation(class, who string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, n := c.draw(place{class, who})
	return c.take(class, who, n)
}

// take counts something by its number, unless it is left out.
func (c *chance) take(class, who string, n uint64) bool {
	number := fmt.Sprintf("%s/%s/%d", class, who, n)
	if c.drop[number] {
		return false
	}
	c.happened = append(c.happened, number)
	c.counts[class]++
	return true
}

// refuses says whether a target can never write a row of a revision.
func (c *chance) refuses(target string, revision int) bool {
	const class = "a target refuses a row for good"
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.enabled(class) || c.drop[class] {
		return false
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(target))
	if mix(h.Sum64()^mix(c.seed)^uint64(revision))%100 >= refusals {
		return false
	}
	if c.counts[class]++; c.counts[class] == 1 {
		c.happened = append(c.happened, class)
	}
	return true
}

// refusals are how many of a hundred revisions a target refuses that refuses any.
const refusals = 3

// enabled says whether a class belongs to this seed: in some schedules every second one does, others go deep into few of them.
func (c *chance) enabled(class string) bool {
	on, known := c.on[class]
	if !known {
		h := fnv.New64a()
		_, _ = h.Write([]byte(class))
		on = mix(h.Sum64()^mix(c.seed^0xfa17))%100 < c.share
		c.on[class] = on
	}
	return on
}

// count notes that a rare path was taken.
func (c *chance) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

// beginFaults ends the time in which all runs well.
func (c *chance) beginFaults() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = false
}

// endFaults begins the calm.
func (c *chance) endFaults() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calm = true
}

func (c *chance) isCalm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calm
}
