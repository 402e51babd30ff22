package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/runnel-dev/runnel/e2e/proxy"
)

// netFaults are troubles of the network between two parts: each trouble on each link. None of them is a loss, whatever was on its
// way: the flow comes back by itself, with nothing missing, twice or out of order.
var netFaults = func() (all []Fault) {
	for _, n := range troubles {
		for _, l := range links {
			all = append(all, Fault{
				Name:  "net." + n.name + "." + l.name,
				What:  "between " + l.what + ": " + n.what,
				Needs: func(w *World) bool { return len(l.proxies(w)) > 0 },
				Inject: func(ctx context.Context, w *World, r *rand.Rand) error {
					all := l.proxies(w)
					if l.one {
						all = all[r.IntN(len(all)):][:1]
					}
					return n.make(ctx, all, r)
				},
			})
		}
	}
	return all
}()

// link is a pair of parts that speak to each other.
type link struct {
	name, what string
	one        bool // a trouble meets one of its proxies, not all
	proxies    func(w *World) []*proxy.Proxy
}

var links = []link{
	{name: "source", what: "agent and source", proxies: named("agent-source")},
	{name: "agent", what: "agent and NATS", proxies: named("agent-nats")},
	{name: "worker", what: "workers and NATS", proxies: named("worker-nats")},
	{name: "target", what: "workers and a target", one: true, proxies: func(w *World) (all []*proxy.Proxy) {
		for _, t := range w.Targets {
			all = append(all, w.Proxies(t.Link)...)
		}
		return all
	}},
}

func named(link string) func(*World) []*proxy.Proxy {
	return func(w *World) []*proxy.Proxy { return w.Proxies(link) }
}

// trouble is what a network does.
type trouble struct {
	name, what string
	make       func(ctx context.Context, link []*proxy.Proxy, r *rand.Rand) error
}

var troubles = []trouble{
	{"cut", "connections are reset and new ones refused for a while", lasting(func(p *proxy.Proxy, _ *rand.Rand) {
		p.Refuse()
		p.Cut()
	})},
	{"reset", "connections are reset, several times, in the midst of what they carry", resets},
	{"halfopen", "everything is lost for a while, both ways or one, and nobody is told", lasting(func(p *proxy.Proxy, r *rand.Rand) {
		p.Mute([]proxy.Direction{proxy.Both, proxy.ToServer, proxy.ToClient}[r.IntN(3)])
	})},
	{"hold", "everything is late by a while, and arrives then", lasting(func(p *proxy.Proxy, r *rand.Rand) {
		p.Hold([]proxy.Direction{proxy.Both, proxy.ToServer, proxy.ToClient}[r.IntN(3)])
	})},
	{"strand", "connections are dead for ever, and nobody is told; new ones work", strand},
	{"delay", "each way takes up to a quarter of a second longer", lasting(func(p *proxy.Proxy, r *rand.Rand) {
		p.Delay(between(r, 5*time.Millisecond, 150*time.Millisecond), between(r, time.Millisecond, 100*time.Millisecond))
	})},
	{"throttle", "each way of a connection takes 20 to 200 KB/s", lasting(func(p *proxy.Proxy, r *rand.Rand) {
		p.Throttle(20_000 + r.IntN(180_000))
	})},
}

// while is how long a trouble lasts: mostly shorter than every timeout of Runnel's, sometimes longer than each of lease, write
// deadline and the agent's patience with NATS.
func while(r *rand.Rand) time.Duration {
	if r.IntN(4) == 0 {
		return between(r, 11*time.Second, 16*time.Second)
	}
	return between(r, 100*time.Millisecond, 3*time.Second)
}

// lasting begins a trouble on a link, and heals it after a while.
func lasting(begin func(*proxy.Proxy, *rand.Rand)) func(context.Context, []*proxy.Proxy, *rand.Rand) error {
	return func(ctx context.Context, link []*proxy.Proxy, r *rand.Rand) error {
		defer heal(link)
		for _, p := range link {
			begin(p, r)
		}
		return pause(ctx, while(r))
	}
}

func heal(link []*proxy.Proxy) {
	for _, p := range link {
		p.Heal()
	}
}

// resets cuts each time after so many bytes, which is in the midst of a row, a fetch, an answer.
func resets(ctx context.Context, link []*proxy.Proxy, r *rand.Rand) error {
	defer heal(link)
	for range 1 + r.IntN(6) {
		for _, p := range link {
			p.CutAfter([]proxy.Direction{proxy.ToServer, proxy.ToClient}[r.IntN(2)], r.IntN(20_000))
		}
		if err := pause(ctx, between(r, 50*time.Millisecond, 800*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// strand lets connections die: whoever uses one must notice by himself.
func strand(_ context.Context, link []*proxy.Proxy, _ *rand.Rand) error {
	for _, p := range link {
		p.Strand()
	}
	return nil
}
