package capture

// SetMessages changes how many messages an epoch has.
func (a *Agent) SetMessages(n uint64) { a.messages = n }
