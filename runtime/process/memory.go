package process

import (
	"context"
	"os"
	"runtime/debug"
	statistics "runtime/metrics"
	"time"
)

// memoryLimit is what the process keeps to while what it really holds is less: Go collects garbage only when the heap has
// doubled, and so would take twice of what a burst once needed. With the program itself that stays below 200 MB.
const memoryLimit = 110 << 20

// boundMemory keeps to memoryLimit until ctx ends. GOMEMLIMIT is the operator's word and wins. Where more is really held (many
// functions, large rows) the limit goes up with it: collecting all the time would make nothing smaller.
func boundMemory(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	before := debug.SetMemoryLimit(memoryLimit)
	defer debug.SetMemoryLimit(before)
	live := []statistics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		statistics.Read(live)
		if live[0].Value.Kind() == statistics.KindUint64 {
			held := int64(live[0].Value.Uint64())
			debug.SetMemoryLimit(max(memoryLimit, held+held/8+8<<20))
		}
	}
}
