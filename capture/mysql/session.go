package mysql

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

const (
	connectTimeout = 10 * time.Second
	silence        = 30 * time.Second // after which a connection that should say something counts as dead
)

// session is a connection that is used by one at a time.
type session struct {
	mu   sync.Mutex
	conn *client.Conn
}

// open connects and runs statements.
func (s *Source) open(ctx context.Context, statements ...string) (*session, error) {
	c, err := client.ConnectWithDialer(ctx, "tcp", s.address, s.user, s.password, "", dial, func(c *client.Conn) error {
		if s.tls != nil {
			c.SetTLSConfig(s.tls.Clone())
		}
		return c.SetCollation("utf8mb4_general_ci")
	})
	if err != nil {
		return nil, s.explain("connect to "+s.address, err)
	}
	x := &session{conn: c}
	for _, sql := range statements {
		if _, err := x.query(ctx, sql); err != nil {
			x.close()
			return nil, s.explain("prepare a session", err)
		}
	}
	return x, nil
}

// dial notices a server whose machine is gone within 25 s also while nothing is sent.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: connectTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	return d.DialContext(ctx, network, address)
}

func (x *session) close() {
	x.conn.SetDeadline(time.Now().Add(time.Second))
	if x.conn.Quit() != nil { // it was broken before
		_ = x.conn.Close()
	}
}

// rows of an answer: nil is NULL.
type rows [][][]byte

// query runs one statement. The end of ctx breaks the connection, as does any failure within an answer.
func (x *session) query(ctx context.Context, sql string) (rows, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { x.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r, err := x.conn.Execute(sql)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if r.Resultset == nil {
		return nil, nil
	}
	out := make(rows, len(r.RowDatas))
	for i, data := range r.RowDatas {
		row := make([][]byte, len(r.Fields))
		for j := range row {
			v, null, n, err := mysql.LengthEncodedString(data)
			if err != nil {
				return nil, fmt.Errorf("row %d of the answer: %w", i, err)
			}
			data = data[n:]
			if !null {
				row[j] = v
				if v == nil {
					row[j] = []byte{}
				}
			}
		}
		out[i] = row
	}
	return out, nil
}

// text runs a statement that answers with one row of texts.
func (x *session) texts(ctx context.Context, sql string, values ...*string) error {
	r, err := x.query(ctx, sql)
	if err != nil {
		return err
	}
	if len(r) == 0 || len(r[0]) < len(values) {
		return fmt.Errorf("%s: no row", sql)
	}
	for i, v := range values {
		*v = string(r[0][i])
	}
	return nil
}

// quoteName quotes an identifier, quote a string for a session without NO_BACKSLASH_ESCAPES.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`, "\n", `\n`, "\r", `\r`, "\x1a", `\Z`).Replace(s) + "'"
}
