package main

import (
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/registry"
)

// silence after which a source's agent counts as gone: an agent that runs publishes a marker every few seconds.
const silence = 30 * time.Second

// quiet says what becomes of a source that should run and of which nothing was published for longer than that; "" else. The stream
// itself tells: a writer begins with a fence, and before it can publish anything else it reads the log again up to there.
func quiet(source string, state registry.State, last *event.Message, now time.Time) (registry.State, string) {
	since := now.Sub(time.UnixMilli(last.TimeMS)).Round(time.Second)
	if state != registry.Running || since <= silence {
		return "", ""
	}
	if last.Subject != event.FenceSubject(source) {
		return "silent", fmt.Sprintf("no agent has published anything for %s: does runnel run or runnel capture run?", since)
	}
	reached := last.Group.To
	if !last.Group.Complete() {
		reached = last.Group.From
	}
	return "starting", fmt.Sprintf("an agent began %s ago and has published nothing yet: it reads the log again up to %s, which takes its time after a large transaction; "+
		"does runnel run or runnel capture still run?", since, reached)
}
