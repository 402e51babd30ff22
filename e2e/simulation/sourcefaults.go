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
	d.clock += by
	d.h.note("source", "the clock jumps by %s", by)
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
	lost = min(lost, len(d.log))
	if d.owner != nil {
		d.owner.close()
	}
	kept := d.log[:len(d.log)-lost]
	for _, t := range d.log[len(kept):] {
		d.taken = append(d.taken, t.ids()...)
		for i := range t.changes {
			d.dead[int(t.changes[i].CommitMS)] = true
		}
	}
	end := d.lsn
	if lost > 0 {
		end = d.log[len(kept)].commit - 8
	}
	d.log = kept
	d.lsn = end
	d.forks[d.timeline] = end
	d.timeline++
	for t := range d.rows {
		d.rows[t], d.shown[t] = maps.Clone(d.base[t]), maps.Clone(d.base[t])
	}
	for _, t := range d.log {
		t.hidden = false // the promoted server waits for nobody
		apply(d.rows, t)
		apply(d.shown, t)
	}
	if d.confirmed > end {
		d.slot, d.invalid = false, false
	}
	d.h.note("source", "failover: %d transactions are gone, timeline %d begins at %X", lost, d.timeline, end)
	d.wake()
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
