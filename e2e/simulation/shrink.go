package simulation

import (
	"slices"
	"strings"
	"time"
)

// tries of a smaller schedule before it counts as one that breaks nothing: goroutines do not always run in the same order.
const tries = 2

// Shrink leaves faults and operations out of a schedule, halves first, for as long as the same promise is still broken.
func Shrink(r *Result, most time.Duration, play func(Options) *Result) *Result {
	began := time.Now()
	promise := func(r *Result) string { return strings.SplitN(r.Violation, ":", 2)[0] }
	smallest := r
	var dropped []string
	left := slices.Clone(r.Happened)
	for size := len(left) / 2; size > 0; size /= 2 {
		for at := 0; at < len(left) && time.Since(began) < most; {
			part := left[at:min(at+size, len(left))]
			again := false
			for n := 0; n < tries && !again; n++ {
				s := play(Options{Seed: r.Seed, Long: r.Long, Drop: append(slices.Clone(dropped), part...), Tell: true})
				if again = promise(s) == promise(r); again {
					smallest = s
				}
			}
			if again {
				dropped = append(dropped, part...)
				left = slices.Delete(left, at, at+len(part))
			} else {
				at += len(part)
			}
		}
	}
	return smallest
}
