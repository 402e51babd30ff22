package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
)

// database is a kind of source: what a run asks of the server that is the source at the moment. Faults of one kind alone ask that kind.
type database interface {
	made
	written
	seen

	// Patience is longer than the source waits for a silent reader of its log before another one may read, and than an agent is patient.
	Patience(r *rand.Rand) time.Duration

	// Passed waits until the source's log no longer holds what was written until now.
	Passed(ctx context.Context, w *World) error

	// Faults are the source's own.
	Faults() []Fault
}

// made is how a source comes to be, and what Runnel is told of it.
type made interface {
	Start(t servers.TB) *servers.Server
	Create(ctx context.Context, s *servers.Server) error // of the tables

	// Spec is the source in Runnel's words, URL where Runnel reaches it, and Schema where its tables are.
	Spec() string
	URL(address string) string
	Schema() string
}

// written is what applications do.
type written interface {
	// Write runs the traffic until ctx ends, Truncate empties a table, and Sessions counts those of both that are open.
	Write(ctx context.Context, s *servers.Server, t *shop.Traffic) error
	Truncate(ctx context.Context, s *servers.Server) error
	Sessions(ctx context.Context, s *servers.Server) (int, error)

	// Probe writes an order and gives its number.
	Probe(ctx context.Context, s *servers.Server) (id int64, err error)

	// Beside writes what is not captured, where the source does not do so by itself: an idle agent moves on with it.
	Beside(ctx context.Context, s *servers.Server) error
}

// seen is what checkers look at.
type seen interface {
	// Table reads a table, and Journal what was committed; of the columns in Reread the stream may hold other values.
	Table(ctx context.Context, s *servers.Server, t shop.Table) (*equal.Table, error)
	Journal(ctx context.Context, s *servers.Server) check.Entries
	Reread(tables map[string]*equal.Table) []string

	// Sampler looks at a server, and at the stream's end.
	Sampler(r *check.Recorder, s *servers.Server, end func(context.Context) (reached, sequence uint64, err error)) sampler
}

// sampler looks at a source as long as it has not moved.
type sampler interface {
	Look(ctx context.Context) error
	Close()
}

// Kinds of sources.
const (
	kindPostgres = "postgres"
	kindMySQL    = "mysql"
	kindMariaDB  = "mariadb"
)

// databases are those kinds, in the order of the docs.
var databases = map[string]database{kindPostgres: postgres{}, kindMySQL: &mysql{flavor: kindMySQL}, kindMariaDB: &mysql{flavor: kindMariaDB}}

func databaseOf(kind string) (database, error) {
	d, ok := databases[kind]
	if !ok {
		return nil, fmt.Errorf("--source %s: expected postgres, mysql or mariadb", kind)
	}
	return d, nil
}

// tables reads all tables of the source.
func (w *World) tables(ctx context.Context) (map[string]*equal.Table, error) {
	all := map[string]*equal.Table{}
	for _, s := range shop.Tables {
		t, err := w.DB.Table(ctx, w.Source, s)
		if err != nil {
			return nil, err
		}
		all[s.Name] = t
	}
	return all, nil
}

// moveSource lets Runnel, and everything here, go to another server.
func (w *World) moveSource(to *servers.Server) {
	w.Source = to
	for _, p := range w.Proxies("agent-source") {
		p.Retarget(to.Addr)
		p.Cut()
	}
}
