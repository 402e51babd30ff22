package main

import (
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
)

func TestQuiet(t *testing.T) {
	t.Parallel()
	now := time.Now()
	from, to := event.Position{Timeline: 1, Commit: 0x10}, event.Position{Timeline: 1, Commit: 0x20, Change: 0x18}
	fence, mark := event.FenceSubject("shop"), event.MarkSubject("shop")
	for _, c := range []struct {
		name    string
		state   registry.State
		subject string
		group   event.Group
		ago     time.Duration
		want    registry.State
		says    string
	}{
		{"Running", registry.Running, mark, event.Group{From: from, To: to, K: 1, N: 1}, 20 * time.Second, "", ""},
		{"JustBegun", registry.Running, fence, event.Group{From: from, To: to, K: 1, N: 1}, 20 * time.Second, "", ""},
		{"Paused", registry.Paused, mark, event.Group{From: from, To: to, K: 1, N: 1}, time.Hour, "", ""},
		{"Silent", registry.Running, mark, event.Group{From: from, To: to, K: 1, N: 1}, time.Minute, "silent", "for 1m0s"},
		{"ReadsAgain", registry.Running, fence, event.Group{From: from, To: to, K: 1, N: 1}, 2 * time.Minute, "starting", "2m0s ago and has published nothing yet: it reads the log again up to " + to.String()},
		{"Incomplete", registry.Running, fence, event.Group{From: from, To: to, K: 1, N: 8}, time.Minute, "starting", "up to " + from.String()},
	} {
		state, text := quiet("shop", c.state, &event.Message{Subject: c.subject, Group: c.group, TimeMS: now.Add(-c.ago).UnixMilli()}, now)
		if state != c.want || !strings.Contains(text, c.says) || (state == "") != (text == "") {
			t.Errorf("%s: got %q, %q", c.name, state, text)
		}
	}
}
