package process

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

// NATS says where JetStream is: at a URL, or inside the `runnel run` of a data folder.
type NATS struct {
	Data   string // the folder
	Config stream.Config
}

// Flags adds the flags.
func (n *NATS) Flags(f *pflag.FlagSet) {
	f.StringVar(&n.Data, "data", ".runnel", "folder of the embedded JetStream")
	f.StringVar(&n.Config.URL, "nats", "", "URL of an external NATS instead, such as nats://host:4222 (also RUNNEL_NATS_URL)")
	f.StringVar(&n.Config.User, "nats-user", "", "user")
	f.StringVar(&n.Config.Password, "nats-password", "", "password; better in RUNNEL_NATS_PASSWORD")
	f.StringVar(&n.Config.Token, "nats-token", "", "token; better in RUNNEL_NATS_TOKEN")
	f.StringVar(&n.Config.CredsFile, "nats-creds", "", "file with JWT and seed")
	f.StringVar(&n.Config.NKeyFile, "nats-nkey", "", "file with an nkey's seed")
	f.StringVar(&n.Config.CAFile, "nats-ca", "", "file with the certificates that the server's is checked against")
	f.StringVar(&n.Config.CertFile, "nats-cert", "", "file with the client's certificate")
	f.StringVar(&n.Config.KeyFile, "nats-key", "", "file with the client certificate's key")
	f.DurationVar(&n.Config.SyncInterval, "nats-sync-interval", 0, "the servers' sync_interval (default 2m, as theirs; 100ms for the embedded one); what JetStream stored counts as durable after twice that")
	f.IntVar(&n.Config.Replicas, "nats-replicas", 0, "copies of what is created (default 3 on a cluster, else 1)")
}

// External says whether there is a URL.
func (n *NATS) External() bool { return n.Config.URL != "" }

// Access is how other commands reach the embedded JetStream of a data folder: <data>/nats.json, readable by its owner only.
type Access struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Password string `json:"password"`
	Sync     string `json:"sync_interval"` // of its store
}

// AccessFile is where it is kept.
func (n *NATS) AccessFile() string { return filepath.Join(n.Data, "nats.json") }

func (n *NATS) readAccess() (Access, error) {
	var a Access
	b, err := os.ReadFile(n.AccessFile())
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("%s: %w; delete the file and start runnel run again", n.AccessFile(), err)
	}
	return a, nil
}

// writeAccess replaces the file as a whole.
func (n *NATS) writeAccess(a Access) error {
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	next := n.AccessFile() + ".new"
	if err := os.WriteFile(next, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(next, n.AccessFile())
}

// Session is a connection with the records that lie behind it.
type Session struct {
	Conn     *stream.Conn
	Registry *registry.Registry
	Config   stream.Config  // of more connections to an external NATS
	Server   *stream.Server // the embedded one, if it runs here
}

// Close ends the connection, and the embedded server.
func (s *Session) Close() {
	s.Conn.Close()
	if s.Server != nil {
		s.Server.Stop()
	}
}

// Connect reaches a JetStream that runs already.
func (n *NATS) Connect(ctx context.Context) (*Session, error) {
	config := n.Config
	config.Name = "runnel"
	if !n.External() {
		a, err := n.readAccess()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, misconfigured("no JetStream: no runnel run was started in %s; name its folder with --data, or a server with --nats nats://host:4222", n.Data)
		}
		if err != nil {
			return nil, err
		}
		config.URL, config.User, config.Password, config.Replicas = a.URL, a.User, a.Password, 1
		if config.SyncInterval, err = time.ParseDuration(a.Sync); err != nil {
			return nil, fmt.Errorf("%s: sync_interval: %w; delete the file and start runnel run again", n.AccessFile(), err)
		}
	}
	conn, err := stream.Connect(ctx, config)
	if err != nil {
		if !n.External() {
			return nil, fmt.Errorf("%w; is runnel run running in %s?", err, n.Data)
		}
		return nil, err
	}
	return Open(ctx, &Session{Conn: conn, Config: config})
}

// Open opens the records behind a session's connection.
func Open(ctx context.Context, s *Session) (*Session, error) {
	var err error
	if s.Registry, err = registry.Open(ctx, s.Conn); err != nil {
		s.Close()
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

// Embed starts a JetStream in this process. listen is the address that the operator asked for, or "".
func (n *NATS) Embed(ctx context.Context, listen string, log *slog.Logger) (*Session, Access, error) {
	if err := os.MkdirAll(n.Data, 0o700); err != nil {
		return nil, Access{}, fmt.Errorf("make the data folder: %w; choose another one with --data", err)
	}
	a, err := n.readAccess()
	if errors.Is(err, fs.ErrNotExist) {
		a, err = Access{User: "runnel", Password: rand.Text()}, nil
	}
	if err != nil {
		return nil, a, err
	}
	sync := n.Config.SyncInterval
	if sync == 0 {
		sync = embeddedSync
	}
	server, err := AtFree(listen, firstPort, lastPort, func(address string) (*stream.Server, error) {
		return stream.Start(stream.Embedded{
			Dir: filepath.Join(n.Data, "jetstream"), Listen: address, User: a.User, Password: a.Password, SyncInterval: sync,
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
	s, err := Open(ctx, &Session{Conn: conn, Server: server})
	return s, a, err
}

// AtFree listens at the address that the operator asked for, or else at the first port of this machine that nobody uses; where all are
// taken, the system chooses one.
func AtFree[T any](address string, first, last int, listen func(address string) (T, error)) (T, error) {
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

// demoted takes the embedded JetStream's warnings to debug: they speak of its own recovery, and of a password that never
// leaves the machine. What stops it from storing is an error, and stays one.
type demoted struct{ slog.Handler }

func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn {
		r.Level = slog.LevelDebug
		if !d.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return d.Handler.Handle(ctx, r)
}
