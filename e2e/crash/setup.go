package main

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
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/runnel-dev/runnel/e2e/proxy"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/failpoint"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// SourceName is the captured source's name, so its stream is CDC_shop and its slot runnel_shop.
const SourceName = "shop"

// Small chunks, so that loads have many. SPEC and SCHEMA are the source's.
const sourceYAML = `kind: source
name: shop
SPEC
tables: [SCHEMA.customers, SCHEMA.orders, SCHEMA.order_items]
snapshot: {chunk_rows: 150}
`

var functionYAML = map[string]string{
	"elasticsearch": `---
kind: function
name: search
from: shop.SCHEMA.*
to: {elasticsearch: {url: "${SEARCH_URL}", index: "shop-{table}"}}
`,
	"clickhouse": `---
kind: function
name: analytics
from: shop.SCHEMA.*
to: {clickhouse: {url: "${ANALYTICS_URL}"}}
`,
	"postgres": `---
kind: function
name: warehouse
from: shop.SCHEMA.*
to: {postgres: {url: "${WAREHOUSE_URL}", table: "public.{table}"}}
`,
	"ordered": `---
kind: function
name: ledger
from: shop.SCHEMA.*
ordering: source
batch: {rows: 20}
to: {postgres: {url: "${LEDGER_URL}", table: "public.{table}"}}
`,
}

// functionOf names what --target may choose. An ordered one is PostgreSQL that gets whole transactions, and most of those that have more
// than some rows while they are read.
var functionOf = map[string]string{"elasticsearch": "search", "clickhouse": "analytics", "postgres": "warehouse", "ordered": "ledger"}

// existing is the number of rows that the source has before.
const existing = 3000

// build starts all servers, proxies and processes, and returns when every target has all rows.
func (w *World) build(ctx context.Context, kinds []string) error {
	if err := w.startServers(kinds); err != nil {
		return err
	}
	if err := w.link(); err != nil {
		return err
	}
	if err := w.DB.Create(ctx, w.Source); err != nil {
		return err
	}
	yaml := sourceYAML
	for _, t := range w.Targets {
		yaml += functionYAML[t.chosen]
	}
	file := filepath.Join(w.Dir, "shop.yaml")
	yaml = strings.NewReplacer("SPEC", w.DB.Spec(), "SCHEMA", w.DB.Schema()).Replace(yaml)
	if err := os.WriteFile(file, []byte(yaml), 0o644); err != nil {
		return err
	}
	if err := w.layOut(ctx, file); err != nil {
		return err
	}
	// From now on the log is kept for the agent: all that is committed must be in the stream.
	c2, cancel := context.WithTimeout(ctx, limitRecover)
	defer cancel()
	if _, err := w.AwaitLog(c2, w.Agents, "capture started"); err != nil {
		return err
	}
	w.born = time.Now()
	return nil
}

// startServers starts what is independent side by side: Elasticsearch takes its time.
func (w *World) startServers(kinds []string) error {
	var g errgroup.Group
	g.Go(func() error {
		return guard(func() error { w.Source = w.DB.Start(w); return nil })
	})
	for _, kind := range kinds {
		t := &Target{Kind: kind, Function: functionOf[kind], Link: "worker-" + functionOf[kind], chosen: kind}
		if t.Function == "" {
			return fmt.Errorf("--target %s: expected elasticsearch, clickhouse, postgres or ordered", kind)
		}
		if kind == "ordered" {
			t.Kind = "postgres"
		}
		w.Targets = append(w.Targets, t)
		g.Go(func() error {
			return guard(func() error {
				switch t.Kind {
				case "elasticsearch":
					t.Server = servers.Elasticsearch(w, "")
				case "clickhouse":
					t.Server, _ = servers.ClickHouse(w)
				case "postgres":
					t.Server = servers.Postgres(w, 15, targetSettings...)
				}
				return nil
			})
		})
	}
	if nodes := map[Topology]int{TopologySplit: 1, TopologyCluster: 3}[w.Topology]; nodes > 0 {
		g.Go(func() error {
			return guard(func() error { w.NATS = servers.NATS(w, nodes, natsSettings()...); return nil })
		})
	}
	return g.Wait()
}

// Servers that are killed must keep what they said was committed. The source gives up on a reader that is silent for 6 s, so
// that a standby takes over from a frozen one within a run.
var (
	sourceSettings = append(slices.Clone(servers.Durable), "wal_sender_timeout=6s")
	targetSettings = servers.Durable
)

// guard turns what servers panic with into an error.
func guard(f func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = errors.New(string(r))
		default:
			panic(r)
		}
	}()
	return f()
}

// link puts a proxy before every server.
func (w *World) link() error {
	w.links = map[string][]*proxy.Proxy{}
	through := func(link, address string) (string, error) {
		p, err := proxy.Listen(address)
		if err != nil {
			return "", err
		}
		w.Cleanup(p.Close)
		w.links[link] = append(w.links[link], p)
		return p.Addr(), nil
	}
	at, err := through("agent-source", w.Source.Addr)
	if err != nil {
		return err
	}
	w.env = append(os.Environ(), "SHOP_URL="+w.DB.URL(at), failpoint.SettleVariable+"="+settle.String())
	for _, t := range w.Targets {
		if at, err = through(t.Link, t.Server.Addr); err != nil {
			return err
		}
		switch t.Kind {
		case "elasticsearch":
			w.env = append(w.env, "SEARCH_URL=http://"+at)
		case "clickhouse":
			w.env = append(w.env, "ANALYTICS_URL=http://"+at+"/default")
		case "postgres":
			w.env = append(w.env, strings.ToUpper(t.Function)+"_URL="+postgresURL(at))
		}
	}
	if w.NATS == nil {
		return nil
	}
	for _, link := range []string{"agent-nats", "worker-nats"} {
		for _, n := range w.NATS.Nodes {
			if _, err := through(link, n.Addr); err != nil {
				return err
			}
		}
	}
	return nil
}

func postgresURL(address string) string {
	return "postgres://postgres@" + address + "/postgres?sslmode=disable"
}

// Proxies are those of a link: one of agent-source, worker-search, worker-analytics and worker-warehouse, and with an external NATS
// one for each of its nodes, in their order, of agent-nats and worker-nats. None where the world has no such link.
func (w *World) Proxies(link string) []*proxy.Proxy { return w.links[link] }

// Proxy is a link's first proxy, or nil.
func (w *World) Proxy(link string) *proxy.Proxy {
	if len(w.links[link]) == 0 {
		return nil
	}
	return w.links[link][0]
}

// layOut starts Runnel's processes.
func (w *World) layOut(ctx context.Context, file string) error {
	data := w.data()
	if w.Topology == TopologyRun {
		if err := w.mountData(); err != nil {
			return err
		}
		p := w.process("run", "run", "run", file, "--data", data, "--http", "none")
		w.Run, w.Agents, w.Workers = []*Process{p}, []*Process{p}, []*Process{p}
		return p.Start(Life{})
	}
	flags := func(link string) []string {
		var urls []string
		for _, p := range w.Proxies(link) {
			urls = append(urls, p.URL("nats"))
		}
		return []string{"--nats", strings.Join(urls, ","), "--data", data}
	}
	deploy := exec.CommandContext(ctx, w.binary, append([]string{"deploy", file}, flags("agent-nats")...)...)
	deploy.Env = w.env
	if out, err := deploy.CombinedOutput(); err != nil {
		return fmt.Errorf("runnel deploy: %w\n%s", err, out)
	}
	long := []string{"--http", "none", "--nats-sync-interval", natsSync.String()}
	for _, n := range []string{"1", "2"} {
		w.Agents = append(w.Agents, w.process("agent-"+n, "agent", append(append([]string{"capture", SourceName}, flags("agent-nats")...), long...)...))
		w.Workers = append(w.Workers, w.process("worker-"+n, "worker", append(append([]string{"worker"}, flags("worker-nats")...), long...)...))
	}
	for _, p := range w.processes() {
		if err := p.Start(Life{}); err != nil {
			return err
		}
	}
	return nil
}

// process describes a process; it ends with the world.
func (w *World) process(name, role string, args ...string) *Process {
	p := &Process{Name: name, Role: role, binary: w.binary, log: filepath.Join(w.Dir, name+".log"), args: args, env: w.env, restarts: true}
	w.Cleanup(p.end)
	return p
}

// Connect reaches the world's JetStream, past all proxies.
func (w *World) Connect(ctx context.Context) (*stream.Conn, error) {
	a, err := w.access()
	if err != nil {
		return nil, err
	}
	return stream.Connect(ctx, stream.Config{Name: "crash", URL: a.URL, User: a.User, Password: a.Password, SyncInterval: natsSync})
}

// access is how JetStream is reached; an embedded one says so in its data folder.
type access struct{ URL, User, Password string }

func (w *World) access() (a access, err error) {
	if w.NATS != nil {
		return access{URL: w.NATS.URL()}, nil
	}
	b, err := os.ReadFile(filepath.Join(w.Dir, "data", "nats.json"))
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(b, &a)
}

// natsSync is the sync_interval of all JetStreams: what they acknowledged is durable soon, so that slots move within a run.
const natsSync = 100 * time.Millisecond

// compile builds runnel with its failpoints.
func compile(ctx context.Context, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "failpoints", "-o", binary, "./cmd/runnel")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build runnel: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
