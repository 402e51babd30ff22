package proxy_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/e2e/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen; silence is how long nothing must.
const (
	patience = 20 * time.Second
	silence  = 50 * time.Millisecond
)

// server hands out the connections that it gets.
type server struct {
	net.Listener
	conns chan *net.TCPConn
}

func listen(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{l, make(chan *net.TCPConn, 10)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns <- c.(*net.TCPConn)
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return s
}

// pair is a connection through the proxy, seen from both sides.
func pair(t *testing.T, p *proxy.Proxy, s *server) (client, peer *net.TCPConn) {
	t.Helper()
	client = dial(t, p)
	select {
	case peer = <-s.conns:
	case <-time.After(patience):
		t.Fatal("the server was not reached")
	}
	t.Cleanup(func() { peer.Close() })
	return client, peer
}

func dial(t *testing.T, p *proxy.Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", p.Addr(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn, want string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v, want %q", got[:n], err, want)
	}
}

// silent checks that nothing comes, not even the end.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(silence))
	if n, err := c.Read(make([]byte, 100)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %d bytes, %v, want silence", n, err)
	}
}

// over checks that the connection was reset, and not closed in good order.
func over(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, want a reset", err)
	}
}

// refused checks that a new connection is reset, before or after it looks made.
func refused(t *testing.T, p *proxy.Proxy) {
	t.Helper()
	c, err := net.DialTimeout("tcp", p.Addr(), patience)
	if err == nil {
		defer c.Close()
		over(t, c)
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, want a reset", err)
	}
}

func works(t *testing.T, client, peer net.Conn) {
	t.Helper()
	send(t, client, "question")
	receive(t, peer, "question")
	send(t, peer, "answer")
	receive(t, client, "answer")
}

func TestForwards(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, "tcp://"+s.Addr().String())
	client, peer := pair(t, p, s)
	want := make([]byte, 3<<20)
	rand.Read(want)
	go func() {
		_, _ = client.Write(want)
		_ = client.CloseWrite()
	}()
	got, err := io.ReadAll(peer)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, %v, want %d", len(got), err, len(want))
	}
	// One way is closed, the other one is not.
	send(t, peer, "thanks")
	receive(t, client, "thanks")
	if n := p.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	peer.Close()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, s.Addr().String())
	a, b := pair(t, p, s)
	c, d := pair(t, p, s)
	p.Cut()
	for _, conn := range []net.Conn{a, b, c, d} {
		over(t, conn)
	}
	client, peer := pair(t, p, s)
	works(t, client, peer)
}

func TestCutAfter(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, s.Addr().String())
	client, peer := pair(t, p, s)
	p.CutAfter(proxy.ToClient, 5)
	send(t, client, "this way goes on")
	receive(t, peer, "this way goes on")
	send(t, peer, "abc")
	receive(t, client, "abc")
	send(t, peer, "defgh")
	receive(t, client, "de")
	over(t, client)
	over(t, peer)
	client, peer = pair(t, p, s)
	works(t, client, peer)
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, s.Addr().String())
	client, peer := pair(t, p, s)
	p.Refuse()
	refused(t, p)
	works(t, client, peer)
	p.Accept()
	client, peer = pair(t, p, s)
	works(t, client, peer)
}

func TestHalfOpen(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, s.Addr().String())
	client, peer := pair(t, p, s)
	works(t, client, peer)
	p.HalfOpen()
	send(t, client, "lost")
	send(t, peer, "lost")
	silent(t, peer)
	silent(t, client)
	client.Close()
	silent(t, peer)
	p.Heal()
	over(t, peer)
	client, peer = pair(t, p, s)
	works(t, client, peer)
}

func TestStrand(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, s.Addr().String())
	client, peer := pair(t, p, s)
	works(t, client, peer)
	p.Strand()
	send(t, client, "lost")
	send(t, peer, "lost")
	silent(t, client)
	other, side := pair(t, p, s)
	works(t, other, side)
	p.Heal()
	silent(t, peer)
	works(t, other, side)
	client.Close()
	silent(t, peer)
	p.Cut()
	over(t, peer)
}

func TestMute(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, s.Addr().String())
	client, peer := pair(t, p, s)
	bystander, other := pair(t, p, s)
	p.Mute(proxy.ToClient)
	send(t, client, "question")
	receive(t, peer, "question")
	send(t, peer, "lost")
	silent(t, client)
	p.Heal()
	over(t, client)
	over(t, peer)
	works(t, bystander, other) // it lost nothing
}

func TestHold(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, s.Addr().String())
	client, peer := pair(t, p, s)
	p.Hold(proxy.ToServer)
	send(t, client, "late, ")
	silent(t, peer)
	send(t, client, "and in order")
	send(t, peer, "at once")
	receive(t, client, "at once")
	p.Heal()
	receive(t, peer, "late, and in order")
	works(t, client, peer)
}

func TestDelay(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, s.Addr().String())
	client, peer := pair(t, p, s)
	const delay = 60 * time.Millisecond
	p.Delay(delay, 20*time.Millisecond)
	began := time.Now()
	for range 20 {
		send(t, client, "in order ")
	}
	for range 20 {
		receive(t, peer, "in order ")
	}
	if took := time.Since(began); took < delay {
		t.Errorf("arrived after %v, want %v", took, delay)
	}
	p.Delay(time.Hour, 0)
	send(t, client, "soon")
	silent(t, peer)
	p.Heal()
	receive(t, peer, "soon")
	works(t, client, peer)
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, s.Addr().String())
	client, peer := pair(t, p, s)
	p.Throttle(100_000)
	text := string(make([]byte, 20_000))
	began := time.Now()
	send(t, client, text)
	receive(t, peer, text)
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("20 KB at 100 KB/s came after %v", took)
	}
	p.Throttle(1)
	send(t, client, text)
	receive(t, peer, text[:1])
	silent(t, peer)
	p.Heal()
	receive(t, peer, text[1:])
	works(t, client, peer)
}

func TestRetarget(t *testing.T) {
	t.Parallel()
	first, second := listen(t), listen(t)
	p := proxy.New(t, first.Addr().String())
	client, peer := pair(t, p, first)
	p.Retarget("nats://" + second.Addr().String())
	works(t, client, peer)
	client, peer = pair(t, p, second)
	works(t, client, peer)
}

// A server that is away looks as without the proxy: the connection comes to nothing.
func TestServerAway(t *testing.T) {
	t.Parallel()
	s := listen(t)
	p := proxy.New(t, s.Addr().String())
	s.Close()
	refused(t, p)
}

// Close does not wait for what is stuck.
func TestClose(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*proxy.Proxy){
		"Nobody reads": func(*proxy.Proxy) {},
		"Held":         func(p *proxy.Proxy) { p.Hold(proxy.Both) },
		"Half open":    (*proxy.Proxy).HalfOpen,
		"Late":         func(p *proxy.Proxy) { p.Delay(time.Hour, 0) },
		"Slow":         func(p *proxy.Proxy) { p.Throttle(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := listen(t)
			p := proxy.New(t, s.Addr().String())
			client, _ := pair(t, p, s)
			fault(p)
			client.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = client.Write(make([]byte, 64<<20))
			p.Close()
			over(t, client)
			if n := p.Connections(); n != 0 {
				t.Errorf("%d connections are left", n)
			}
		})
	}
}
