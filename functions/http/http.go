// Package http posts events to an endpoint: a batch of JSON or of CloudEvents in one request, whose answer says what of it is done.
//
// What the endpoint can rely on:
//   - An event is posted until an answer says that it is done, so at least once; events of one row come in order, a request that is
//     repeated has the same Webhook-Id, and a version says which of two events of a row is newer.
//   - With a secret each request is signed, as Standard Webhooks are (https://www.standardwebhooks.com).
//
// A 2xx says that all events of the request are done, unless its body names some that are not. TRUNCATE, and what a backfill finds
// to be gone, is not told.
package http

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Formats of a request's body.
const (
	JSON        = "json"        // application/json
	CloudEvents = "cloudevents" // application/cloudevents-batch+json
)

// Config of a sink. Secrets are resolved.
type Config struct {
	Function string
	URL      string
	Format   string // default JSON
	Secret   string // signs requests: whsec_ and the key in Base64, or the key itself; default: not signed
	Token    string // Authorization: Bearer
	User     string // basic authentication instead
	Password string
	Headers  map[string]string // more of them
	CAFile   string            // PEM; default: the system's certificates
	CertFile string            // the client's certificate and its key
	KeyFile  string

	// Now gives the time that is signed; default time.Now.
	Now func() time.Time
}

// Sink is the handler. Its methods may be called by several goroutines.
type Sink struct {
	cfg    Config
	url    *url.URL
	key    []byte
	client *http.Client
	pool   *http.Transport
}

var (
	_ functions.Handler   = (*Sink)(nil)
	_ functions.Checker   = (*Sink)(nil)
	_ functions.Closer    = (*Sink)(nil)
	_ functions.Previewer = (*Sink)(nil)
)

// New checks the configuration; nothing is opened.
func New(c Config) (*Sink, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("http: url: want https://host/path")
	}
	switch c.Format {
	case "":
		c.Format = JSON
	case JSON, CloudEvents:
	default:
		return nil, fmt.Errorf("http: format: want %s or %s, not %q", JSON, CloudEvents, c.Format)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Sink{cfg: c, url: u, key: []byte(c.Secret)}
	if encoded, ok := strings.CutPrefix(c.Secret, "whsec_"); ok {
		if s.key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return nil, errors.New("http: secret: what follows whsec_ is no Base64")
		}
	}
	trust, err := trust(c)
	if err != nil {
		return nil, err
	}
	s.pool = &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute,
	}
	// What a redirection makes of a POST nobody asked for.
	s.client = &http.Client{Transport: s.pool, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s, nil
}

// trust is who is believed to be the server, and as whom it is met.
func trust(c Config) (*tls.Config, error) {
	made := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("http: ca_file: %w", err)
		}
		made.RootCAs = x509.NewCertPool()
		if !made.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("http: ca_file: %s holds no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("http: cert_file and key_file: %w", err)
		}
		made.Certificates = []tls.Certificate{pair}
	}
	return made, nil
}

// Close drops idle connections.
func (s *Sink) Close() { s.pool.CloseIdleConnections() }

// Check asks whether the endpoint can be reached. Any answer will do: many know nothing but POST.
func (s *Sink) Check(ctx context.Context, _ []*event.Schema) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, s.cfg.URL, nil)
	if err != nil {
		return functions.Halt(fmt.Errorf("http: %w", err))
	}
	s.authorize(r)
	answer, err := s.client.Do(r)
	if err != nil {
		return unreachable(err)
	}
	drain(answer)
	return nil
}

// Handle posts a batch.
func (s *Sink) Handle(ctx context.Context, b functions.Batch) error {
	var failed functions.Failures
	if err := s.post(ctx, b.Function, functions.Items(b), &failed); err != nil {
		return err
	}
	return failed.Err()
}

// post posts items, in halves where the endpoint finds the whole too large.
func (s *Sink) post(ctx context.Context, function string, items []functions.Item, failed *functions.Failures) error {
	if len(items) == 0 {
		return nil
	}
	r, body, err := s.request(ctx, function, items)
	if err != nil {
		return err
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return unreachable(err)
	}
	defer drain(answer)
	if answer.StatusCode == http.StatusRequestEntityTooLarge && len(items) > 1 {
		middle := len(items) / 2
		if err := s.post(ctx, function, items[:middle], failed); err != nil {
			return err
		}
		return s.post(ctx, function, items[middle:], failed)
	}
	if answer.StatusCode >= 300 {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		return s.judge(answer.StatusCode, answer.Header, said, fmt.Sprintf("%d events in %d bytes", len(items), len(body)))
	}
	return s.results(answer, items, failed)
}

// request is the POST of some items.
func (s *Sink) request(ctx context.Context, function string, items []functions.Item) (*http.Request, []byte, error) {
	var body []byte
	kind := "application/json"
	if s.cfg.Format == CloudEvents {
		body, kind = appendCloudEvents(nil, items), "application/cloudevents-batch+json"
	} else {
		body = appendJSON(nil, function, items)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, nil, functions.Halt(fmt.Errorf("http: %w", err))
	}
	r.Header.Set("Content-Type", kind)
	s.authorize(r)
	s.sign(r.Header, body)
	return r, body, nil
}

func (s *Sink) authorize(r *http.Request) {
	r.Header.Set("User-Agent", "runnel")
	for name, value := range s.cfg.Headers {
		r.Header.Set(name, value)
	}
	switch {
	case s.cfg.Token != "":
		r.Header.Set("Authorization", "Bearer "+s.cfg.Token)
	case s.cfg.User != "":
		r.SetBasicAuth(s.cfg.User, s.cfg.Password)
	}
}

// drain lets the connection be used again.
func drain(answer *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20))
	_ = answer.Body.Close()
}
