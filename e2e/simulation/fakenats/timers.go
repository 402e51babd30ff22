package fakenats

import (
	"sync"
	_ "unsafe" // for go:linkname

	_ "github.com/nats-io/nats.go" // whose variable it is
)

// nats.go keeps timers for reuse, in one pool of the process. One that was made in a bubble of testing/synctest must not be
// used in another: the runtime ends the process then. So the pool is emptied before a server's first client appears, and only
// one bubble at a time may use nats.go in a process.
//
//go:linkname timers github.com/nats-io/nats%2ego.globalTimerPool
var timers struct{ pool sync.Pool }

func forgetTimers() { timers.pool = sync.Pool{} }
