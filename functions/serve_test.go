package functions_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/host"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// order is a row of the table shop.public.orders.
type order struct {
	ID    int64  `json:"id"`
	Note  string `json:"note"`
	Total *int   `json:"total"`
}

var orders = event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"}, []event.Column{
	{Name: "id", Type: "bigint", Key: 1}, {Name: "note", Type: "text"}, {Name: "total", Type: "integer", Nullable: true},
})

// shop is a JetStream with the stream of one source, in which the test writes as an agent does.
type shop struct {
	t        *testing.T
	server   *stream.Server
	conn     *stream.Conn
	registry *registry.Registry
	stream   *stream.Stream
	chain    *stream.Chain
	group    event.Position
}

func newShop(t *testing.T) *shop {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &shop{t: t}
	var err error
	s.server, err = stream.Start(stream.Embedded{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	must(err)
	t.Cleanup(s.server.Stop)
	s.conn, err = s.server.Connect(t.Context(), "test")
	must(err)
	t.Cleanup(s.conn.Close)
	s.registry, err = registry.Open(t.Context(), s.conn)
	must(err)
	_, err = s.registry.Schemas.Put(t.Context(), orders.KVKey(), orders.Marshal())
	must(err)
	s.stream, err = stream.Create(t.Context(), s.conn, "shop", stream.Settings{Partitions: 2})
	must(err)
	w, err := s.stream.Fence(t.Context(), 0, 1, event.Group{K: 1, N: 1}, "test")
	must(err)
	s.chain = s.stream.Chain(w, w.Base, stream.ChainOptions{})
	t.Cleanup(s.chain.Close)
	return s
}

// put publishes a row: inserts it where before is "", deletes it where after is.
func (s *shop) put(before, after string) {
	s.t.Helper()
	at := event.Position{Timeline: 1, Commit: s.group.Commit + 1, Change: s.group.Commit + 1}
	c := &event.Change{Op: event.Create, Schema: orders, After: []byte(after), Position: at, CommitMS: 1, TxID: at.Commit}
	row := after
	switch {
	case after == "":
		c.Op, c.After, c.Before, row = event.Delete, nil, []byte(before), before
	case before != "":
		c.Op, c.Before = event.Update, []byte(before)
	}
	key, err := orders.AppendKey(nil, event.RowOf([]byte(row)))
	if err != nil {
		s.t.Fatal(err)
	}
	o := &stream.Outgoing{
		Subject: event.Subject("shop", orders.Table, event.Partition(key, s.stream.Partitions())),
		ID:      event.MessageID("shop", at), Group: event.Group{From: s.group, To: at, K: 1, N: 1}, Data: event.AppendLine(nil, c),
	}
	_, err = s.chain.Publish(s.t.Context(), o)
	if err = errors.Join(err, s.chain.Flush(), s.chain.Wait(s.t.Context(), s.chain.Sent())); err != nil {
		s.t.Fatal(err)
	}
	s.group = at
}

// deploy deploys a specification, as runnel deploy does.
func (s *shop) deploy(spec string) {
	s.t.Helper()
	file := s.t.TempDir() + "/shop.yaml"
	source := "kind: source\nname: shop\npostgres: {url: \"${SHOP_URL}\"}\ntables: [\"public.*\"]\n---\n"
	if err := os.WriteFile(file, []byte(source+spec), 0o600); err != nil {
		s.t.Fatal(err)
	}
	files, err := registry.ReadFiles(file)
	if err == nil {
		_, err = s.registry.Deploy(s.t.Context(), files)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) state(function string) registry.FunctionRecord {
	s.t.Helper()
	_, n, err := s.registry.FunctionOf(s.t.Context(), function)
	if err != nil {
		s.t.Fatal(err)
	}
	return n.Record
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("still not %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// cache is a user's handler: a map that keeps the newest version of each row.
type cache struct {
	mu       sync.Mutex
	prefix   string
	rows     map[string]string
	versions map[string]event.Version
	closed   int
}

func (c *cache) make(_ context.Context, f functions.Function) (functions.Handler, error) {
	var settings struct {
		Prefix string `config:"prefix,required"`
	}
	if err := f.Settings(&settings); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prefix = settings.Prefix
	if c.rows == nil {
		c.rows, c.versions = map[string]string{}, map[string]event.Version{}
	}
	return c, nil
}

func (c *cache) Handle(_ context.Context, b functions.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range functions.Latest(functions.Items(b)) {
		key := c.prefix + i.ID()
		if i.Version < c.versions[key] {
			continue
		}
		if c.versions[key] = i.Version; i.Deleted() {
			delete(c.rows, key)
		} else {
			c.rows[key] = string(i.After.Raw())
		}
	}
	return nil
}

func (c *cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed++
}

func (c *cache) copy() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.rows)
}

const deployed = `
kind: function
name: orders-cache
from: shop.public.orders
handler: cache
config: {prefix: "${CACHE_PREFIX}/"}
---
kind: function
name: elsewhere
from: shop.public.orders
handler: queue
---
kind: function
name: search
from: shop.public.orders
to: {elasticsearch: {url: "http://127.0.0.1:1", index: other}}
`

// A program hosts the functions whose handlers it has, and no others; what it is given of the connection is the address alone.
func TestServe(t *testing.T) {
	t.Setenv("CACHE_PREFIX", "shop")
	s := newShop(t)
	s.deploy(deployed)
	s.put("", `{"id":1,"note":"a"}`)
	nc, err := nats.Connect(s.server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	c := &cache{}
	serving, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- functions.Serve(serving, nc, functions.Handlers{"cache": c.make}, functions.Options{})
	}()
	waitFor(t, "written", func() bool { return len(c.copy()) == 1 })
	nc.Close() // it is the program's
	s.put("", `{"id":2,"note":"b"}`)
	s.put(`{"id":1,"note":"a"}`, `{"id":1,"note":"c"}`)
	s.put(`{"id":2}`, "")
	s.put("", `{"id":3,"note":"d"}`)
	want := map[string]string{"shop/1": `{"id":1,"note":"c"}`, "shop/3": `{"id":3,"note":"d"}`}
	waitFor(t, "written", func() bool { return maps.Equal(c.copy(), want) })
	waitFor(t, "announced", func() bool {
		workers, err := s.registry.ListWorkers(t.Context())
		if err != nil || len(workers) != 1 || !slices.Equal(workers[0].Record.Handlers, []string{"cache"}) {
			t.Fatalf("got workers %+v, %v", workers, err)
		}
		hosted := slices.Collect(maps.Keys(workers[0].Record.Status))
		if len(hosted) > 0 && !slices.Equal(hosted, []string{"orders-cache"}) {
			t.Fatalf("it hosts %v", hosted)
		}
		return len(hosted) > 0
	})
	for _, name := range []string{"orders-cache", "elsewhere", "search"} {
		if r := s.state(name); r.State != registry.Running {
			t.Errorf("%s is %s: %s", name, r.State, r.Reason)
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("got %v after its end", err)
	}
	if c.closed != 1 {
		t.Errorf("closed %d times", c.closed)
	}
}

// A worker without handlers, as runnel worker is, leaves functions with one alone, and hosts the others.
func TestOrdinaryWorker(t *testing.T) {
	s := newShop(t)
	s.deploy(deployed)
	made := make(chan string, 8)
	h, err := host.New(host.Config{Conn: s.conn, Registry: s.registry, NewHandler: func(_ context.Context, f *registry.Function) (sink.Handler, error) {
		made <- f.Name
		return nil, functions.Halt(errors.New("not in this test"))
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- h.Run(ctx) }()
	waitFor(t, "halted", func() bool { return s.state("search").State == registry.Halted })
	stop()
	if err := <-over; err != nil {
		t.Error(err)
	}
	if close(made); <-made != "search" || len(made) > 0 {
		t.Error("it made handlers of functions that are not for it")
	}
	for _, name := range []string{"orders-cache", "elsewhere"} {
		if r := s.state(name); r.State != registry.Running {
			t.Errorf("%s is %s: %s", name, r.State, r.Reason)
		}
	}
}

// screen is what a command prints, while it prints.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// The binary of a user takes the flags and the environment of runnel worker, and tells faults by its exit codes.
func TestCommand(t *testing.T) {
	s := newShop(t)
	s.deploy(deployed)
	s.put("", `{"id":1,"note":"a"}`)
	t.Setenv("CACHE_PREFIX", "shop")
	t.Setenv("RUNNEL_NATS_URL", s.server.ClientURL())
	c := &cache{}
	ctx, stop := context.WithCancel(t.Context())
	code := make(chan int, 1)
	var log screen
	go func() {
		code <- functions.Command(ctx, functions.Handlers{"cache": c.make}, []string{"/bin/shop-cache", "--http", "127.0.0.1:0", "--log-format", "text"}, io.Discard, &log)
	}()
	waitFor(t, "written", func() bool { return len(c.copy()) == 1 })
	metrics := regexp.MustCompile(`url=(http://\S+)/metrics`).FindStringSubmatch(log.String())
	if metrics == nil {
		t.Fatalf("no address of metrics in the log:\n%s", log.String())
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/metrics": `runnel_function_events_total{function="orders-cache"} 1`} {
		waitFor(t, path, func() bool { return strings.Contains(get(t, metrics[1]+path), want) })
	}
	stop()
	if got := <-code; got != 0 {
		t.Errorf("got exit code %d", got)
	}
	t.Setenv("RUNNEL_NATS_URL", "")
	for name, x := range map[string]struct {
		handlers functions.Handlers
		args     string
		code     int
		want     string
	}{
		"Help":      {functions.Handlers{"cache": c.make, "queue": c.make}, "--help", 0, "  handler: cache\n  handler: queue\n"},
		"Flag":      {functions.Handlers{"cache": c.make}, "--natz x", 2, "shop-cache: unknown flag: --natz; see --help\n"},
		"Arguments": {functions.Handlers{"cache": c.make}, "run", 2, `shop-cache: expected no arguments, found ["run"]; see --help` + "\n"},
		"NoNATS":    {functions.Handlers{"cache": c.make}, "--data " + t.TempDir() + "/none", 3, "no runnel run was started in"},
		"NoHandler": {nil, "", 1, "no handlers: name at least one"},
		"BadName":   {functions.Handlers{"My Cache": c.make}, "", 1, `handler "My Cache": expected`},
		"NoMaker":   {functions.Handlers{"cache": nil}, "", 1, "handler cache has no maker"},
	} {
		var out bytes.Buffer
		got := functions.Command(t.Context(), x.handlers, append([]string{"/bin/shop-cache"}, strings.Fields(x.args)...), &out, &out)
		if got != x.code || !strings.Contains(out.String(), x.want) {
			t.Errorf("%s: got exit code %d, want %d:\n%s", name, got, x.code, out.String())
		}
	}
}

// What is wrong with a function's settings halts it, and says all of it.
func TestSettings(t *testing.T) {
	t.Parallel()
	var s struct {
		URL     string        `config:"url,required"`
		Prefix  string        `config:"prefix"`
		Timeout time.Duration `config:"timeout"`
		Size    int           `config:"size"`
		Rate    float64       `config:"rate"`
		Quiet   bool          `config:"quiet"`
		own     int
	}
	s.Timeout = time.Second
	f := functions.Function{Name: "f", Config: map[string]string{"url": "x", "size": "7", "rate": "0.5", "quiet": "true"}, Log: slog.New(slog.DiscardHandler)}
	if err := f.Settings(&s); err != nil || s.URL != "x" || s.Timeout != time.Second || s.Size != 7 || s.Rate != 0.5 || !s.Quiet || s.own != 0 {
		t.Errorf("got %+v, %v", s, err)
	}
	f.Config = map[string]string{"ulr": "x", "timeout": "soon", "size": "hunter2"}
	err := f.Settings(&s)
	want := "config of function f: url is missing; timeout: expected a duration such as 500ms, 10s or 15m; size: expected a whole number; " +
		"ulr is unknown: the handler has url, prefix, timeout, size, rate, quiet"
	if d := cmp.Diff(want, fmt.Sprint(err)); d != "" || !sink.IsHalt(err) {
		t.Errorf("halts: %v (-want +got):\n%s", sink.IsHalt(err), d)
	}
}
