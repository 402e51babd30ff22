// Package servers starts real database servers as private child processes
// on 127.0.0.1, each in its own temporary directory, for end-to-end tests.
package servers

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Services is the folder that scripts/services filled: $RUNNEL_SERVICES, or /var/cache/runnel/services for root, else
// runnel/services in the user's cache folder.
func Services() string {
	if d := os.Getenv("RUNNEL_SERVICES"); d != "" {
		return d
	}
	if os.Getuid() == 0 {
		return "/var/cache/runnel/services"
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return ".services"
	}
	return filepath.Join(d, "runnel", "services")
}

// TB is what a server needs of a test; *testing.T is one, and programs bring their own.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// missing skips the test by name, or fails it in CI.
func missing(t TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("no %s: run scripts/services", what)
	}
	t.Skipf("no %s: run scripts/services", what)
}

// Server is one running child process.
type Server struct {
	Addr  string // host:port
	Port  int
	Dir   string
	start func() error // starts the process again
	ready func() error
	cmd   *exec.Cmd
	done  chan struct{}

	postgres postgres // of a PostgreSQL server
	mysql    mysql    // of one of MySQL or MariaDB
}

// Kill stops the server the hard way (crash tests), its children too: PostgreSQL starts no second time before they are gone.
func (s *Server) Kill() {
	select {
	case <-s.done:
		return
	default:
	}
	_ = s.cmd.Process.Signal(syscall.SIGSTOP) // so that it starts no others; an error means that it has ended
	pids := children(s.cmd.Process.Pid)
	_ = s.cmd.Process.Kill()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-s.done
	for _, pid := range pids {
		gone(pid)
	}
}

// children are the processes that a process started. Elsewhere than on Linux they are not known.
func children(pid int) []int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone waits until a process that was killed has let go of everything. It may stay as a zombie that nobody asks for.
func gone(pid int) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, state, _ := strings.Cut(string(b), ") "); err != nil || strings.HasPrefix(state, "Z") {
			return
		}
	}
}

// Stop asks the server to stop with sig and waits for it.
func (s *Server) Stop(sig os.Signal) {
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.done:
	case <-time.After(30 * time.Second):
		s.Kill()
	}
}

// Restart starts a stopped server again, with the same data and port.
func (s *Server) Restart(t TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	s.wait(t)
}

// freePort is a port for a server to listen at, also when it is started again: below those that Linux gives to connections
// (ip_local_port_range begins at 32768), which would take it while the server is away, and never the same twice.
func freePort(t TB) int {
	const first, end = 10_000, 32_000
	for range 1000 {
		port := first + rand.IntN(end-first)
		if _, taken := ports.LoadOrStore(port, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatalf("no port between %d and %d is free", first, end)
	return 0
}

// ports that this process has given to servers.
var ports sync.Map

// tempDir is short (Unix sockets allow 107 bytes) and open to other users.
func tempDir(t TB, name string) string {
	d, err := os.MkdirTemp("", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

// start runs the command until ready says nil; its output goes to a log shown
// when the test fails. Its stdin stays open until this process ends.
func start(t TB, dir string, port int, cred *syscall.Credential, sig os.Signal, ready func() error, stdin []byte, bin string, args ...string) *Server {
	t.Helper()
	s := &Server{Dir: dir, Port: port, Addr: fmt.Sprintf("127.0.0.1:%d", port), ready: ready}
	s.start = func() error {
		log, err := os.OpenFile(dir+"/server.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer log.Close()
		cmd := exec.Command(bin, args...)
		cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME="+dir, "LIBFFI_TMPDIR="+dir+"/tmp") // the last for Elasticsearch
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		_, _ = in.Write(stdin) // an error means that the server ended: wait says so
		stopWatch, err := watch(cmd.Process.Pid)
		if err != nil {
			return err
		}
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); in.Close(); stopWatch(); close(done) }()
		s.cmd, s.done = cmd, done
		return nil
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-s.done:
		default:
			s.Stop(sig)
		}
		if t.Failed() {
			b, _ := os.ReadFile(dir + "/server.log")
			t.Logf("%s:\n%s", bin, b[max(0, len(b)-10000):])
		}
	})
	s.wait(t)
	return s
}

// watch ends a server whose test was killed or ran out of time: a shell waits for the end of this process.
func watch(pid int) (stop func(), err error) {
	cmd := exec.Command("sh", "-c", `cat >/dev/null; kill -QUIT "$0"`, strconv.Itoa(pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // before the pipe closes: the number may be another's by now
		_ = cmd.Wait()
		in.Close()
	}, nil
}

func (s *Server) wait(t TB) {
	t.Helper()
	var err error
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = s.ready(); err == nil {
			return
		}
		select {
		case <-s.done:
			t.Fatalf("%s ended: %v\n%s", s.cmd.Path, s.cmd.ProcessState, s.lastWords())
		default:
		}
	}
	t.Fatalf("%s did not start: %v\n%s", s.cmd.Path, err, s.lastWords())
}

// lastWords is the end of the server's log.
func (s *Server) lastWords() []byte {
	log, err := os.ReadFile(s.Dir + "/server.log")
	if err != nil {
		return []byte(err.Error())
	}
	return log[max(0, len(log)-2000):]
}

// httpOK is ready when the URL answers 200.
func httpOK(url, user, password string) func() error {
	return func() error {
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			return err
		}
		req.SetBasicAuth(user, password)
		c := http.Client{Timeout: 5 * time.Second}
		r, err := c.Do(req)
		if err != nil {
			return err
		}
		r.Body.Close()
		if r.StatusCode != 200 {
			return errors.New(r.Status)
		}
		return nil
	}
}

// unprivileged returns credentials for servers that refuse to run as root.
func unprivileged(t TB, dir string) *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, n := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(n); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			if err := os.Chown(dir, uid, gid); err != nil {
				t.Fatal(err)
			}
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Fatal("no unprivileged user")
	return nil
}

func exists(p string) bool { _, err := os.Stat(p); return err == nil }

// HasElasticsearch says whether it is installed and Java is there.
func HasElasticsearch() bool {
	_, err := exec.LookPath("java")
	return exists(Services()+"/elasticsearch") && (err == nil || os.Getenv("JAVA_HOME") != "")
}

// Elasticsearch starts one node; with a password, security is on and the user
// is elastic. Settings are "name=value".
//
// The node's own launcher is a second JVM (2 s, 100 MB), whose only work is to
// hand the node its settings on stdin: we do that here. The node ends when
// stdin does.
func Elasticsearch(t TB, password string, settings ...string) *Server {
	t.Helper()
	home, err := filepath.Abs(Services() + "/elasticsearch")
	if err != nil {
		t.Fatal(err)
	}
	bridge, _ := filepath.Glob(home + "/lib/entitlement-bridge/*.jar")
	if len(bridge) != 1 {
		missing(t, "Elasticsearch")
	}
	java, err := exec.LookPath("java")
	if h := os.Getenv("JAVA_HOME"); h != "" {
		java, err = h+"/bin/java", nil
	}
	if err != nil {
		missing(t, "java")
	}
	// The node attaches its security agent to itself through a socket in /tmp, whatever TMPDIR says.
	if fi, err := os.Stat("/tmp"); err != nil || fi.Mode()&0o002 == 0 {
		t.Fatal("Elasticsearch needs a /tmp that everybody can write: chmod 1777 /tmp")
	}
	dir := tempDir(t, "es")
	cred := unprivileged(t, dir)
	for _, d := range []string{"config", "tmp"} {
		err := os.Mkdir(dir+"/"+d, 0o755)
		if err == nil && cred != nil {
			err = os.Chown(dir+"/"+d, int(cred.Uid), int(cred.Gid))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/config/log4j2.properties", []byte("status = error\nappender.c.type = Console\nappender.c.name = c\nappender.c.layout.type = PatternLayout\n"+
		"appender.c.layout.pattern = %d{ISO8601} %-5p %c{1.} %m%n\nrootLogger.level = info\nrootLogger.appenderRef.c.ref = c\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	set := map[string]string{"cluster.name": "test", "node.name": "test", "discovery.type": "single-node", "network.host": "127.0.0.1",
		"http.port": strconv.Itoa(port), "transport.port": strconv.Itoa(freePort(t)), "path.home": home, "path.data": dir + "/data", "path.logs": dir + "/logs",
		"cluster.routing.allocation.disk.threshold_enabled": "false", "xpack.security.enabled": strconv.FormatBool(password != "")}
	secrets := map[string]string{"keystore.seed": "0123456789abcdefghij"}
	if password != "" {
		secrets["bootstrap.password"] = password
	}
	for _, kv := range settings {
		k, v, _ := strings.Cut(kv, "=")
		set[k] = v
	}
	if port, err = strconv.Atoi(set["http.port"]); err != nil {
		t.Fatal(err)
	}
	health := fmt.Sprintf("http://127.0.0.1:%d/_cluster/health", port) // GET / answers 405: its module is not in this package
	return start(t, dir, port, cred, syscall.SIGTERM, httpOK(health, "elastic", password), esArgs(secrets, set, dir+"/config", dir+"/logs"), java,
		"-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss1m", "-XX:-OmitStackTraceInFastThrow", "-XX:+ExitOnOutOfMemoryError",
		"-Djava.awt.headless=true", "-Dfile.encoding=UTF-8", "-Djava.locale.providers=CLDR", "-Djava.io.tmpdir="+dir+"/tmp",
		"-Dio.netty.noUnsafe=true", "-Dio.netty.noKeySetOptimization=true", "-Dio.netty.recycler.maxCapacityPerThread=0",
		"-Dlog4j.shutdownHookEnabled=false", "-Dlog4j2.disable.jmx=true", "-Des.path.home="+home, "-Des.distribution.type=zip",
		"-Des.networkaddress.cache.ttl=60", "-Des.networkaddress.cache.negative.ttl=10", "-Des.entitlements.enabled=true",
		"-XX:+EnableDynamicAgentLoading", "-Djdk.attach.allowAttachSelf=true", "--patch-module=java.base="+bridge[0],
		"--add-exports=java.base/org.elasticsearch.entitlement.bridge=org.elasticsearch.entitlement,java.logging,java.net.http,java.naming,jdk.net",
		"--module-path="+home+"/lib", "--add-modules=jdk.net,jdk.management.agent,ALL-MODULE-PATH", "-m", "org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch")
}

// esArgs encodes what the launcher sends to the node (org.elasticsearch.bootstrap.ServerArgs).
func esArgs(secrets, settings map[string]string, config, logs string) []byte {
	var b []byte
	str := func(v string) { b = append(binary.AppendUvarint(b, uint64(len(v))), v...) } // ASCII only
	b = append(b, 0, 0, 0)                                                              // not a daemon, not quiet, no pid file
	str("org.elasticsearch.common.settings.KeyStoreWrapper")
	b = append(b, 0, 0, 0, 7, 0, 0) // format, no password, no encrypted data
	b = binary.AppendUvarint(b, uint64(len(secrets)))
	for k, v := range secrets {
		str(k)
		str(v)
		sum := sha256.Sum256([]byte(v))
		str(string(sum[:]))
	}
	b = append(b, 0) // not closed
	b = binary.AppendUvarint(b, uint64(len(settings)))
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		str(k)
		b = append(b, 0) // a string
		str(settings[k])
	}
	str(config)
	str(logs)
	return b
}

// ClickHouse starts the chdbserver, the real engine behind our own front: HTTP
// on Addr, the native protocol on the second result.
func ClickHouse(t TB) (s *Server, native string) {
	t.Helper()
	lib := Services() + "/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so"
	if !exists(lib) || !exists(Services()+"/chdbserver") {
		missing(t, "ClickHouse engine")
	}
	dir := tempDir(t, "ch")
	port := freePort(t)
	native = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	url := fmt.Sprintf("http://127.0.0.1:%d/ping", port)
	return start(t, dir, port, nil, syscall.SIGTERM, httpOK(url, "", ""), nil, Services()+"/chdbserver", "-lib", lib, "-path", dir+"/data",
		"-addr", fmt.Sprintf("127.0.0.1:%d", port), "-tcp", native, "-exit-on-stdin-eof"), native
}
