package stream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// Config says how to reach NATS. Secrets are resolved by the caller.
type Config struct {
	URL                       string // nats://host:port, comma separated
	Name                      string // of the connection
	User, Password, Token     string
	CredsFile, NKeyFile       string
	CAFile, CertFile, KeyFile string
	SyncInterval              time.Duration // of the servers; default 2 min for an external server; the fsync horizon follows from it
	Replicas                  int           // of what is created; default 1 embedded, 3 on a cluster

	// InProcess is a server inside this process, that is not ours; the URL does not matter then.
	InProcess nats.InProcessConnProvider

	// Like is a connection whose servers and credentials are used, instead of all of the above; it is left alone.
	Like *nats.Conn
}

const (
	minMajor, minMinor = 2, 14

	// The file store refuses messages of 32 MB for ever, whatever max_payload says.
	maxStored = 24 << 20
	// What headers may need of a message.
	headerRoom = 4 << 10

	defaultSync = 2 * time.Minute
	dialTimeout = 5 * time.Second
)

// Conn is a connection with what the rest needs to know of the server.
type Conn struct {
	NC *nats.Conn

	js           jetstream.JetStream
	urls         string
	options      []nats.Option
	sync         time.Duration
	replicas     atomic.Int32
	denied       atomic.Pointer[string]     // the last thing that the account may not do
	wantReplicas int                        // what the operator asked for; 0 if nothing
	inProcess    nats.InProcessConnProvider // the embedded server
	trouble      func() error               // embedded: why the store takes nothing at the moment
	beside       others
}

// Connect connects, and checks the server's version (2.14 or newer) and that JetStream is on.
func Connect(ctx context.Context, c Config) (*Conn, error) {
	if c.Like != nil {
		return connectLike(ctx, c)
	}
	if c.InProcess != nil {
		c.URL = cmp.Or(c.URL, nats.DefaultURL)
	}
	urls, user, err := parseURLs(c.URL)
	if err != nil {
		return nil, err
	}
	if user != nil && c.User == "" && c.Token == "" {
		if password, ok := user.Password(); ok {
			c.User, c.Password = user.Username(), password
		} else {
			c.Token = user.Username()
		}
	}
	options := []nats.Option{}
	if c.User != "" {
		options = append(options, nats.UserInfo(c.User, c.Password))
	}
	if c.Token != "" {
		options = append(options, nats.Token(c.Token))
	}
	if c.CredsFile != "" {
		if err := checkCreds(c.CredsFile); err != nil {
			return nil, fmt.Errorf("read the creds of NATS in %s: %w", c.CredsFile, err)
		}
		options = append(options, nats.UserCredentials(c.CredsFile))
	}
	if c.NKeyFile != "" {
		option, err := nats.NkeyOptionFromSeed(c.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the nkey of NATS in %s: %w", c.NKeyFile, err)
		}
		options = append(options, option)
	}
	// What cannot be read is told here: at the dial it would look like trouble of the server's.
	if c.CAFile != "" {
		option := nats.RootCAs(c.CAFile)
		if err := option(&nats.Options{}); err != nil {
			return nil, fmt.Errorf("read the CA file of NATS in %s: %w", c.CAFile, err)
		}
		options = append(options, option)
	}
	if c.CertFile != "" || c.KeyFile != "" {
		if c.CertFile == "" || c.KeyFile == "" {
			return nil, fmt.Errorf("the client certificate of NATS needs both files, the certificate's and its key's: only %s is given", c.CertFile+c.KeyFile)
		}
		option := nats.ClientCert(c.CertFile, c.KeyFile)
		if err := option(&nats.Options{}); err != nil {
			return nil, fmt.Errorf("read the client certificate of NATS in %s and its key in %s: %w", c.CertFile, c.KeyFile, err)
		}
		options = append(options, option)
	}
	return connect(ctx, &Conn{
		urls:         urls,
		options:      options,
		sync:         cmp.Or(c.SyncInterval, defaultSync),
		wantReplicas: c.Replicas,
		inProcess:    c.InProcess,
		trouble:      func() error { return nil },
	}, c.Name)
}

// connectLike takes everything from a connection but what it does on events: those are its own.
func connectLike(ctx context.Context, c Config) (*Conn, error) {
	like := c.Like.Opts
	urls := "the connection that is given"
	if known, _, err := parseURLs(strings.Join(append([]string{like.Url}, like.Servers...), ",")); err == nil {
		urls = known
	}
	like.AllowReconnect = true
	like.ClosedCB, like.DisconnectedCB, like.DisconnectedErrCB, like.ConnectedCB, like.ReconnectedCB = nil, nil, nil, nil, nil
	like.DiscoveredServersCB, like.LameDuckModeHandler, like.AsyncErrorCB, like.ReconnectErrCB = nil, nil, nil, nil
	return connect(ctx, &Conn{
		urls:         urls,
		options:      []nats.Option{func(o *nats.Options) error { *o = like; return nil }},
		sync:         cmp.Or(c.SyncInterval, defaultSync),
		wantReplicas: c.Replicas,
		trouble:      func() error { return nil },
	}, c.Name)
}

func connect(ctx context.Context, c *Conn, name string) (*Conn, error) {
	c.options = append(c.options,
		nats.Name(cmp.Or(name, "runnel")),
		// What was published while the connection was away must not reach the server later, by surprise.
		nats.ReconnectBufSize(-1),
		nats.Timeout(dialTimeout),
		nats.FlusherTimeout(time.Minute),
		// Nobody may be told that a connection is dead: it is given up after 10 to 15 s.
		nats.PingInterval(5*time.Second),
		nats.MaxPingsOutstanding(2),
		// Without a handler nats.go prints to the terminal. What is refused by permissions is never answered, so it is kept
		// for those who wait; all else shows where it happens.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				text := err.Error()
				c.denied.Store(&text)
			}
		}),
	)
	nc, err := c.dial(ctx,
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		// A password that is being rotated comes back.
		nats.IgnoreAuthErrorAbort(),
	)
	if err != nil {
		return nil, explainDial(err, c.urls)
	}
	c.NC = nc
	if err := c.inspect(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// dial makes one more connection with the same options.
func (c *Conn) dial(ctx context.Context, more ...nats.Option) (*nats.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	options := append([]nats.Option{}, c.options...)
	if c.inProcess != nil {
		options = append(options, nats.InProcessServer(c.inProcess))
	}
	options = append(options, more...)
	if t, ok := ctx.Deadline(); ok {
		options = append(options, nats.Timeout(max(min(time.Until(t), dialTimeout), 10*time.Millisecond)))
	}
	urls := c.urls
	if c.NC != nil {
		// Servers of a cluster that the configuration does not name.
		urls = strings.Join(append([]string{urls}, c.NC.DiscoveredServers()...), ",")
	}
	return nats.Connect(urls, options...)
}

// inspect checks that the server can do what is needed.
func (c *Conn) inspect(ctx context.Context) error {
	version := c.NC.ConnectedServerVersion()
	if !newEnough(version) {
		return fmt.Errorf("nats-server at %s is version %s: Runnel needs %d.%d or newer (atomic batches); upgrade the server",
			redacted(c.urls), version, minMajor, minMinor)
	}
	js, err := jetstream.New(c.NC)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	c.js = js
	switch {
	case c.wantReplicas != 0:
		c.replicas.Store(int32(c.wantReplicas))
	case c.NC.ConnectedClusterName() != "":
		c.replicas.Store(3)
	default:
		c.replicas.Store(1)
	}
	err = c.retryFor(ctx, 15*time.Second, func(ctx context.Context) error {
		_, err := js.AccountInfo(ctx)
		return err
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("JetStream at %s is not enabled for this account: give the account JetStream limits, or use the credentials of another account", redacted(c.urls))
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("JetStream is not enabled at %s: start nats-server with -js, or with a jetstream block in its configuration", redacted(c.urls))
	default:
		return fmt.Errorf("ask JetStream at %s: %w", redacted(c.urls), err)
	}
}

// denial is what the account was denied since the connection was made, if anything.
func (c *Conn) denial() error {
	if text := c.denied.Load(); text != nil {
		return fmt.Errorf("NATS refuses: %s; give the account this permission", *text)
	}
	return nil
}

// Horizon is the fsync horizon: what JetStream acknowledged longer ago than this survives a power loss. Twice the sync
// interval plus a second.
func (c *Conn) Horizon() time.Duration { return 2*c.sync + time.Second }

// Replicas is the number of copies of what is created here.
func (c *Conn) Replicas() int { return int(c.replicas.Load()) }

// MaxMessage is the largest payload of a message: min(max_payload, 24 MB) less room for headers.
func (c *Conn) MaxMessage() int { return int(min(c.NC.MaxPayload(), maxStored)) - headerRoom }

// Close closes the connection.
func (c *Conn) Close() {
	c.NC.Close()
	c.beside.close()
}

func newEnough(version string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > minMajor || major == minMajor && minor >= minMinor
}

// parseURLs takes user and password out of the URLs: servers that are discovered later need them too, and no error may
// print them.
func parseURLs(list string) (string, *url.Userinfo, error) {
	var urls []string
	var user *url.Userinfo
	for s := range strings.SplitSeq(list, ",") {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return "", nil, errors.New("the URL of NATS is malformed: want nats://host:port, or several separated by commas")
		}
		if user == nil {
			user = u.User
		}
		u.User = nil
		urls = append(urls, u.String())
	}
	if len(urls) == 0 {
		return "", nil, errors.New("no URL of NATS given: want nats://host:port")
	}
	return strings.Join(urls, ","), user, nil
}

// checkCreds checks that a file holds a user's JWT and seed; no error shows any of them.
func checkCreds(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	defer clear(data)
	_, err = nkeys.ParseDecoratedJWT(data)
	if err == nil {
		var pair nkeys.KeyPair
		if pair, err = nkeys.ParseDecoratedUserNKey(data); err == nil {
			pair.Wipe()
		}
	}
	if err != nil {
		return fmt.Errorf("%w; want a file with a user's JWT and seed, as nsc generate creds makes it", err)
	}
	return nil
}

func redacted(urls string) string { return cmp.Or(urls, "the embedded server") }

func explainDial(err error, urls string) error {
	var dns *net.DNSError
	var unverified *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var alert *net.OpError
	at := redacted(urls)
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("connect to NATS at %s: %w; give the CA file with the certificate of who signed the server's", at, err)
	case errors.As(err, &unverified):
		return fmt.Errorf("connect to NATS at %s: %w; give the server a valid certificate that names the host of the URL", at, err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("connect to NATS at %s: %w: the server does not offer TLS; configure it there, or give no CA file and no client certificate", at, err)
	// With TLS 1.3 the server refuses after the handshake, and its reason may be lost with the connection.
	case errors.Is(err, nats.ErrTLS), errors.As(err, &alert) && alert.Op == "remote error":
		return fmt.Errorf("connect to NATS at %s: %w; if the server asks for a client certificate, give one that its CA signed, and its key", at, err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		return fmt.Errorf("connect to NATS at %s: %w; check user, password, token, creds or nkey", at, err)
	case errors.As(err, &dns):
		return fmt.Errorf("connect to NATS at %s: %w; correct the host in the URL", at, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("connect to NATS at %s: %w", at, err)
	default:
		return fmt.Errorf("connect to NATS at %s: %w; is nats-server running there? start it or correct the URL", at, err)
	}
}
