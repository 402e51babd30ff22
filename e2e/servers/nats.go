package servers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/runnel-dev/runnel/e2e/proxy"
)

// Cluster is one nats-server with JetStream, or several that are one cluster. Clients reach each node at its own address and learn
// of no other. Between the nodes stand proxies, one for each direction of each pair.
type Cluster struct {
	Nodes  []*Node
	routes [][]*proxy.Proxy // [from][to]
}

// Node is one nats-server process.
type Node struct {
	*Server
	Name    string // n1, n2, …
	Store   string // its JetStream's folder
	Disk    *Disk  // where it is; nil without "disk="
	monitor string // host:port
}

// natsModule is where nats-server comes from: the module that Runnel embeds, so both are one version.
const natsModule = "github.com/nats-io/nats-server/v2"

// natsBinary builds nats-server once for each version.
var natsBinary = sync.OnceValues(func() (string, error) {
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", natsModule).Output()
	if err != nil {
		return "", fmt.Errorf("which nats-server: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("build nats-server: %w", err)
	}
	bin := filepath.Join(cache, "runnel", "nats-server-"+strings.TrimSpace(string(version)))
	if exists(bin) {
		return bin, nil
	}
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return "", fmt.Errorf("build nats-server: %w", err)
	}
	mine := fmt.Sprintf("%s.%d", bin, os.Getpid()) // others may build it too
	cmd := exec.Command("go", "build", "-o", mine, natsModule)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build nats-server: %w\n%s", err, out)
	}
	return bin, os.Rename(mine, bin)
})

// NATS starts so many nodes, one or three. Settings are "name=value" as in nats-server's configuration; those of its jetstream block
// have its name before theirs: "jetstream.max_file_store=64MB". sync_interval is 100ms. "disk=256m" puts each node's store on a
// small disk of its own, see SmallDisk.
func NATS(t TB, nodes int, conf ...string) *Cluster {
	t.Helper()
	bin, err := natsBinary()
	if err != nil {
		t.Fatal(err)
	}
	top := map[string]string{"max_payload": "8MB"}
	js := map[string]string{"sync_interval": "100ms"}
	size := ""
	for _, s := range conf {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			t.Fatalf("setting %q of nats-server: want name=value", s)
		}
		if in, ok := strings.CutPrefix(name, "jetstream."); ok {
			js[in] = value
		} else if name == "disk" {
			size = value
			js["max_file_store"] = "1TB" // not 3/4 of this disk, which the limit of a stream may exceed
		} else {
			top[name] = value
		}
	}
	dir := tempDir(t, "nats")
	c := &Cluster{}
	listen := c.wire(t, nodes)
	for i := range nodes {
		n := &Node{Name: fmt.Sprintf("n%d", i+1)}
		home := filepath.Join(dir, n.Name)
		n.Store = filepath.Join(home, "store")
		if err := os.MkdirAll(n.Store, 0o755); err != nil {
			t.Fatal(err)
		}
		if size != "" {
			n.Disk = SmallDisk(t, n.Store, size)
		}
		port := freePort(t)
		n.monitor = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		var b strings.Builder
		fmt.Fprintf(&b, "server_name: %s\nlisten: \"127.0.0.1:%d\"\nhttp: %q\njetstream {\n  store_dir: %q\n", n.Name, port, n.monitor, n.Store)
		write(&b, "  ", js)
		fmt.Fprint(&b, "}\n")
		write(&b, "", top)
		if nodes > 1 {
			// Other nodes shall not come past the proxies: what this one advertises leads nowhere.
			fmt.Fprintf(&b, "cluster {\n  name: test\n  listen: %q\n  advertise: \"127.0.0.1:1\"\n  no_advertise: true\n  routes: [\n", listen[i])
			for j, p := range c.routes[i] {
				if j != i {
					fmt.Fprintf(&b, "    %q\n", p.URL("nats-route"))
				}
			}
			fmt.Fprint(&b, "  ]\n}\n")
		}
		if err := os.WriteFile(filepath.Join(home, "nats.conf"), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		url := fmt.Sprintf("nats://127.0.0.1:%d", port)
		n.Server = start(t, home, port, nil, syscall.SIGTERM, func() error {
			nc, err := nats.Connect(url, nats.Timeout(2*time.Second))
			if err == nil {
				nc.Close()
			}
			return err
		}, nil, bin, "-c", filepath.Join(home, "nats.conf"))
		c.Nodes = append(c.Nodes, n)
	}
	c.Wait(t)
	return c
}

func write(b *strings.Builder, indent string, settings map[string]string) {
	for name, value := range settings {
		fmt.Fprintf(b, "%s%s: %s\n", indent, name, value)
	}
}

// wire makes the proxies between nodes, and says where each node listens for the others.
func (c *Cluster) wire(t TB, nodes int) (listen []string) {
	for range nodes {
		listen = append(listen, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	}
	for i := range nodes {
		c.routes = append(c.routes, make([]*proxy.Proxy, nodes))
		for j := range nodes {
			if i != j {
				c.routes[i][j] = proxy.New(t, listen[j])
			}
		}
	}
	return listen
}

// URL names all nodes.
func (c *Cluster) URL() string {
	var urls []string
	for _, n := range c.Nodes {
		urls = append(urls, n.URL())
	}
	return strings.Join(urls, ",")
}

// URL is where clients connect.
func (n *Node) URL() string { return "nats://" + n.Addr }

// Wait waits until every node is up, and has all of its streams and consumers.
func (c *Cluster) Wait(t TB) {
	t.Helper()
	for _, n := range c.Nodes {
		healthy := httpOK("http://"+n.monitor+"/healthz", "", "")
		var err error
		end := time.Now().Add(2 * time.Minute)
		for err = healthy(); err != nil && time.Now().Before(end); err = healthy() {
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			t.Fatalf("%s of the NATS cluster is not healthy: %v", n.Name, err)
		}
	}
}

// Leader is the node that leads a stream.
func (c *Cluster) Leader(ctx context.Context, stream string) (*Node, error) {
	return c.leader(ctx, "STREAM.INFO."+stream)
}

// ConsumerLeader is the node that leads a consumer.
func (c *Cluster) ConsumerLeader(ctx context.Context, stream, consumer string) (*Node, error) {
	return c.leader(ctx, "CONSUMER.INFO."+stream+"."+consumer)
}

// StepDown makes another node the leader of a stream.
func (c *Cluster) StepDown(ctx context.Context, stream string) error {
	return c.Ask(ctx, "STREAM.LEADER.STEPDOWN."+stream, nil, nil)
}

func (c *Cluster) leader(ctx context.Context, subject string) (*Node, error) {
	var info struct {
		Cluster struct{ Leader string }
	}
	for {
		err := c.Ask(ctx, subject, nil, &info)
		for _, n := range c.Nodes {
			if err == nil && (n.Name == info.Cluster.Leader || len(c.Nodes) == 1) {
				return n, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s names no leader: %w", subject, errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Ask sends a request to JetStream's API ("STREAM.PURGE.CDC_shop") and decodes the answer.
func (c *Cluster) Ask(ctx context.Context, subject string, request, answer any) error {
	return Ask(ctx, c.URL(), subject, request, answer)
}

// Ask sends a request to the API of a JetStream and decodes the answer. A question may stay without one while there is no leader: it
// is given two seconds.
func Ask(ctx context.Context, url, subject string, request, answer any, options ...nats.Option) error {
	nc, err := nats.Connect(url, append(options, nats.Timeout(2*time.Second))...)
	if err != nil {
		return fmt.Errorf("ask JetStream %s: %w", subject, err)
	}
	defer nc.Close()
	var data []byte
	if request != nil {
		if data, err = json.Marshal(request); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, "$JS.API."+subject, data)
	if err != nil {
		return fmt.Errorf("ask JetStream %s: %w", subject, err)
	}
	var failed struct{ Error *Refusal }
	if err := json.Unmarshal(m.Data, &failed); err != nil {
		return fmt.Errorf("ask JetStream %s: %w", subject, err)
	}
	if failed.Error != nil {
		return fmt.Errorf("ask JetStream %s: %w", subject, failed.Error)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(m.Data, answer)
}

// Refusal is an error of JetStream's API.
type Refusal struct {
	Code        int `json:"err_code"`
	Description string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s (%d)", r.Description, r.Code) }

// CutOff loses everything between a node and the others, until Rejoin. Clients still reach it.
func (c *Cluster) CutOff(n *Node) {
	for _, p := range c.between(n) {
		p.HalfOpen()
	}
}

// Rejoin ends CutOff.
func (c *Cluster) Rejoin(n *Node) {
	for _, p := range c.between(n) {
		p.Heal()
	}
}

func (c *Cluster) between(n *Node) (all []*proxy.Proxy) {
	i := slices.Index(c.Nodes, n)
	for j := range c.Nodes {
		if j != i {
			all = append(all, c.routes[i][j], c.routes[j][i])
		}
	}
	return all
}
