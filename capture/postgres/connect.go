package postgres

import (
	"context"
	"io"
	"maps"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	connectTimeout = 10 * time.Second
	sessions       = 8 // at most, beside the replication connection
)

// configure sets what all sessions have in common.
func (s *Source) configure() {
	c := s.pool.ConnConfig
	maps.Copy(c.RuntimeParams, s.settings())
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	// A server whose machine is gone is noticed within 25 s also while nothing is sent.
	d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	c.DialFunc = d.DialContext
	// Nothing is prepared: a cached plan fails when its table was altered.
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	s.pool.MaxConns = sessions
	s.pool.MinConns = 0
}

// openPool opens the sessions for queries.
func (s *Source) openPool(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := pgxpool.NewWithConfig(ctx, s.pool.Copy())
	if err == nil {
		if err = pool.Ping(ctx); err != nil {
			pool.Close()
		}
	}
	if err != nil {
		return nil, s.explain("connect to the source", err)
	}
	return pool, nil
}

// openWire opens a replication connection.
func (s *Source) openWire(ctx context.Context) (*wire, error) {
	w := &wire{}
	c := s.pool.ConnConfig.Config.Copy()
	c.RuntimeParams["replication"] = "database"
	c.BuildFrontend = func(r io.Reader, out io.Writer) *pgproto3.Frontend {
		w.frames = newFrames(r)
		return pgproto3.NewFrontend(w.frames, out)
	}
	var err error
	if w.conn, err = pgconn.ConnectConfig(ctx, c); err != nil {
		return nil, s.explain("open a replication connection", err)
	}
	w.socket = w.conn.Conn()
	w.low = newLowWaterMark(w.socket)
	return w, nil
}
