//go:build !failpoints

package failpoint

import "time"

// Enabled says whether this binary has failpoints.
const Enabled = false

// At does nothing in a normal build: the compiler leaves it out.
func At(Name) {}

// Settle is the time that is given.
func Settle(standard time.Duration) time.Duration { return standard }
