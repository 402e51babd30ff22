package mysql

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

// Flavors of servers.
const (
	MySQL   = "mysql"
	MariaDB = "mariadb"
)

// Config of a source.
type Config struct {
	Name   string       // of the source
	Flavor string       // MySQL or MariaDB; default MySQL
	URL    string       // mysql://user:password@host:3306/?tls=verify&ca=/path/ca.pem; mariadb:// is the same
	Tables []string     // schema.table, * and ? match within a part
	Log    *slog.Logger // default: none
}

// Source implements capture.Source.
type Source struct {
	cfg            Config
	address        string
	user, password string
	tls            *tls.Config
	patterns       []capture.Pattern
	silence        time.Duration // after which a connection that should say something counts as dead
	tick           time.Duration // between two looks at the session that holds the lock
	patience       time.Duration // for a transaction that was published and is not there
	spool          int64         // bytes of XA transactions in memory
}

// New checks the configuration and connects to nothing.
func New(cfg Config) (*Source, error) {
	if cfg.Flavor == "" {
		cfg.Flavor = MySQL
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{cfg: cfg, silence: silence, tick: 5 * time.Second, patience: semiSync, spool: spoolBytes}
	var faults []error
	if cfg.Name == "" {
		faults = append(faults, errors.New("source: name is missing"))
	}
	if cfg.Flavor != MySQL && cfg.Flavor != MariaDB {
		faults = append(faults, fmt.Errorf("flavor %q: want %s or %s", cfg.Flavor, MySQL, MariaDB))
	}
	if err := s.parse(cfg.URL); err != nil {
		faults = append(faults, fmt.Errorf("url: %w", err))
	}
	for _, t := range cfg.Tables {
		p, ok := capture.ParsePattern(t)
		if !ok {
			faults = append(faults, fmt.Errorf("table %q: want database.table, for example shop.orders or shop.*", t))
		}
		s.patterns = append(s.patterns, p)
	}
	if len(cfg.Tables) == 0 {
		faults = append(faults, errors.New("tables: name at least one, for example shop.orders or shop.*"))
	}
	return s, errors.Join(faults...)
}

// parse reads the URL. Errors do not repeat it, for it may hold a password.
func (s *Source) parse(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("it is no URL: want mysql://user:password@host:3306, special characters of the password as %XX")
	}
	if u.Scheme != "mysql" && u.Scheme != "mariadb" {
		return fmt.Errorf("it begins with %q: want mysql://user:password@host:3306", u.Scheme+"://")
	}
	port := u.Port()
	if port == "" {
		port = "3306"
	}
	if u.Hostname() == "" {
		return errors.New("it names no host")
	}
	s.address = net.JoinHostPort(u.Hostname(), port)
	s.user = u.User.Username()
	s.password, _ = u.User.Password()
	q := u.Query()
	for name := range q {
		if name != "tls" && name != "ca" && name != "cert" && name != "key" {
			return fmt.Errorf("parameter %q is not known: tls, ca, cert, key are", name)
		}
	}
	return s.secure(u.Hostname(), q)
}

// secure reads the parameters for TLS.
func (s *Source) secure(host string, q url.Values) error {
	switch mode := q.Get("tls"); mode {
	case "", "off":
		if q.Get("ca") == "" && q.Get("cert") == "" {
			return nil
		}
		s.tls = &tls.Config{ServerName: host}
	case "verify":
		s.tls = &tls.Config{ServerName: host}
	case "insecure":
		s.tls = &tls.Config{InsecureSkipVerify: true} // the operator's word
	default:
		return fmt.Errorf("tls=%s: want verify, insecure (encrypted, whoever answers) or off", mode)
	}
	s.tls.MinVersion = tls.VersionTLS12
	for _, c := range tls.CipherSuites() {
		s.tls.CipherSuites = append(s.tls.CipherSuites, c.ID)
	}
	// The TLS library that early versions of MySQL 8.0 bring along shares nothing newer with Go's.
	s.tls.CipherSuites = append(s.tls.CipherSuites, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_GCM_SHA256)
	if ca := q.Get("ca"); ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return fmt.Errorf("ca: %w", err)
		}
		s.tls.RootCAs = x509.NewCertPool()
		if !s.tls.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("ca: %s holds no certificate", ca)
		}
	}
	if cert := q.Get("cert"); cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, q.Get("key"))
		if err != nil {
			return fmt.Errorf("cert and key: %w", err)
		}
		s.tls.Certificates = []tls.Certificate{pair}
	}
	return nil
}

// captured says whether a table is one of the source's.
func (s *Source) captured(t event.Table) bool {
	switch t.Schema {
	case "mysql", "information_schema", "performance_schema", "sys":
		return false
	}
	for _, p := range s.patterns {
		if p.Matches(t) {
			return true
		}
	}
	return false
}
