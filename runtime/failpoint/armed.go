//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Enabled says whether this binary has failpoints.
const Enabled = true

// variable steers the failpoints of a process.
const variable = "RUNNEL_FAILPOINTS"

// point is an armed failpoint.
type point struct {
	Trigger
	hits atomic.Int64
}

var armed = arm()

func arm() map[Name]*point {
	triggers, err := Parse(os.Getenv(variable))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", variable, err)
		os.Exit(2)
	}
	points := map[Name]*point{}
	for _, t := range triggers {
		points[t.Name] = &point{Trigger: t}
	}
	return points
}

// Settle is what the environment says instead of how long a new stream may vanish as a whole: a minute is longer than most tests.
func Settle(standard time.Duration) time.Duration {
	text := os.Getenv(SettleVariable)
	if text == "" {
		return standard
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		fmt.Fprintf(os.Stderr, "%s=%s: expected a duration above 0\n", SettleVariable, text)
		os.Exit(2)
	}
	return d
}

// At is where the named step of the flow has just been reached: what was asked for happens here.
func At(n Name) {
	p := armed[n]
	if p == nil || p.hits.Add(1) != int64(p.Hit) {
		return
	}
	fmt.Fprintf(os.Stderr, "failpoint %s: %s at hit %d\n", n, p.Action, p.Hit)
	switch p.Action {
	case Kill:
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {} // until the signal is there
	case Stop:
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
	case Sleep:
		time.Sleep(p.For)
	}
}
