// Package elasticsearch writes events as documents: one index per table, one document per row, the version of the event as the
// document's external version.
//
// Elasticsearch itself refuses what is older than what it has (version_type external_gte), so repeated and late events
// change nothing. A batch is acknowledged only when every item's own result was read. Tombstones are forgotten after
// index.gc_deletes (one hour on indexes that this package creates) and when a shard is opened again.
package elasticsearch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Config of a sink. Secrets are resolved.
type Config struct {
	Function string
	URL      string // http(s)://host:port; several, comma separated, are tried in turn
	User     string // basic authentication
	Password string
	APIKey   string // instead of user and password
	CAFile   string // PEM; default: the system's certificates
	Index    string // {schema} and {table} are replaced; default {table}
	Log      *slog.Logger
}

// Sink is the handler. Its methods may be called by several goroutines.
type Sink struct {
	function string
	index    string
	client   *elastictransport.Client
	pool     *http.Transport
	log      *slog.Logger

	sweeping chan struct{} // holds one place: a sweep walks over a whole index

	mu      sync.Mutex
	known   map[*event.Schema]*index
	indexes map[string]*index // by name
}

var (
	_ functions.Handler   = (*Sink)(nil)
	_ functions.Previewer = (*Sink)(nil)
	_ functions.Checker   = (*Sink)(nil)
	_ functions.Sweeper   = (*Sink)(nil)
	_ functions.Closer    = (*Sink)(nil)
)

// New checks the configuration; nothing is opened.
func New(c Config) (*Sink, error) {
	var urls []*url.URL
	for _, s := range strings.Split(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, errors.New("elasticsearch: url: want http://host:9200 or https://host:9200")
		}
		urls = append(urls, u)
	}
	pool := &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 2 * time.Minute, Proxy: http.ProxyFromEnvironment}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("elasticsearch: ca_file: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("elasticsearch: ca_file: %s holds no certificate in PEM", c.CAFile)
		}
		pool.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	options := []elastictransport.Option{elastictransport.WithURLs(urls...), elastictransport.WithTransport(pool), elastictransport.WithDisableRetry()}
	switch {
	case c.APIKey != "":
		options = append(options, elastictransport.WithAPIKey(c.APIKey))
	case c.User != "":
		options = append(options, elastictransport.WithBasicAuth(c.User, c.Password))
	}
	client, err := elastictransport.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("elasticsearch: %w", err)
	}
	if c.Index == "" {
		c.Index = "{table}"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Sink{function: c.Function, index: c.Index, client: client, pool: pool, log: c.Log, sweeping: make(chan struct{}, 1), known: map[*event.Schema]*index{}, indexes: map[string]*index{}}, nil
}

// Close drops idle connections.
func (s *Sink) Close() { s.pool.CloseIdleConnections() }

// Handle writes a batch by bulk requests.
func (s *Sink) Handle(ctx context.Context, b functions.Batch) error {
	w, failed, err := collect(&b, func(schema *event.Schema) (*index, error) { return s.ensure(ctx, schema) })
	if err != nil {
		return err
	}
	refused, err := s.send(ctx, w)
	if err != nil {
		return err
	}
	if failed = append(failed, refused...); len(failed) > 0 {
		return &functions.BatchError{Failed: failed}
	}
	return nil
}

// collect makes the body of a batch, and tells which events cannot be in it.
func collect(b *functions.Batch, indexOf func(*event.Schema) (*index, error)) (*bulk, []functions.Failure, error) {
	w := &bulk{}
	var failed []functions.Failure
	for i := range b.Spans {
		for j := range b.Spans[i].Events {
			e := &b.Spans[i].Events[j]
			ix, err := indexOf(e.Schema)
			if err != nil {
				return nil, nil, err
			}
			if err := w.add(ix, e, i, j); err != nil {
				failed = append(failed, functions.Failure{Span: i, Event: j, Err: functions.Permanent(err)})
			}
		}
	}
	return w, failed, nil
}
