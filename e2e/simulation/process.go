package simulation

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runnel-dev/runnel/e2e/simulation/fakenats"
)

var errDead = errors.New("this process is dead")

// process is one life of an agent or a worker. It dies or freezes at its calls to the outside: before a call has an effect, or
// after it, without an answer. What it has sent goes on without it.
type process struct {
	w        *world
	name     string // of all lives
	kind     string
	life     int
	client   *fakenats.Client
	ctx      context.Context // of this life
	cancel   context.CancelFunc
	instance string      // of a worker, as its records name it
	starting atomic.Bool // an agent, taking the stream over
	past     atomic.Bool // an agent that made a new slot: what lies before is read by a load
	ordered  bool        // an agent that was told to read everything again
	noted    atomic.Bool // an agent that has written its record, where it notes that

	mu     sync.Mutex
	dead   bool
	frozen chan struct{} // closed when it thaws; nil while it runs
	log    *connection   // to the source
}

// InProcessConn makes the process's connections to the server.
func (p *process) InProcessConn() (net.Conn, error) { return p.client.Dial("", "") }

// state gives what a call must know first.
func (p *process) state() (dead bool, frozen <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead, p.frozen
}

// running waits while the process is frozen, and says whether it lives.
func (p *process) running() bool {
	for {
		dead, frozen := p.state()
		if dead {
			return false
		}
		if frozen == nil {
			return true
		}
		<-frozen
	}
}

// die ends this life at once.
func (p *process) die(where string) {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return
	}
	p.dead = true
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
	log := p.log
	p.mu.Unlock()
	if p.w.ctx.Err() == nil {
		p.w.h.note(p.name, "DIES %s", where)
	}
	p.client.Crash()
	if log != nil {
		log.d.mu.Lock()
		log.close()
		log.d.mu.Unlock()
	}
	p.cancel()
}

// freeze stops the process for a while, which may be longer than every lease.
func (p *process) freeze(where string) {
	longest := lease
	if p.w.c.intn("frozen for long", p.name, 3) == 0 {
		longest = 4 * lease
	}
	d := p.w.c.between("frozen for", p.name, 200*time.Millisecond, longest)
	p.mu.Lock()
	if p.dead || p.frozen != nil {
		p.mu.Unlock()
		return
	}
	frozen := make(chan struct{})
	p.frozen = frozen
	p.mu.Unlock()
	p.w.h.note(p.name, "FREEZES for %s %s", d, where)
	p.client.Freeze()
	p.w.background.Go(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.w.calm:
		case <-frozen:
			return
		}
		p.mu.Lock()
		if p.frozen == nil {
			p.mu.Unlock()
			return
		}
		p.frozen = nil
		close(frozen)
		p.mu.Unlock()
		p.w.h.note(p.name, "THAWS")
		p.client.Thaw()
	})
}

// enter is before a call: the process may die or freeze here. It says whether it lives.
func (p *process) enter(what string) bool {
	if !p.running() {
		return false
	}
	switch {
	case p.w.c.fault(p.kind+" dies before a call", p.name):
		p.die("before " + what)
	case p.w.c.fault(p.kind+" freezes before a call", p.name):
		p.freeze("before " + what)
	}
	return p.running()
}

// leave is after a call, whose answer may not be seen any more.
func (p *process) leave(what string) bool {
	if !p.running() {
		return false
	}
	switch {
	case p.w.c.fault(p.kind+" dies after a call", p.name):
		p.die("after " + what)
	case p.w.c.fault(p.kind+" freezes after a call", p.name):
		p.freeze("after " + what)
	}
	return p.running()
}

// call lets a process do something that the outside sees.
func call[T any](p *process, what string, do func() (T, error)) (T, error) {
	var zero T
	if !p.enter(what) {
		return zero, errDead
	}
	v, err := do()
	if !p.leave(what) {
		return zero, errDead
	}
	return v, err
}

// run is call without a value.
func (p *process) run(what string, do func() error) error {
	_, err := call(p, what, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// travel is the way to the source or a target. It says whether the caller still waits at its end.
func (p *process) travel(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write is a call to a target. It may be refused, take longer than its caller waits, and act later, also after its process has
// died; and its answer may get lost.
func (p *process) write(ctx context.Context, target, what string, do func() error) error {
	c := p.w.c
	if !p.enter(what) {
		return errDead
	}
	if c.fault("a target refuses", target) {
		return errAway
	}
	d := c.between("way to the target", p.name, 50*time.Microsecond, 3*time.Millisecond)
	if c.fault("a target is slow", target) {
		d = c.between("slow for", target, 10*time.Millisecond, 3*lease)
	}
	began := time.Now()
	if err := p.travel(ctx, d); err != nil {
		if c.fault("a write acts after its deadline", target) {
			p.later(d-time.Since(began), target, what, do)
		}
		return err
	}
	if dead, frozen := p.state(); dead || frozen != nil {
		p.w.c.count("a write arrives from a process that is frozen or dead")
	}
	err := do()
	lost := c.fault("a target's answer is lost", target)
	if !p.leave(what) {
		return errDead
	}
	if lost {
		return errNoReply
	}
	return err
}

// later lets a write act whose caller has given up.
func (p *process) later(d time.Duration, target, what string, do func() error) {
	p.w.background.Go(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.w.calm: // soon, so that it is over when everything must be right
			p.w.wait(p.w.c.between("late in the calm", target, time.Millisecond, time.Second))
		}
		p.w.h.note(target, "%s of %s acts late: %v", what, p.name, do())
	})
}
