package capture

// gate is a mutex that is held while JetStream is waited for. Who waits for it waits at a channel: where time is simulated, a
// wait that the runtime cannot see through (sync.Mutex) would let it stand still.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

func (g gate) Lock()   { g <- struct{}{} }
func (g gate) Unlock() { <-g }

func (g gate) TryLock() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}
