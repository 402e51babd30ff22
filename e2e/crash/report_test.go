package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
)

func TestReport(t *testing.T) {
	t.Parallel()
	r := NewReport()
	r.injected([]string{"kill.agent", "kill@fence.after"}, 3*time.Second)
	r.injected([]string{"kill.agent"}, 1500*time.Millisecond)
	r.ledger.Events, r.ledger.Kills = 1234, 3
	r.checked.Found(check.Lost, "a change is gone")
	r.checked.Found(check.Undurable, "a checkpoint is ahead")
	r.checked.Found(check.Differing, "a row differs")
	r.failed(errors.New("reason"), "again: command")
	var b strings.Builder
	r.print(&b)
	want := `fault             times  slowest recovery
kill.agent        2      3.0 s
kill@fence.after  1      3.0 s
slowest recovery: 3.0 s after kill.agent
checked: 0 messages, 0 looks at targets and source, 0 checkpoints
failed: reason
again: command
crash: events=1234 kills=3 faults=3 lost=2 duplicated=0 disordered=0 backwards=0 differing=1
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if n := r.ledger.Failpoints["fence.after"]; n != 1 {
		t.Errorf("failpoint counted %d times", n)
	}
}
