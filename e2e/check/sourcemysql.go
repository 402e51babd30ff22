package check

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/e2e/shop"
)

// MySQLSampler looks at the shop's MySQL or MariaDB, and then at the stream's end. No server keeps its binlog for a reader, so a sample
// has no place that the source has released.
type MySQLSampler struct {
	Recorder *Recorder
	Address  string
	End      func(ctx context.Context) (reached, sequence uint64, err error) // of the stream
	Every    time.Duration                                                   // default 250ms

	c *client.Conn
}

// Run looks until ctx ends, and then gives the error of the last look that failed, if none succeeded.
func (s *MySQLSampler) Run(ctx context.Context) error {
	defer s.Close()
	return looks(ctx, s.Every, s.Look)
}

// Close ends the connection that looks have left open; Run does that by itself.
func (s *MySQLSampler) Close() {
	if s.c != nil {
		s.c.Close()
		s.c = nil
	}
}

// Look looks once. Without an answer of the stream the rest is recorded all the same.
func (s *MySQLSampler) Look(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if s.c == nil {
		if s.c, err = client.ConnectWithContext(ctx, s.Address, "root", "", "shop", 0); err != nil {
			return fmt.Errorf("look at the source: %w", err)
		}
	}
	c := s.c
	defer context.AfterFunc(ctx, func() { _ = c.Conn.Conn.Close() })() // ends a query that takes too long
	newest := make([]string, len(shop.Tables))
	for i, t := range shop.Tables {
		newest[i] = "(SELECT COALESCE(MAX(`" + shop.Change + "`), 0) FROM `" + t.Name + "`)"
	}
	sample := SourceSample{At: time.Now()}
	r, err := c.Execute("SELECT GREATEST(" + strings.Join(newest, ", ") + ")")
	if err == nil {
		sample.Newest, err = r.GetInt(0, 0)
		r.Close()
	}
	if err != nil {
		s.Close()
		return fmt.Errorf("look at the source: %w", err)
	}
	var unread error
	if s.End != nil {
		sample.Reached, sample.Sequence, unread = s.End(ctx)
	}
	s.Recorder.Add(Record{Source: &sample})
	return unread
}
