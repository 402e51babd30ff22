package e2e_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/runtime/stream"
)

// old answers like a nats-server of that version, to whoever connects.
func old(t *testing.T, version string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, `INFO {"server_id":"X","version":%q,"proto":1,"headers":true,"host":"127.0.0.1","port":%d,"max_payload":1048576,"jetstream":true}`+"\r\n", version, port)
				for s := bufio.NewScanner(c); s.Scan(); {
					if strings.HasPrefix(s.Text(), "PING") {
						fmt.Fprint(c, "PONG\r\n")
					}
				}
			}()
		}
	}()
	return "nats://" + l.Addr().String()
}

// A NATS that is not there or too old ends each command with one error, before anything is done.
func TestNATSRefused(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/shop.yaml"
	if err := os.WriteFile(file, []byte(oneTarget), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"SHOP_URL=postgres://127.0.0.1:1/a", "WAREHOUSE_URL=postgres://127.0.0.1:1/b"}
	ancient := old(t, "2.10.22")
	for _, command := range [][]string{{"run", file}, {"deploy", file}, {"capture", "shop"}, {"worker"}, {"list"}} {
		got := attempt{args: append(command, "--nats", "nats://127.0.0.1:1"), env: env}.refused(t, exitRuntime)
		contains(t, got, "connect to NATS at nats://127.0.0.1:1", "is nats-server running there? start it or correct the URL")
		got = attempt{args: append(command, "--nats", ancient), env: env}.refused(t, exitRuntime)
		contains(t, got, "nats-server at "+ancient+" is version 2.10.22: Runnel needs 2.14 or newer", "upgrade the server")
	}
}

// In several processes: a second agent waits as a standby, and takes over within 10 s of the first one's death; the stream holds
// each change once. When the slot is gone, both say so.
func TestStandby(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, oneTarget)
	server, err := stream.Start(stream.Embedded{Dir: p.dir + "/nats", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	p.env = append(p.env, "RUNNEL_NATS_URL="+server.ClientURL(), "RUNNEL_NATS_SYNC_INTERVAL=100ms", "RUNNEL_HTTP=none")
	err = os.Mkdir(p.dir+"/data", 0o755)
	if err == nil { // where the harness finds it
		err = os.WriteFile(p.dir+"/data/nats.json", fmt.Appendf(nil, `{"url": %q}`, server.ClientURL()), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.fill(1000)
	if out, err := p.output("deploy", p.yaml); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	process := func(args ...string) *pipeline {
		q := &pipeline{t: t, env: p.env, dir: p.dir, program: p.program}
		q.command(args...)
		t.Cleanup(func() {
			if q.cmd != nil {
				q.kill()
			}
			if t.Failed() {
				t.Logf("%v:\n%s", args, q.log.String())
			}
		})
		return q
	}
	worker := process("worker")
	first := process("capture", "shop")
	first.logged("capture started", 30*time.Second)
	second := process("capture", "shop")
	second.logged("standby: another agent holds the slot", 30*time.Second)
	stop := p.traffic(4, 100)
	<-time.After(time.Second)

	first.kill()
	began := time.Now()
	second.logged("capture started", 20*time.Second)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the standby took over after %v", took)
	}
	stop()
	p.equal(60 * time.Second)
	p.exact()

	second.stop()
	p.exec(p.source.PostgresURL(), `update orders set comment = 'lost'`, `select pg_drop_replication_slot('runnel_shop')`)
	for range 2 {
		got := attempt{args: []string{"capture", "shop"}, env: p.env}.refused(t, exitRuntime)
		contains(t, got, "runnel: source shop: ", "gap: ", "run once with --resnapshot")
	}
	third := process("capture", "shop", "--resnapshot")
	p.equal(60 * time.Second)
	third.stop()
	worker.stop()
}

// A full disk under the embedded store stops nothing for good: capture waits and says why, and all arrives when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, oneTarget)
	data := p.dir + "/data"
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", data).CombinedOutput(); err != nil {
		t.Skipf("no small disk to fill: mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
		if err := syscall.Unmount(data, 0); err != nil {
			t.Errorf("unmount %s: %v", data, err)
		}
	})
	p.fill(1000)
	p.start()
	p.equal(60 * time.Second)
	p.exec(p.source.PostgresURL(), `insert into orders (id, customer_id, status, amount, comment)
		select 900000 + i, i, 'big', i, repeat(md5(i::text), 60) from generate_series(1, 15000) i`)
	p.logged("the embedded JetStream cannot write", 60*time.Second)
	p.change(1)
	if out, err := exec.Command("mount", "-o", "remount,size=400m", data).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v: %s", err, out)
	}
	p.equal(90 * time.Second)
	p.exact()
	p.failedOnce("the disk under JetStream's store is full", "make room in "+data)
	p.stop()
}
