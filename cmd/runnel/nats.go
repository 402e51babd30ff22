package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// natsFlags say where JetStream is: at a URL, or inside the `runnel run` of a data folder.
type natsFlags struct {
	data   string
	config stream.Config
}

func (n *natsFlags) add(f *pflag.FlagSet) {
	f.StringVar(&n.data, "data", ".runnel", "folder of the embedded JetStream")
	f.StringVar(&n.config.URL, "nats", "", "URL of an external NATS instead, such as nats://host:4222 (also RUNNEL_NATS_URL)")
	f.StringVar(&n.config.User, "nats-user", "", "user")
	f.StringVar(&n.config.Password, "nats-password", "", "password; better in RUNNEL_NATS_PASSWORD")
	f.StringVar(&n.config.Token, "nats-token", "", "token; better in RUNNEL_NATS_TOKEN")
	f.StringVar(&n.config.CredsFile, "nats-creds", "", "file with JWT and seed")
	f.StringVar(&n.config.NKeyFile, "nats-nkey", "", "file with an nkey's seed")
	f.StringVar(&n.config.CAFile, "nats-ca", "", "file with the certificates that the server's is checked against")
	f.StringVar(&n.config.CertFile, "nats-cert", "", "file with the client's certificate")
	f.StringVar(&n.config.KeyFile, "nats-key", "", "file with the client certificate's key")
	f.DurationVar(&n.config.SyncInterval, "nats-sync-interval", 0, "the servers' sync_interval (default 2m, as theirs; 100ms for the embedded one); what JetStream stored counts as durable after twice that")
	f.IntVar(&n.config.Replicas, "nats-replicas", 0, "copies of what is created (default 3 on a cluster, else 1)")
}

func (n *natsFlags) external() bool { return n.config.URL != "" }

// access is how other commands reach the embedded JetStream of a data folder: <data>/nats.json, readable by its owner only.
type access struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Password string `json:"password"`
	Sync     string `json:"sync_interval"` // of its store
}

func (n *natsFlags) accessFile() string { return filepath.Join(n.data, "nats.json") }

func (n *natsFlags) readAccess() (access, error) {
	var a access
	b, err := os.ReadFile(n.accessFile())
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("%s: %w; delete the file and start runnel run again", n.accessFile(), err)
	}
	return a, nil
}

// writeAccess replaces the file as a whole.
func (n *natsFlags) writeAccess(a access) error {
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	next := n.accessFile() + ".new"
	if err := os.WriteFile(next, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(next, n.accessFile())
}

// session is a connection with the records that lie behind it.
type session struct {
	conn     *stream.Conn
	registry *registry.Registry
	config   stream.Config  // of more connections to an external NATS
	server   *stream.Server // the embedded one, if it runs here
}

func (s *session) close() {
	s.conn.Close()
	if s.server != nil {
		s.server.Stop()
	}
}

// connect reaches a JetStream that runs already.
func (n *natsFlags) connect(ctx context.Context) (*session, error) {
	config := n.config
	config.Name = "runnel"
	if !n.external() {
		a, err := n.readAccess()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, misconfigured("no JetStream: no runnel run was started in %s; name its folder with --data, or a server with --nats nats://host:4222", n.data)
		}
		if err != nil {
			return nil, err
		}
		config.URL, config.User, config.Password, config.Replicas = a.URL, a.User, a.Password, 1
		if config.SyncInterval, err = time.ParseDuration(a.Sync); err != nil {
			return nil, fmt.Errorf("%s: sync_interval: %w; delete the file and start runnel run again", n.accessFile(), err)
		}
	}
	conn, err := stream.Connect(ctx, config)
	if err != nil {
		if !n.external() {
			return nil, fmt.Errorf("%w; is runnel run running in %s?", err, n.data)
		}
		return nil, err
	}
	return n.open(ctx, &session{conn: conn, config: config})
}

func (n *natsFlags) open(ctx context.Context, s *session) (*session, error) {
	var err error
	if s.registry, err = registry.Open(ctx, s.conn); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// Ports of the embedded JetStream: the first is NATS' own, and the next ones are tried if it is taken.
const (
	firstPort = 4222
	lastPort  = 4321
)

// embeddedSync is how often the embedded store reaches the disk: what is durable after 1.2 s moves the source's log.
const embeddedSync = 100 * time.Millisecond

// embed starts a JetStream in this process. listen is the address that the operator asked for, or "".
func (n *natsFlags) embed(ctx context.Context, listen string, log *slog.Logger) (*session, access, error) {
	if err := os.MkdirAll(n.data, 0o700); err != nil {
		return nil, access{}, fmt.Errorf("make the data folder: %w; choose another one with --data", err)
	}
	a, err := n.readAccess()
	if errors.Is(err, fs.ErrNotExist) {
		a, err = access{User: "runnel", Password: rand.Text()}, nil
	}
	if err != nil {
		return nil, a, err
	}
	sync := n.config.SyncInterval
	if sync == 0 {
		sync = embeddedSync
	}
	server, err := atFree(listen, firstPort, lastPort, func(address string) (*stream.Server, error) {
		return stream.Start(stream.Embedded{
			Dir: filepath.Join(n.data, "jetstream"), Listen: address, User: a.User, Password: a.Password, SyncInterval: sync,
			Log: slog.New(demoted{log.Handler()}),
		})
	})
	if err != nil {
		return nil, a, err
	}
	a.URL, a.Sync = server.ClientURL(), sync.String()
	if err := n.writeAccess(a); err != nil {
		server.Stop()
		return nil, a, fmt.Errorf("write how to connect: %w", err)
	}
	conn, err := server.Connect(ctx, "runnel")
	if err != nil {
		server.Stop()
		return nil, a, err
	}
	s, err := n.open(ctx, &session{conn: conn, server: server})
	return s, a, err
}

// atFree listens at the address that the operator asked for, or else at the first port of this machine that nobody uses; where all are
// taken, the system chooses one.
func atFree[T any](address string, first, last int, listen func(address string) (T, error)) (T, error) {
	if address != "" {
		return listen(address)
	}
	for port := first; port <= last; port++ {
		l, err := listen(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
	return listen("127.0.0.1:0")
}

// stream opens the stream of a source, or creates it with the replicas that its specification asks for.
func (s *session) stream(ctx context.Context, source *registry.Source) (*stream.Stream, func(), error) {
	conn, done := s.conn, func() {}
	if source.Stream.Replicas > 0 && s.server == nil && s.config.Replicas == 0 {
		config := s.config
		config.Replicas = source.Stream.Replicas
		c, err := stream.Connect(ctx, config)
		if err != nil {
			return nil, nil, err
		}
		conn, done = c, c.Close
	}
	st, err := stream.Create(ctx, conn, source.Name, stream.Settings{
		Partitions: source.Stream.Partitions, MaxAge: source.Stream.MaxAge, MaxBytes: source.Stream.MaxBytes,
	})
	if err != nil {
		done()
		return nil, nil, err
	}
	return st, done, nil
}

// commandTimeout bounds commands that ask and go.
const commandTimeout = 30 * time.Second
