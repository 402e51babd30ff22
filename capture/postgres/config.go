package postgres

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres/pgjson"
)

// Config of a source.
type Config struct {
	Name        string        // of the source
	URL         string        // postgres://… or key=value, as libpq reads it; environment and password file count too
	Slot        string        // default runnel_<name>
	Publication string        // default runnel_<name>; that of tables without replica identity is <publication>_insert
	Tables      []string      // schema.table, * and ? match within a part; empty: what an existing publication has
	Failover    *bool         // standbys copy the slot (17 and later); default true
	Heartbeat   time.Duration // a message into the server's log, so that an idle slot moves; default 10 s, negative: none
	Log         *slog.Logger  // default: none
}

// Source implements capture.Source and capture.Renewer.
type Source struct {
	cfg      Config
	patterns []capture.Pattern
	pool     *pgxpool.Config
	instance string // tells our own sessions from those of other agents
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// New checks the configuration and connects to nothing.
func New(cfg Config) (*Source, error) {
	if cfg.Slot == "" {
		cfg.Slot = defaultName(cfg.Name)
	}
	if cfg.Publication == "" {
		cfg.Publication = defaultName(cfg.Name)
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if cfg.Name == "" {
		fault("source: name is missing")
	}
	if !slotName.MatchString(cfg.Slot) {
		fault("slot %q: a slot's name has 1 to 63 of the characters a-z, 0-9 and _", cfg.Slot)
	}
	if len(cfg.Publication)+len(insertSuffix) > 63 {
		fault("publication %q: its name may have %d bytes", cfg.Publication, 63-len(insertSuffix))
	}
	s := &Source{cfg: cfg}
	for _, t := range cfg.Tables {
		p, ok := capture.ParsePattern(t)
		if !ok {
			faults = append(faults, fmt.Errorf("table %q: want schema.table, for example public.orders or public.*", t))
		}
		s.patterns = append(s.patterns, p)
	}
	pool, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		fault("url: %w", err)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	id := make([]byte, 4)
	rand.Read(id)
	s.instance = hex.EncodeToString(id)
	s.pool = pool
	s.configure()
	return s, nil
}

var notInSlot = regexp.MustCompile(`[^a-z0-9_]+`)

func defaultName(source string) string {
	return "runnel_" + notInSlot.ReplaceAllString(lower(source), "_")
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// settings of every session. Those of pgjson make log and snapshot print values alike.
func (s *Source) settings() map[string]string {
	m := map[string]string{
		"application_name":                    s.application(),
		"standard_conforming_strings":         "on",
		"row_security":                        "off", // an error instead of rows that are missing
		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_in_transaction_session_timeout": "0",
		"synchronous_commit":                  "local", // a marker must not wait for a standby
		"tcp_keepalives_idle":                 "10",    // a dead agent gives its lock back
		"tcp_keepalives_interval":             "5",
		"tcp_keepalives_count":                "3",
	}
	maps.Copy(m, pgjson.Settings())
	return m
}

// application is what pg_stat_activity shows.
func (s *Source) application() string {
	name := s.cfg.Name
	if len(name) > 40 {
		name = name[:40]
	}
	return "runnel " + name + " " + s.instance
}
