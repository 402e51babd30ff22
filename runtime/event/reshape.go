package event

// Change is the event as a change that AppendLine prints again, after its rows or its schema were replaced.
func (e *Event) Change() *Change {
	return &Change{
		Op: e.Op, Schema: e.Schema, Before: e.Before.Raw(), After: e.After.Raw(), Cutoff: e.Cutoff, Position: e.Position, CommitMS: e.CommitMS,
		TxID: e.TxID, Order: e.Order, Last: e.Last, Unavailable: e.Unavailable, Snapshot: e.Snapshot,
	}
}
