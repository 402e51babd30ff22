package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// acting is the agent of a source that does something for it: the one that came furthest; nil where there is none.
func acting(agents []registry.Agent) *registry.Agent {
	order := []capture.State{capture.Stopped, capture.Standby, capture.Connecting, capture.Starting, capture.Streaming}
	var best *registry.Agent
	rank := -1
	for i := range agents {
		if r := slices.Index(order, capture.State(agents[i].State)); r > rank {
			best, rank = &agents[i], r
		}
	}
	return best
}

// stateOfSource says how a source is, and why: what its record says, where that is that it does not run; else what its agent says.
func stateOfSource(n registry.Named[registry.SourceRecord], agents []registry.Agent, end *stream.End, now time.Time) (state, reason string) {
	if n.Record.State != registry.Running {
		return string(n.Record.State), n.Record.Reason
	}
	agent := acting(agents)
	if agent == nil {
		return "silent", "no agent runs: start runnel run, or runnel capture " + n.Name + lastHeard(end, now)
	}
	if capture.State(agent.State) == capture.Streaming {
		if end != nil && end.Message != nil {
			if text := readsAgain(n.Name, end.Message, now); text != "" {
				return string(capture.Starting), text
			}
		}
		if agent.Waits != "" {
			return string(registry.Running), "the load waits for function " + agent.Waits
		}
		return string(registry.Running), agent.LastError
	}
	reason = fmt.Sprintf("for %s", now.Sub(agent.Since).Round(time.Second))
	if agent.Detail != "" {
		reason += ", " + agent.Detail
	}
	if agent.LastError != "" {
		reason += ": " + agent.LastError
	}
	return agent.State, reason
}

func lastHeard(end *stream.End, now time.Time) string {
	if end == nil || end.Message == nil {
		return ""
	}
	return fmt.Sprintf("; nothing was published for %s", now.Sub(time.UnixMilli(end.Message.TimeMS)).Round(time.Second))
}

// rereading is how long an agent may publish nothing behind its fence until it counts as one that still reads.
const rereading = 30 * time.Second

// readsAgain says what an agent does that has written its fence and nothing else: it reads the log again up to where the stream
// was. "" where it does not.
func readsAgain(source string, last *event.Message, now time.Time) string {
	since := now.Sub(time.UnixMilli(last.TimeMS)).Round(time.Second)
	if last.Subject != event.FenceSubject(source) || since <= rereading {
		return ""
	}
	reached := last.Group.To
	if !last.Group.Complete() {
		reached = last.Group.From
	}
	return fmt.Sprintf("an agent began %s ago and has published nothing yet: it reads the log again up to %s, which takes its time after a large transaction", since, reached)
}
