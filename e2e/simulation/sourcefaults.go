package simulation

import (
	"maps"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
)

// Kick ends the connection that holds the slot, as a server does whose client is silent.
func (d *database) Kick(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owner != nil {
		d.h.note("source", "%s: %s loses the slot", why, d.owner.who)
		d.owner.close()
	}
}

// Jump moves the server's clock.
func (d *database) Jump(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.latest = max(d.latest, d.now())
	d.clock += max(by, time.Duration(d.least-d.now())*time.Second)
	d.h.note("source", "the clock jumps by %s", by)
}

// SetClock lets the clock go on from where it ever was, and a minute later. It never goes back behind that: epochs come from it where
// nobody else remembers them.
func (d *database) SetClock() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clock += time.Duration(max(0, d.latest-d.now()))*time.Second + time.Minute
	d.least = d.now()
}

// DropSlot takes the slot away, or makes it useless.
func (d *database) DropSlot(invalidate bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owner != nil {
		d.owner.close()
	}
	if d.slot && invalidate {
		d.invalid = true
		d.h.note("source", "the slot is invalidated")
		return
	}
	d.slot = false
	d.h.note("source", "the slot is dropped")
}

// Restore promotes a standby that lacks the last transactions: an older state on a timeline of its own. Its slot stands where it
// was, unless that lies in what is gone.
func (d *database) Restore(lost int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := max(0, len(d.log)-lost)
	end := d.lsn
	if kept < len(d.log) {
		end = d.log[kept].commit - 8
	}
	d.rewind(kept)
	d.lsn = end
	d.forks[d.timeline] = end
	d.timeline++
	if d.confirmed > end {
		d.slot, d.invalid = false, false
	}
	d.h.note("source", "failover: %d transactions are gone, timeline %d begins at %X", lost, d.timeline, end)
	d.wake()
}

// rewind takes the log back to its first transactions.
func (d *database) rewind(kept int) {
	if d.owner != nil {
		d.owner.close()
	}
	for _, t := range d.log[kept:] {
		d.taken = append(d.taken, t.ids()...)
		d.past.Lock()
		for i := range t.changes {
			d.dead[int(t.changes[i].CommitMS)] = true
		}
		d.past.Unlock()
	}
	d.log = d.log[:kept:kept]
	for t := range d.rows {
		d.rows[t], d.shown[t] = maps.Clone(d.base[t]), maps.Clone(d.base[t])
	}
	for _, t := range d.log {
		t.hidden = false // nobody is waited for
		apply(d.rows, t)
		apply(d.shown, t)
	}
}

// copied is what a cold copy of the server's folder holds, its slot too.
type copied struct {
	transactions  int
	lsn, xid      uint64
	timeline      uint32
	slot, invalid bool
	confirmed     uint64
}

// Copy makes a cold copy.
func (d *database) Copy() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.copied = &copied{len(d.log), d.lsn, d.xid, d.timeline, d.slot, d.invalid, d.confirmed}
	d.h.note("source", "a cold copy is made at %X", d.lsn)
}

// RestoreCopy starts the server on the copy: nothing tells that time has gone back but its log, whose positions are used again. Not
// even that does where the copy's slot stands behind the newest change in the stream, at an LSN: such a restore needs an order.
func (d *database) RestoreCopy(newest uint64) (*copied, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.copied
	if c == nil || c.timeline != d.timeline || newest < c.confirmed { // a copy of another timeline would need the logs of both
		return nil, false
	}
	d.rewind(c.transactions)
	d.lsn, d.xid, d.slot, d.invalid, d.confirmed = c.lsn, c.xid, c.slot, c.invalid, c.confirmed
	d.first = min(d.first, c.lsn)
	d.h.note("source", "RESTORED to the cold copy: the log ends at %X, the slot stands at %X (there: %t)", d.lsn, d.confirmed, d.slot)
	d.wake()
	return c, true
}

// Taken are the changes that failovers have taken back since the last time.
func (d *database) Taken() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.taken
	d.taken = nil
	return taken
}

// knows says whether a position lies in what this server knows.
func (d *database) knows(p event.Position) bool {
	for t := p.Timeline; t < d.timeline; t++ {
		if fork, ended := d.forks[t]; ended && p.Commit > fork {
			return false
		}
	}
	return p.Commit <= d.lsn
}

// KickOf ends a process's connection, if it holds the slot.
func (d *database) KickOf(who string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owner != nil && d.owner.who == who {
		d.h.note("source", "%s is silent and loses the slot", who)
		d.owner.close()
	}
}
