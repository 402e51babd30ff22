package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

// Embedded configures the server inside the process.
type Embedded struct {
	Dir            string        // the store; one process at a time
	Listen         string        // host:port of an optional TCP listener; empty = in-process only
	User, Password string        // of the TCP listener
	SyncInterval   time.Duration // default 100 ms
	MaxPayload     int32         // default 8 MB
	Log            *slog.Logger  // what the server warns of; default: nothing
}

const (
	defaultEmbeddedSync = 100 * time.Millisecond
	defaultMaxPayload   = 8 << 20
	startTimeout        = 30 * time.Second
)

// Server is a running embedded server. While its disk is full it stores nothing; it goes on by itself when there is room.
type Server struct {
	config Embedded
	lock   *os.File
	log    *serverLog
	stop   chan struct{}
	done   sync.WaitGroup
	once   sync.Once

	mu      sync.Mutex
	running *server.Server
	trouble error
}

// Start starts it; an error names the folder or port that is in the way.
func Start(e Embedded) (*Server, error) {
	e.SyncInterval = cmp.Or(e.SyncInterval, defaultEmbeddedSync)
	e.MaxPayload = cmp.Or(e.MaxPayload, defaultMaxPayload)
	if e.Dir == "" {
		return nil, errors.New("start the embedded JetStream: no folder given for its store")
	}
	lock, err := lockDir(e.Dir)
	if err != nil {
		return nil, fmt.Errorf("start the embedded JetStream: %w", err)
	}
	s := &Server{config: e, lock: lock, stop: make(chan struct{})}
	s.log = &serverLog{to: cmp.Or(e.Log, slog.New(slog.DiscardHandler)), failed: make(chan string, 1)}
	if s.running, err = s.launch(); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("start the embedded JetStream: %w", err)
	}
	s.done.Go(s.supervise)
	return s, nil
}

// lockDir keeps other processes out of the store: two servers would destroy it.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of the store: %w; choose a folder that this user may write", err)
	}
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if errors.Is(err, unix.ENOSPC) {
		return nil, fmt.Errorf("lock the store: %w (%w): make room in %s", ErrDiskFull, err, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the store: %w; choose a folder that this user may write", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		var holder [20]byte
		n, _ := f.ReadAt(holder[:], 0)
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("the store %s is in use by process %s: stop it, or choose another folder", dir, cmp.Or(string(holder[:n]), "(unknown)"))
		}
		return nil, fmt.Errorf("lock the store %s: %w", name, err)
	}
	// Only to tell people who holds it: a full disk is no reason not to start.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	return f, nil
}

func (s *Server) options() (*server.Options, error) {
	o := &server.Options{
		ServerName:   "runnel",
		JetStream:    true,
		StoreDir:     s.config.Dir,
		SyncInterval: s.config.SyncInterval,
		MaxPayload:   s.config.MaxPayload,
		// Streams are bounded by max_bytes and the disk. The server's own guess, 3/4 of what is free at its start, would
		// refuse a stream whose limit is above that.
		JetStreamMaxStore: math.MaxInt64 / 2,
		NoSigs:            true,
		DontListen:        s.config.Listen == "",
		Username:          s.config.User,
		Password:          s.config.Password,
	}
	if s.config.Listen == "" {
		return o, nil
	}
	host, port, err := net.SplitHostPort(s.config.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: want host:port", s.config.Listen)
	}
	if o.Port, err = strconv.Atoi(port); err != nil || o.Port < 0 || o.Port > math.MaxUint16 {
		return nil, fmt.Errorf("listen address %q: want a port between 0 and 65535", s.config.Listen)
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	o.Host = cmp.Or(host, server.DEFAULT_HOST)
	return o, nil
}

// launch starts a server on the store.
func (s *Server) launch() (*server.Server, error) {
	o, err := s.options()
	if err != nil {
		return nil, err
	}
	var l net.Listener
	if !o.DontListen {
		if l, err = net.Listen("tcp", s.config.Listen); err != nil {
			return nil, fmt.Errorf("listen on %s: %w; choose another address, or stop what uses it", s.config.Listen, err)
		}
	}
	catchUp(s.config.Dir)
	srv, err := server.NewServer(o)
	if err != nil {
		if l != nil {
			_ = l.Close()
		}
		return nil, err
	}
	if l != nil && !handListener(srv, l) {
		_ = l.Close() // the server takes it again
	}
	s.log.reset()
	srv.SetLoggerV2(s.log, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) || !srv.JetStreamEnabled() {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, fmt.Errorf("the store %s: %w", s.config.Dir, s.log.fatal())
	}
	if !o.DontListen {
		s.mu.Lock()
		s.config.Listen = srv.Addr().String() // a port that was chosen stays
		s.mu.Unlock()
	}
	forgetSooner(srv)
	return srv, nil
}

// InProcessConn is a new connection to the server of the moment.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil, cmp.Or(s.trouble, errStopped)
	}
	return s.running.InProcessConn()
}

var errStopped = errors.New("the embedded JetStream is stopped")

// Connect makes an in-process connection.
func (s *Server) Connect(ctx context.Context, name string) (*Conn, error) {
	var options []nats.Option
	if s.config.User != "" {
		options = append(options, nats.UserInfo(s.config.User, s.config.Password))
	}
	return connect(ctx, &Conn{inProcess: s, options: options, sync: s.config.SyncInterval, wantReplicas: 1, trouble: s.Trouble}, name)
}

// forgetSooner is for streams that were made since the server started.
func (s *Server) forgetSooner() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		forgetSooner(s.running)
	}
}

// ClientURL is where the TCP listener is; empty where there is none.
func (s *Server) ClientURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil || s.config.Listen == "" {
		return ""
	}
	return s.running.ClientURL()
}

// Trouble says why the server stores nothing at the moment: ErrDiskFull, or another failure of the store; nil if all is well.
func (s *Server) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// Stop stops it and waits until everything is written and closed.
func (s *Server) Stop() {
	s.once.Do(func() {
		close(s.stop)
		s.done.Wait()
		s.mu.Lock()
		srv := s.running
		s.running = nil
		s.mu.Unlock()
		if srv != nil {
			srv.Shutdown()
			srv.WaitForShutdown()
		}
		_ = s.lock.Close()
	})
}
