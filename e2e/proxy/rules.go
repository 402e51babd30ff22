package proxy

import (
	"math/rand/v2"
	"time"
)

// rules are what happens to connections at the moment.
type rules struct {
	refuse        bool
	hold, lose    [2]bool
	delay, jitter time.Duration
	rate          int // bytes per second, each way of each connection; 0: as fast as it goes
}

// change sets rules and wakes up whoever waits for a change.
func (p *Proxy) change(f func(*rules)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.rules)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Retarget sends new connections to another server. Those that stand stay where they are; Cut ends them.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = address(target)
}

// Cut resets all connections (RST) in the middle of whatever they carry; what was not forwarded is lost. New ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	p.cuts++
	p.mu.Unlock()
	for _, l := range p.standing(func(*link) bool { return true }) {
		l.reset()
	}
}

// CutAfter cuts all connections when n more bytes have gone one way: in the middle of a message, of a fetch.
func (p *Proxy) CutAfter(way Direction, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	way.each(func(d Direction) { p.budget[d] = n })
}

// Refuse resets new connections as soon as they are made; those that stand stay.
func (p *Proxy) Refuse() { p.change(func(r *rules) { r.refuse = true }) }

// Accept ends Refuse.
func (p *Proxy) Accept() { p.change(func(r *rules) { r.refuse = false }) }

// HalfOpen loses everything in both directions and closes nothing: neither side learns that the other one is away, nor that it
// closed.
func (p *Proxy) HalfOpen() { p.Mute(Both) }

// Mute loses what goes one way; the other way works.
func (p *Proxy) Mute(way Direction) {
	p.change(func(r *rules) { way.each(func(d Direction) { r.lose[d] = true }) })
}

// Strand loses from now on, for ever, what the connections that stand carry, and closes none, as where a router forgets them. New
// ones work.
func (p *Proxy) Strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.lost, l.stranded = [2]bool{true, true}, true
	}
}

// Hold keeps what goes one way until Heal, which delivers all of it: late, and in order.
func (p *Proxy) Hold(way Direction) {
	p.change(func(r *rules) { way.each(func(d Direction) { r.hold[d] = true }) })
}

// Delay lets everything arrive by d later, and up to jitter more, each way. Order is kept.
func (p *Proxy) Delay(d, jitter time.Duration) {
	p.change(func(r *rules) { r.delay, r.jitter = d, jitter })
}

// Throttle lets so many bytes a second through, each way of each connection.
func (p *Proxy) Throttle(bytesPerSecond int) {
	p.change(func(r *rules) { r.rate = bytesPerSecond })
}

// Heal ends all faults. What was held is delivered; connections that lost something are reset, but for stranded ones.
func (p *Proxy) Heal() {
	p.mu.Lock()
	p.budget = [2]int{-1, -1}
	p.mu.Unlock()
	p.change(func(r *rules) { *r = rules{} })
	for _, l := range p.standing(func(l *link) bool { return l.lost != [2]bool{} && !l.stranded }) {
		l.reset()
	}
}

func (p *Proxy) standing(which func(*link) bool) (links []*link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if which(l) {
			links = append(links, l)
		}
	}
	return links
}

// due is when what was read now arrives: not before what was read before it.
func (p *Proxy) due(last time.Time) time.Time {
	p.mu.Lock()
	r := p.rules
	p.mu.Unlock()
	if r.delay == 0 && r.jitter == 0 {
		return time.Time{} // what is late was read under a rule that has ended
	}
	at := time.Now().Add(r.delay)
	if r.jitter > 0 {
		at = at.Add(rand.N(r.jitter))
	}
	if at.Before(last) {
		return last
	}
	return at
}

// wait returns when it is time and the way is not held; false means that the connection was reset.
func (f *flow) wait(until time.Time) bool {
	for {
		p := f.link.proxy
		p.mu.Lock()
		r, changed := p.rules, p.changed
		p.mu.Unlock()
		var timer <-chan time.Time
		switch left := time.Until(until); {
		case r.hold[f.way]:
		case left <= 0 || r.delay == 0 && r.jitter == 0 && r.rate == 0:
			return true
		default:
			timer = time.After(left)
		}
		select {
		case <-timer:
		case <-changed:
		case <-f.link.done:
			return false
		}
	}
}

// lost says whether what goes this way is lost, now or because something before it was.
func (f *flow) lost() bool {
	p := f.link.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rules.lose[f.way] {
		f.link.lost[f.way] = true
	}
	return f.link.lost[f.way]
}

// send forwards, at the rate of the moment; false means that the connection is over.
func (f *flow) send(data []byte) bool {
	p := f.link.proxy
	for len(data) > 0 {
		p.mu.Lock()
		rate, n, cut := p.rules.rate, len(data), false
		if rate > 0 {
			n = min(n, max(1, rate/50))
		}
		if left := p.budget[f.way]; left >= 0 {
			n = min(n, left)
			p.budget[f.way] -= n
			if cut = p.budget[f.way] == 0; cut {
				p.budget = [2]int{-1, -1}
			}
		}
		p.mu.Unlock()
		if _, err := f.to.Write(data[:n]); err != nil {
			f.link.reset()
			return false
		}
		if cut {
			p.Cut()
			return false
		}
		data = data[n:]
		if rate > 0 && !f.wait(time.Now().Add(time.Duration(n)*time.Second/time.Duration(rate))) {
			return false
		}
	}
	return true
}
