// Package nats publishes events on other subjects: of the same server, of another one, of another account or JetStream domain; one
// message per event, whose payload is the event as its source's stream has it.
//
// What a reader of these subjects can rely on:
//   - An event counts as done once a stream has acknowledged it, so each is there at least once. Within the stream's duplicate
//     window it is there once: Nats-Msg-Id is the same each time that a generation publishes it.
//   - Events of one row are in order: the next one is published once the one before it is acknowledged. After a crash the last
//     ones may be there again, and end with the newest one. What a worker that was thought to be dead still sends comes late, so who must
//     never go back compares Runnel-Version, which grows along the source's stream, for ever.
//
// TRUNCATE, and what a backfill finds to be gone, is not told.
package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Config of a sink. Secrets are resolved.
type Config struct {
	Function                  string
	URL                       string // nats://host:port, comma separated
	Subject                   string // {source}, {schema}, {table}, {partition}, {op} and {id} are replaced; default {source}.{schema}.{table}
	Stream                    string // that must take it; default: whichever does
	Domain                    string // of JetStream; default: the server's own
	User, Password, Token     string
	CredsFile, NKeyFile       string
	CAFile, CertFile, KeyFile string
}

// Sink is the handler. Its methods may be called by several goroutines.
type Sink struct {
	cfg    Config
	places places

	mu     sync.Mutex
	nc     *nats.Conn // nil before it is needed
	js     jetstream.JetStream
	denied string // what the account may not do, as the server said last
}

var (
	_ functions.Handler   = (*Sink)(nil)
	_ functions.Checker   = (*Sink)(nil)
	_ functions.Closer    = (*Sink)(nil)
	_ functions.Previewer = (*Sink)(nil)
)

// New checks the configuration; nothing is opened.
func New(c Config) (*Sink, error) {
	if c.URL == "" {
		return nil, errors.New("nats: url: want nats://host:4222")
	}
	if c.Subject == "" {
		c.Subject = "{source}.{schema}.{table}"
	}
	return &Sink{cfg: c}, nil
}

// Close ends the connection.
func (s *Sink) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nc != nil {
		s.nc.Close()
		s.nc = nil
	}
}

// stream is JetStream over a connection that is made once and comes back by itself.
func (s *Sink) stream(ctx context.Context) (jetstream.JetStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nc != nil {
		return s.js, nil
	}
	nc, err := nats.Connect(s.cfg.URL, s.options(ctx)...)
	if err != nil {
		return nil, refused(err)
	}
	options := []jetstream.JetStreamOpt{jetstream.WithPublishAsyncMaxPending(1 << 20), jetstream.WithPublishAsyncTimeout(mostWait)}
	if s.cfg.Domain != "" {
		s.js, err = jetstream.NewWithDomain(nc, s.cfg.Domain, options...)
	} else {
		s.js, err = jetstream.New(nc, options...)
	}
	if err != nil {
		nc.Close()
		return nil, functions.Halt(fmt.Errorf("nats: %w", err))
	}
	s.nc = nc
	return s.js, nil
}

// mostWait is after what time an acknowledgement is forgotten that nobody waits for any more.
const mostWait = time.Minute

func (s *Sink) options(ctx context.Context) []nats.Option {
	c := s.cfg
	options := []nats.Option{
		nats.Name("runnel " + c.Function),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectBufSize(-1), // what was published while it was away must not come later, by surprise
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.IgnoreAuthErrorAbort(), // a password that is being rotated comes back
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.denied = err.Error()
			}
		}),
	}
	if t, ok := ctx.Deadline(); ok {
		options = append(options, nats.Timeout(max(time.Until(t), 10*time.Millisecond)))
	}
	if c.User != "" {
		options = append(options, nats.UserInfo(c.User, c.Password))
	}
	if c.Token != "" {
		options = append(options, nats.Token(c.Token))
	}
	if c.CredsFile != "" {
		options = append(options, nats.UserCredentials(c.CredsFile))
	}
	if c.NKeyFile != "" {
		options = append(options, func(o *nats.Options) error {
			nkey, err := nats.NkeyOptionFromSeed(c.NKeyFile)
			if err != nil {
				return fmt.Errorf("read the nkey in %s: %w", c.NKeyFile, err)
			}
			return nkey(o)
		})
	}
	if c.CAFile != "" {
		options = append(options, nats.RootCAs(c.CAFile))
	}
	if c.CertFile != "" {
		options = append(options, nats.ClientCert(c.CertFile, c.KeyFile))
	}
	return options
}

// Check looks for a stream that takes the subject of each table.
func (s *Sink) Check(ctx context.Context, schemas []*event.Schema) error {
	js, err := s.stream(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for _, schema := range schemas {
		subject := s.subject(functions.Item{Event: &event.Event{Op: event.Create, Source: schema.Source, Table: schema.Table, Schema: schema}}, "id")
		faults = append(faults, s.takes(ctx, js, subject))
	}
	return errors.Join(faults...)
}

// takes asks which stream takes a subject. An account that may only publish gets no answer: then the first event tells.
func (s *Sink) takes(ctx context.Context, js jetstream.JetStream, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	name, err := js.StreamNameBySubject(ctx, subject)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return functions.Halt(fmt.Errorf("nats: no stream takes %s: create one, such as with `nats stream add %s --subjects %q`", subject, s.suggested(), s.covering()))
	case errors.Is(err, context.DeadlineExceeded) && js.Conn().IsConnected():
		return nil
	case err != nil:
		return fmt.Errorf("nats: which stream takes %s: %w", subject, err)
	case s.cfg.Stream != "" && name != s.cfg.Stream:
		return functions.Halt(fmt.Errorf("nats: stream %s takes %s, and the target names %s: correct the stream, or the subject", name, subject, s.cfg.Stream))
	}
	return nil
}

func (s *Sink) suggested() string {
	if s.cfg.Stream != "" {
		return s.cfg.Stream
	}
	return "EVENTS"
}

// covering is a wildcard for all that the sink publishes.
func (s *Sink) covering() string {
	tokens := strings.Split(s.cfg.Subject, ".")
	for i, t := range tokens {
		if strings.Contains(t, "{") {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, ".")
}
