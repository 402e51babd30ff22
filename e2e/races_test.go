package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ours = "github.com/runnel-dev/runnel/"

// races are the data races that processes with the race detector have noted in a folder, as far as code of ours takes part in one of the
// two accesses. (nats-server sets the timer of a store's sync_interval without a lock, and with 100 ms on a busy machine the
// timer may be there first.)
func races(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "race.*"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, ourRaces(string(b))...)
	}
	return found
}

func ourRaces(log string) []string {
	var found []string
	for report := range strings.SplitSeq(log, "==================\n") {
		accesses, _, _ := strings.Cut(report, "\nGoroutine ")
		if strings.Contains(accesses, ours) {
			found = append(found, report)
		}
	}
	return found
}

func TestRacesOfOursAreTold(t *testing.T) {
	t.Parallel()
	const created = "\n\nGoroutine 7 (running) created at:\n  github.com/runnel-dev/runnel/runtime/stream.Start()\n"
	foreign := "WARNING: DATA RACE\nRead at 0x0 by goroutine 7:\n  nats-server/v2/server.(*fileStore).setSyncTimer()\n\nPrevious write at 0x0:\n  server.x()" + created
	own := strings.Replace(foreign, "server.x()", "github.com/runnel-dev/runnel/capture.(*writer).run()", 1)
	if got := ourRaces(foreign + "==================\n" + own + "==================\n"); len(got) != 1 || got[0] != own {
		t.Errorf("got %q", got)
	}
}
