package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sync/errgroup"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// cluster is three servers in this process.
type cluster struct {
	options [3]*server.Options
	servers [3]*server.Server
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	var routes []string
	var ports [3]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
		_ = l.Close()
	}
	c := &cluster{}
	for i := range c.servers {
		c.options[i] = &server.Options{
			ServerName: fmt.Sprintf("n%d", i+1), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), SyncInterval: time.Second, MaxPayload: 8 << 20,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]},
			Routes:  server.RoutesFromStr(strings.Join(routes, ",")),
		}
		c.run(t, i)
	}
	t.Cleanup(func() {
		for _, s := range c.servers {
			s.Shutdown()
			s.WaitForShutdown()
		}
	})
	for _, s := range c.servers {
		if !s.ReadyForConnections(*patience) {
			t.Fatal("a server of the cluster is not ready")
		}
	}
	ready := func() bool {
		for _, s := range c.servers {
			if !s.JetStreamIsCurrent() || s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) < 3 {
				return false
			}
		}
		return true
	}
	if !eventually(t, ready) {
		t.Fatal("the cluster has no leader")
	}
	return c
}

func (c *cluster) run(t testing.TB, i int) {
	s, err := server.NewServer(c.options[i])
	if err != nil {
		t.Error(err)
		return
	}
	s.Start()
	c.servers[i] = s
	c.options[i].Port = s.Addr().(*net.TCPAddr).Port
}

func (c *cluster) url() string {
	var urls []string
	for _, o := range c.options {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", o.Port))
	}
	return strings.Join(urls, ",")
}

func (c *cluster) connect(t testing.TB) *stream.Conn {
	t.Helper()
	conn, err := stream.Connect(t.Context(), stream.Config{URL: c.url()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// leader is the name of the server that leads a stream; empty while there is none.
func leader(ctx context.Context, c *stream.Conn, name string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	m, err := c.NC.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+name, nil)
	if err != nil {
		return ""
	}
	var info struct {
		Cluster struct {
			Leader string `json:"leader"`
		} `json:"cluster"`
	}
	_ = json.Unmarshal(m.Data, &info)
	return info.Cluster.Leader
}

// stepDown makes another server the leader.
func stepDown(ctx context.Context, c *stream.Conn, name string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, _ = c.NC.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+name, nil)
}

// TestCluster needs all of the machine, so its parts run one after the other on one cluster.
func TestCluster(t *testing.T) {
	cl := newCluster(t)
	c := cl.connect(t)
	if got := c.Replicas(); got != 3 {
		t.Errorf("replicas %d, want 3", got)
	}
	t.Run("LeaderChanges", func(t *testing.T) { clusterLeaders(t, cl, c) })
	t.Run("Zombie", func(t *testing.T) { clusterZombie(t, cl, c) })
	t.Run("Bucket", func(t *testing.T) { clusterBucket(t, cl, c) })
}

// 40,000 messages while leaders step down and one server is shut down and comes back.
func clusterLeaders(t *testing.T, cl *cluster, c *stream.Conn) {
	const messages = 40_000
	s := create(t, c, "shop")
	var stored atomic.Uint64
	ch := chain(t, s, 1, stream.ChainOptions{Stored: stored.Store})
	g, ctx := errgroup.WithContext(deadline(t, *patience))
	g.Go(func() error { return publish(ctx, ch, "shop", "a", 0, messages, make([]byte, 200)) })
	reach := func(n uint64) bool {
		return eventually(t, func() bool { return stored.Load() >= n || ctx.Err() != nil }) && ctx.Err() == nil
	}
	down := -1
	for i := uint64(1); i <= 9 && reach(i*4_000); i++ {
		switch i {
		case 4:
			name := leader(ctx, c, s.Name())
			for down = range cl.servers {
				if cl.servers[down].Name() == name {
					break
				}
			}
			cl.servers[down].Shutdown()
			cl.servers[down].WaitForShutdown()
		case 7:
			cl.run(t, down)
		default:
			stepDown(ctx, c, s.Name())
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatalf("stored %d of %d: %v", stored.Load(), messages, err)
	}
	verify(t, c, s, map[string]uint64{"a": messages})
}

func clusterZombie(t *testing.T, cl *cluster, c *stream.Conn) {
	s := create(t, c, "zombie")
	for round := range uint32(2) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			stepDown(t.Context(), c, s.Name())
		}()
		zombieRound(t, cl.servers[round].ClientURL(), s, round)
		<-done
	}
	verify(t, c, s, nil)
}

// Several processes increment one counter by compare-and-swap while leaders step down: nothing is lost, nothing is counted
// twice.
func clusterBucket(t *testing.T, cl *cluster, c *stream.Conn) {
	ctx := deadline(t, *patience)
	b, err := stream.OpenBucket(ctx, c, stream.BucketConfig{Name: "RUNNEL_counter"})
	if err != nil {
		t.Fatal(err)
	}
	const workers, each = 4, 25
	var g errgroup.Group
	for w := range workers {
		g.Go(func() error {
			for i := range each {
				if err := increment(ctx, b, fmt.Sprintf("%d.%d", w, i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 3 {
		await(t, 100*time.Millisecond)
		stepDown(ctx, c, "KV_RUNNEL_counter")
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	e, err := b.Get(ctx, "n")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(e.Value), " "); got != workers*each {
		t.Errorf("counted %d, want %d", got, workers*each)
	}
}

// increment adds a mark to the list at key n exactly once, also where an answer was lost.
func increment(ctx context.Context, b *stream.Bucket, mark string) error {
	mark += " "
	for {
		e, err := b.Get(ctx, "n")
		if err != nil && !errors.Is(err, stream.ErrNotFound) {
			return err
		}
		if strings.HasPrefix(string(e.Value), mark) || strings.Contains(string(e.Value), " "+mark) {
			return nil
		}
		_, err = b.Swap(ctx, "n", append(e.Value, mark...), e.Revision)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
}
