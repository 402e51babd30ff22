package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A life that has to come to something is begun again until it has.
func TestLifeUntil(t *testing.T) {
	t.Parallel()
	armed := Life{Args: []string{"--resnapshot"}, Failpoints: "fence.before=kill@1", Until: killedAtFailpoint}
	for name, c := range map[string]struct {
		log, want string
		this      Life
	}{
		"Reached":        {"---- life 2 fence.before=kill@1\nfailpoint fence.before: kill at hit 1\n", "", armed},
		"EndedBefore":    {"---- life 2 fence.before=kill@1\nconnect to NATS: refused\n", armed.Failpoints, armed},
		"WithoutAnyhow":  {"---- life 2\nconnect to NATS: refused\n", "", Life{}},
		"ReachedEarlier": {"failpoint fence.before: kill at hit 1\n", armed.Failpoints, armed},
	} {
		p := &Process{Name: "agent-1", log: filepath.Join(t.TempDir(), "agent-1.log"), this: c.this}
		if err := os.WriteFile(p.log, []byte(c.log), 0o600); err != nil {
			t.Fatal(err)
		}
		if name == "ReachedEarlier" {
			p.birth = int64(len(c.log))
		}
		if got := p.next().Failpoints; got != c.want {
			t.Errorf("%s: the next life has failpoints %q, want %q", name, got, c.want)
		}
	}
}
