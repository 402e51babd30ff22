// Package e2e_test runs the whole pipeline against real servers: the runnel binary as users run it, real PostgreSQL,
// Elasticsearch and ClickHouse, and JetStream embedded.
package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/runnel-dev/runnel/e2e/servers"
)

// binary is runnel, built once; with the race detector if the tests have it. plain is always without.
var binary, plain string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "runnel-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := func(name string, flags ...string) string {
		out := filepath.Join(dir, name)
		cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), "../cmd/runnel")...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err = cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build runnel:", err)
		}
		return out
	}
	if plain = build("runnel"); err != nil {
		return 1
	}
	if binary = plain; raceEnabled {
		if binary = build("runnel-race", "-race"); err != nil {
			return 1
		}
	}
	defer shared.stop()
	return m.Run()
}

// suite is what servers need of a test, for the ones that all tests share.
type suite struct {
	mu       sync.Mutex
	cleanups []func()
}

type failure string

func (s *suite) Helper()                   {}
func (s *suite) Failed() bool              { return false }
func (s *suite) Logf(string, ...any)       {}
func (s *suite) Fatal(a ...any)            { panic(failure(fmt.Sprint(a...))) }
func (s *suite) Fatalf(f string, a ...any) { panic(failure(fmt.Sprintf(f, a...))) }
func (s *suite) Skipf(f string, a ...any)  { panic(failure(fmt.Sprintf(f, a...))) }
func (s *suite) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *suite) stop() {
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		s.cleanups[i]()
	}
}

var shared suite

// elasticsearch and clickhouse are shared by all tests, which use names of their own in them.
var elasticsearch = sync.OnceValue(func() string { return "http://" + servers.Elasticsearch(&shared, "").Addr })

var clickhouse = sync.OnceValue(func() string {
	s, _ := servers.ClickHouse(&shared)
	return "http://" + s.Addr
})

// needServers skips by name, or fails in CI, where a server is not installed.
func needServers(t *testing.T) {
	t.Helper()
	if !servers.HasElasticsearch() {
		if os.Getenv("CI") != "" {
			t.Fatal("no Elasticsearch: run scripts/services")
		}
		t.Skip("no Elasticsearch: run scripts/services")
	}
}
