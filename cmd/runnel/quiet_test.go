package main

import (
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

func TestStateOfSource(t *testing.T) {
	t.Parallel()
	now := time.Now()
	from, to := event.Position{Timeline: 1, Commit: 0x10}, event.Position{Timeline: 1, Commit: 0x20, Change: 0x18}
	last := func(subject string, k, n int, ago time.Duration) *stream.End {
		return &stream.End{Message: &event.Message{Subject: subject, Group: event.Group{From: from, To: to, K: k, N: n}, TimeMS: now.Add(-ago).UnixMilli()}}
	}
	mark, fence := event.MarkSubject("shop"), event.FenceSubject("shop")
	agent := func(state capture.State, detail, problem string) registry.Agent {
		return registry.Agent{State: string(state), Detail: detail, LastError: problem, Since: now.Add(-time.Minute)}
	}
	streams, stands := agent(capture.Streaming, "", ""), agent(capture.Standby, "", "")
	for _, c := range []struct {
		name   string
		state  registry.State
		agents []registry.Agent
		end    *stream.End
		want   string
		says   string
	}{
		{"Running", registry.Running, []registry.Agent{stands, streams}, last(mark, 1, 1, time.Hour), "running", ""},
		{"JustBegun", registry.Running, []registry.Agent{streams}, last(fence, 1, 1, 20*time.Second), "running", ""},
		{"Paused", registry.Paused, []registry.Agent{streams}, last(mark, 1, 1, time.Hour), "paused", ""},
		{"Silent", registry.Running, nil, last(mark, 1, 1, time.Minute), "silent", "no agent runs: start runnel run, or runnel capture shop; nothing was published for 1m0s"},
		{"Never", registry.Running, nil, nil, "silent", "no agent runs"},
		{"Starting", registry.Running, []registry.Agent{stands, agent(capture.Starting, "fence", "no answer")}, nil, "starting", "for 1m0s, fence: no answer"},
		{"Connecting", registry.Running, []registry.Agent{agent(capture.Connecting, "", "connection refused")}, nil, "connecting", "for 1m0s: connection refused"},
		{"ReadsAgain", registry.Running, []registry.Agent{streams}, last(fence, 1, 1, 2*time.Minute), "starting", "2m0s ago and has published nothing yet: it reads the log again up to " + to.String()},
		{"Incomplete", registry.Running, []registry.Agent{streams}, last(fence, 1, 8, time.Minute), "starting", "up to " + from.String()},
	} {
		n := registry.Named[registry.SourceRecord]{Name: "shop", Record: registry.SourceRecord{State: c.state}}
		state, text := stateOfSource(n, c.agents, c.end, now)
		if state != c.want || !strings.Contains(text, c.says) || (c.says == "") != (text == "") {
			t.Errorf("%s: got %q, %q", c.name, state, text)
		}
	}
}
