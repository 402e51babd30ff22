package stream_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// external runs a server that is configured otherwise than the embedded one.
func external(t testing.TB, o *server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	if o.JetStream {
		o.StoreDir = t.TempDir()
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(*patience) {
		t.Fatal("not ready")
	}
	return s.ClientURL()
}

// fails asserts that an error names all of these.
func fails(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestConnectErrors(t *testing.T) {
	t.Parallel()
	connect := func(c stream.Config) error {
		conn, err := stream.Connect(deadline(t, *patience), c)
		if err == nil {
			conn.Close()
		}
		return err
	}
	free := "nats://" + freePort(t)
	fails(t, connect(stream.Config{URL: free}), free, "start it")
	fails(t, connect(stream.Config{}), "no URL")
	fails(t, connect(stream.Config{URL: "nats://a b"}), "malformed")
	fails(t, connect(stream.Config{URL: free, NKeyFile: "/nowhere/user.nk"}), "/nowhere/user.nk")

	plain := external(t, &server.Options{})
	fails(t, connect(stream.Config{URL: plain}), "JetStream is not enabled", "-js")

	guarded := external(t, &server.Options{JetStream: true, Username: "runnel", Password: "secret"})
	err := connect(stream.Config{URL: strings.Replace(guarded, "://", "://runnel:wr0ng@", 1)})
	fails(t, err, "check user, password")
	if err != nil && strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("%q shows the password", err)
	}
	if err := connect(stream.Config{URL: strings.Replace(guarded, "://", "://runnel:secret@", 1)}); err != nil {
		t.Error(err)
	}
	if err := connect(stream.Config{URL: guarded, User: "runnel", Password: "secret"}); err != nil {
		t.Error(err)
	}
	token := external(t, &server.Options{JetStream: true, Authorization: "t0ken"})
	if err := connect(stream.Config{URL: token, Token: "t0ken"}); err != nil {
		t.Error(err)
	}

	account := server.NewAccount("without")
	other := external(t, &server.Options{
		JetStream: true, Accounts: []*server.Account{account, server.NewAccount("SYS")}, SystemAccount: "SYS",
		Users: []*server.User{{Username: "u", Password: "p", Account: account}},
	})
	fails(t, connect(stream.Config{URL: other, User: "u", Password: "p"}), "account")

	old := tooOld(t)
	fails(t, connect(stream.Config{URL: old}), "2.9.1", "2.14", "upgrade")
}

// tooOld speaks as much of the protocol as an old server's greeting needs.
func tooOld(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "INFO {\"server_id\":\"x\",\"version\":\"2.9.1\",\"headers\":true,\"max_payload\":1048576}\r\n")
			buf := make([]byte, 4096)
			for all := ""; ; {
				n, err := c.Read(buf)
				if all += string(buf[:n]); strings.Contains(all, "PING") {
					_, _ = fmt.Fprintf(c, "PONG\r\n")
					all = ""
				}
				if err != nil {
					break
				}
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "nats://" + l.Addr().String()
}

func TestConnectWithNKey(t *testing.T) {
	t.Parallel()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := pair.PublicKey()
	seed, _ := pair.Seed()
	file := filepath.Join(t.TempDir(), "user.nk")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	url := external(t, &server.Options{JetStream: true, Nkeys: []*server.NkeyUser{{Nkey: public}}})
	c, err := stream.Connect(deadline(t, *patience), stream.Config{URL: url, NKeyFile: file})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The chain's own connections use the same credentials.
	s := create(t, c, "shop")
	warm(t, chain(t, s, 1, stream.ChainOptions{}), "shop")
}

func TestHorizonAndLimits(t *testing.T) {
	t.Parallel()
	s := start(t, stream.Embedded{Listen: "127.0.0.1:0", User: "u", Password: "p", SyncInterval: 300 * time.Millisecond})
	in := within(t, s)
	out, err := stream.Connect(t.Context(), stream.Config{URL: s.ClientURL(), User: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if got, want := in.Horizon(), 1600*time.Millisecond; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := out.Horizon(), 4*time.Minute+time.Second; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := in.MaxMessage(); got >= 8<<20 || got < 8<<20-64<<10 {
		t.Errorf("got %d", got)
	}
	if in.Replicas() != 1 || out.Replicas() != 1 {
		t.Errorf("got %d and %d", in.Replicas(), out.Replicas())
	}
}

func TestEmbeddedErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, stream.Embedded{Dir: dir, Listen: "127.0.0.1:0"})
	_, err := stream.Start(stream.Embedded{Dir: dir})
	fails(t, err, dir, fmt.Sprint(os.Getpid()), "in use")
	_, err = stream.Start(stream.Embedded{Dir: t.TempDir(), Listen: strings.TrimPrefix(s.ClientURL(), "nats://")})
	fails(t, err, "listen on 127.0.0.1", "choose another")
	_, err = stream.Start(stream.Embedded{Dir: t.TempDir(), Listen: "nonsense"})
	fails(t, err, "host:port")
	_, err = stream.Start(stream.Embedded{})
	fails(t, err, "folder")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Start(stream.Embedded{Dir: filepath.Join(file, "store")})
	fails(t, err, file, "choose")
	s.Stop()
	s.Stop()
	start(t, stream.Embedded{Dir: dir}) // the lock is gone with its owner
}

func TestCreateChecksWhatExists(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	ctx := deadline(t, *patience)
	if _, err := stream.Open(ctx, c, "shop"); !errors.Is(err, stream.ErrNoStream) {
		t.Errorf("got %v", err)
	}
	s, err := stream.Create(ctx, c, "shop", stream.Settings{Partitions: 4})
	if err != nil || s.Partitions() != 4 || s.Name() != "CDC_shop" || s.Source() != "shop" || time.Since(s.Created()) > time.Minute {
		t.Fatalf("got %+v, %v", s, err)
	}
	if _, err := stream.Create(ctx, c, "shop", stream.Settings{Partitions: 4, MaxAge: time.Hour, MaxBytes: 1 << 30}); err != nil {
		t.Error(err)
	}
	js, _ := jetstream.New(c.NC)
	have, err := js.Stream(ctx, "CDC_shop")
	if err != nil {
		t.Fatal(err)
	}
	got := have.CachedInfo().Config
	if got.MaxAge != time.Hour || got.MaxBytes != 1<<30 || got.Discard != jetstream.DiscardOld || !got.DenyDelete || !got.DenyPurge || !got.AllowDirect ||
		!got.AllowAtomicPublish || got.Duplicates != 2*time.Second || got.Storage != jetstream.FileStorage || got.Subjects[0] != "cdc.shop.>" || got.Metadata["runnel-partitions"] != "4" {
		t.Errorf("got %+v", got)
	}
	_, err = stream.Create(ctx, c, "shop", stream.Settings{Partitions: 8})
	fails(t, err, "CDC_shop", "4 partitions, not 8", "fixed")
	_, err = stream.Create(ctx, c, "shop", stream.Settings{Partitions: 300, MaxAge: -1})
	fails(t, err, "partitions", "max_age")
	if s, err := stream.Open(ctx, c, "shop"); err != nil || s.Partitions() != 4 {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "CDC_alien", Subjects: []string{"cdc.alien.>"}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Create(ctx, c, "alien", stream.Settings{})
	fails(t, err, "storage", "allow_atomic", "nats stream edit")
	_, err = stream.Open(ctx, c, "alien")
	fails(t, err, "not made by")
}

func TestReads(t *testing.T) {
	t.Parallel()
	c := embedded(t)
	s := create(t, c, "shop")
	ctx := deadline(t, *patience)
	if e, err := s.End(ctx); err != nil || e.First != 1 || e.Last != 0 || e.Message != nil || e.MaxBytes != 10<<30 {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, ok, err := s.FenceAfter(ctx, 0); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	if _, err := s.LastOn(ctx, ">"); !errors.Is(err, stream.ErrNoMessage) {
		t.Errorf("got %v", err)
	}
	// Fences of epochs 10, 20 and 30 with messages between them; the last group stays incomplete.
	p := func(n uint64) event.Position { return event.Position{Timeline: 1, Commit: n} }
	g := event.Group{From: p(100), To: p(200), N: 4}
	var bases []uint64
	for i, epoch := range []uint32{10, 20, 30} {
		ch := chain(t, s, epoch, stream.ChainOptions{})
		bases = append(bases, ch.Sent())
		for n := range uint64(3) {
			m := outgoing("shop", fmt.Sprintf("w%d", i), n, []byte("{}"))
			if epoch == 30 {
				m.Group = g
				m.Group.K = int(n) + 1
			}
			if _, err := ch.Publish(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
		if err := ch.Wait(ctx, ch.Sent()); err != nil {
			t.Fatal(err)
		}
		ch.Close()
	}
	for epoch, want := range map[uint32]uint64{0: bases[0] - 511, 9: bases[0] - 511, 10: bases[1] - 511, 19: bases[1] - 511, 20: bases[2] - 511, 30: 0, 99: 0} {
		if got, ok, err := s.FenceAfter(ctx, epoch); got != want || ok != (want != 0) || err != nil {
			t.Errorf("fence after %d: got %d, %v, %v, want %d", epoch, got, ok, err, want)
		}
	}
	// A fence that carries the incomplete group on does not count among its messages.
	e, err := s.End(ctx)
	if err != nil || e.Last != bases[2]+3 || e.Message.Sequence != e.Last || e.Messages != e.Last || e.Bytes == 0 {
		t.Fatalf("got %+v, %v", e, err)
	}
	if _, err := s.Fence(ctx, e.Last, 40, e.Message.Group, "next"); err != nil {
		t.Fatal(err)
	}
	held, err := s.Stored(ctx, g, bases[2])
	if err != nil || len(held) != 3 || held[0].Group.K != 1 || held[2].Group.K != 3 || held[2].Sequence != e.Last {
		t.Errorf("got %d messages, %v", len(held), err)
	}
	m, err := s.Next(ctx, "cdc.shop.public.orders.2", 1)
	if err != nil || m.Sequence != bases[0]+3 {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, n := range []uint64{0, 1 << 40} {
		if _, err := s.Message(ctx, n); !errors.Is(err, stream.ErrNoMessage) {
			t.Errorf("%d: got %v", n, err)
		}
	}
}
