package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"github.com/runnel-dev/runnel/runtime/process"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// natsFlags say where JetStream is.
type natsFlags struct{ process.NATS }

func (n *natsFlags) add(f *pflag.FlagSet) { n.Flags(f) }

// session is a connection with the records that lie behind it.
type session struct {
	conn     *stream.Conn
	registry *registry.Registry
	config   stream.Config  // of more connections to an external NATS
	server   *stream.Server // the embedded one, if it runs here
	close    func()
}

func newSession(s *process.Session, err error) (*session, error) {
	if err != nil {
		return nil, err
	}
	return &session{conn: s.Conn, registry: s.Registry, config: s.Config, server: s.Server, close: s.Close}, nil
}

// connect reaches a JetStream that runs already.
func (n *natsFlags) connect(ctx context.Context) (*session, error) { return newSession(n.Connect(ctx)) }

// embed starts one in this process.
func (n *natsFlags) embed(ctx context.Context, listen string, log *slog.Logger) (*session, process.Access, error) {
	made, access, err := n.Embed(ctx, listen, log)
	s, err := newSession(made, err)
	return s, access, err
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
