package servers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/e2e/servers"
)

// natsPatience bounds what a cluster on a busy machine must do.
const natsPatience = 4 * time.Minute

// open connects to a cluster and makes a stream with so many copies.
func open(t *testing.T, c *servers.Cluster, replicas int) (context.Context, jetstream.JetStream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), natsPatience)
	t.Cleanup(cancel)
	nc, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: replicas}); err != nil {
		t.Fatal(err)
	}
	return ctx, js
}

// store publishes until it is acknowledged, so often.
func store(ctx context.Context, t *testing.T, js jetstream.JetStream, n int, data []byte) {
	t.Helper()
	for range n {
		for {
			c, cancel := context.WithTimeout(ctx, time.Second)
			_, err := js.Publish(c, "s", data)
			cancel()
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
}

func last(ctx context.Context, t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	for {
		c, cancel := context.WithTimeout(ctx, time.Second)
		s, err := js.Stream(c, "S")
		cancel()
		if err == nil {
			return s.CachedInfo().State.LastSeq
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// One server keeps what it acknowledged when it is killed, and not when its store is restored from an older copy.
func TestNATS(t *testing.T) {
	t.Parallel()
	c := servers.NATS(t, 1)
	n := c.Nodes[0]
	ctx, js := open(t, c, 1)
	store(ctx, t, js, 10, nil)
	n.Kill()
	n.Restart(t)
	if got := last(ctx, t, js); got != 10 {
		t.Errorf("after SIGKILL: %d messages, want 10", got)
	}
	old := c.CopyStore(t)
	store(ctx, t, js, 5, nil)
	n.Stop(syscall.SIGTERM)
	n.Restart(t)
	if got := last(ctx, t, js); got != 15 {
		t.Errorf("after an orderly restart: %d messages, want 15", got)
	}
	c.RestoreStore(t, old)
	if got := last(ctx, t, js); got != 10 {
		t.Errorf("after a restore: %d messages, want 10", got)
	}
	if leader, err := c.Leader(ctx, "S"); err != nil || leader != n {
		t.Errorf("got %v, %v", leader, err)
	}
	var refused *servers.Refusal
	if err := c.Ask(ctx, "STREAM.INFO.none", nil, nil); !errors.As(err, &refused) || refused.Code != 10059 {
		t.Errorf("a stream that is not there: got %v", err)
	}
}

// A disk takes nothing while it is full, and everything when there is room; the server itself has to be started again for that.
func TestNATSDiskFull(t *testing.T) {
	t.Parallel()
	c := servers.NATS(t, 1, "disk=64m")
	n := c.Nodes[0]
	ctx, js := open(t, c, 1)
	data := make([]byte, 32<<10)
	store(ctx, t, js, 10, data)
	n.Disk.Fill(t)
	var err error
	for i := 0; err == nil; i++ {
		if i > 100 {
			t.Fatal("a full disk takes 3 MB")
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		_, err = js.Publish(short, "s", data)
		cancel()
	}
	if err := os.WriteFile(n.Store+"/more", make([]byte, 256<<10), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	n.Disk.Free(t)
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := js.Publish(short, "s", data); err == nil {
		t.Error("after a failed write the server stores again by itself: Runnel tells operators to start it again")
	}
	n.Stop(syscall.SIGTERM)
	n.Restart(t)
	store(ctx, t, js, 10, data)
}

// Three servers: another node leads when the leader steps down, is cut off or is killed, and one that comes back with an empty disk
// gets everything again.
func TestNATSCluster(t *testing.T) {
	t.Parallel()
	c := servers.NATS(t, 3)
	ctx, js := open(t, c, 3)
	leads := func() *servers.Node {
		t.Helper()
		n, err := c.Leader(ctx, "S")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	another := func(old *servers.Node) *servers.Node {
		t.Helper()
		for n := leads(); ; n = leads() {
			if n != old {
				return n
			}
			if ctx.Err() != nil {
				t.Fatalf("%s still leads", old.Name)
			}
		}
	}
	store(ctx, t, js, 10, nil)
	first := leads()
	if err := c.StepDown(ctx, "S"); err != nil {
		t.Fatal(err)
	}
	second := another(first)
	store(ctx, t, js, 10, nil)

	c.CutOff(second)
	reached, err := nats.Connect(second.URL())
	if err != nil {
		t.Fatalf("clients do not reach the node that is cut off: %v", err)
	}
	reached.Close()
	third := another(second)
	store(ctx, t, js, 10, nil)
	c.Rejoin(second)
	c.Wait(t)

	third.Kill()
	store(ctx, t, js, 10, nil)
	third.Empty(t)
	third.Restart(t)
	c.Wait(t)
	if got := last(ctx, t, js); got != 40 {
		t.Errorf("%d messages, want 40", got)
	}
	// The node with the empty disk has all of them: it can be the one that is not lost.
	for _, n := range c.Nodes {
		if n != third {
			n.Kill()
		}
	}
	for _, n := range c.Nodes {
		if n != third {
			n.Restart(t)
		}
	}
	c.Wait(t)
	if got := last(ctx, t, js); got != 40 {
		t.Errorf("%d messages, want 40", got)
	}
	if err := reachable(c); err != nil {
		t.Error(err)
	}
}

// reachable checks that clients learn of no other address than the one that they were given.
func reachable(c *servers.Cluster) error {
	for _, n := range c.Nodes {
		nc, err := nats.Connect(n.URL())
		if err != nil {
			return err
		}
		found := nc.DiscoveredServers()
		nc.Close()
		if len(found) > 0 {
			return fmt.Errorf("%s tells of %v", n.Name, found)
		}
	}
	return nil
}
