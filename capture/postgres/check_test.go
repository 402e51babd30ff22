package postgres

import (
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestTimelines: the server is on timeline 3, which left 2 at 0/3000, which left 1 at 0/2000.
func TestTimelines(t *testing.T) {
	t.Parallel()
	history, err := parseHistory([]byte("# comment\n1\t0/2000\tno recovery target specified\n\n2\t0/3000\tbefore 2026-01-01 00:00:00+00\n"))
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{source: &Source{cfg: Config{Name: "shop"}}, info: capture.Info{Timeline: 3}, history: history}
	for name, c := range map[string]struct {
		from event.Position
		ok   bool
	}{
		"Same":         {event.Position{Timeline: 3, Commit: 0x9000}, true},
		"Unknown":      {event.Position{Commit: 0x9000}, true},
		"AtFork":       {event.Position{Timeline: 2, Commit: 0x3000}, true},
		"BeforeFork":   {event.Position{Timeline: 1, Commit: 0x1fff, Change: 0x1000}, true},
		"BeyondFork":   {event.Position{Timeline: 1, Commit: 0x2001}, false},
		"ChangeAtFork": {event.Position{Timeline: 2, Commit: 0x3000, Change: 0x2f00}, false},
		"Future":       {event.Position{Timeline: 4, Commit: 1}, false},
		"NotInHistory": {event.Position{Timeline: 0x7fffffff, Commit: 1}, false},
	} {
		if err := l.checkTimeline(c.from); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{"x\t0/1\n", "1\n", "1\tzz\n"} {
		if _, err := parseHistory([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
