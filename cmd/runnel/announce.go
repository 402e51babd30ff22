package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// announceEvery is how often a process says what its agents do, and at once when that changes, or nearly so.
const (
	announceEvery = 2 * time.Second
	announceLook  = 200 * time.Millisecond
)

// announce tells what the agents of this process do until ctx ends, so that `runnel list` knows it elsewhere. Nothing depends on it.
func (a *agents) announce(ctx context.Context) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	instance := hex.EncodeToString(id[:])
	type said struct {
		state  capture.State
		detail string
		at     time.Time
	}
	before := map[string]said{}
	tick := time.NewTicker(announceLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), announceEvery)
			defer cancel()
			for name := range before {
				a.withdraw(last, registry.AgentKey(name, instance))
			}
			return
		case <-tick.C:
		}
		now := time.Now()
		lines := a.board.lines()
		here := map[string]bool{}
		for _, s := range lines {
			here[s.Name] = true
			last := before[s.Name]
			if last.state == s.State && last.detail == s.Detail && now.Sub(last.at) < announceEvery {
				continue
			}
			if a.say(ctx, registry.AgentKey(s.Name, instance), &s, now) == nil {
				before[s.Name] = said{s.State, s.Detail, now}
			}
		}
		for name := range before {
			if !here[name] {
				a.withdraw(ctx, registry.AgentKey(name, instance))
				delete(before, name)
			}
		}
	}
}

func (a *agents) say(ctx context.Context, key string, s *sourceLine, now time.Time) error {
	host, _ := os.Hostname()
	value, err := json.Marshal(registry.Agent{
		Host: host, PID: os.Getpid(), State: string(s.State), Detail: s.Detail, Since: s.Changed.UTC(),
		Rate: s.rate.PerSecond(now), Waits: s.Waits, LastError: s.LastError,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, announceEvery)
	defer cancel()
	_, err = a.session.registry.Agents.Put(ctx, key, value)
	return err
}

// withdraw spares others the wait until the announcement is forgotten by itself.
func (a *agents) withdraw(ctx context.Context, key string) {
	if e, err := a.session.registry.Agents.Get(ctx, key); err == nil {
		_ = a.session.registry.Agents.Delete(ctx, key, e.Revision)
	}
}
