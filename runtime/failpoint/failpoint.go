//go:build !failpoints

package failpoint

// Enabled says whether this binary has failpoints.
const Enabled = false

// At does nothing in a normal build: the compiler leaves it out.
func At(Name) {}
