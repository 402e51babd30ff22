package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/runnel-dev/runnel/capture"
	source "github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/event"
)

const mysqlTable = `create table w1 (id bigint primary key, customer_id bigint not null, status varchar(20) not null, amount decimal(12,2) not null,
	currency char(3) not null, note text, attrs json, created_at timestamp(6) not null default now(6), updated_at timestamp(6) not null default now(6))`

const mysqlInsert = `insert into w1 (id, customer_id, status, amount, currency, note, attrs)
	select i, i %% 1000, 'new', i * 0.37, 'EUR', concat('a note about order ', i, repeat(' lorem ipsum', 8)), concat('{"k": ', i, ', "tags": ["a", "b"]}')
	from (select %d + n as i from hundred) h`

// mysql reads the same log of a MySQL or MariaDB server three times: go-mysql decodes its rows, our reader makes lines of them, and an agent drains
// it into JetStream.
func (b *bench) mysql(flavor string, start func(servers.TB, ...string) *servers.Server) func(context.Context) (Row, error) {
	return func(ctx context.Context) (Row, error) {
		s := start(b)
		c, err := client.Connect(s.Addr, "root", "", "")
		if err != nil {
			return Row{}, err
		}
		defer c.Close()
		hundred := "(0)"
		for n := 1; n < 100; n++ {
			hundred += fmt.Sprintf(", (%d)", n)
		}
		if err := statements(c, "create database bench", "use bench", mysqlTable, "create table hundred (n int primary key)", "insert into hundred values "+hundred); err != nil {
			return Row{}, err
		}
		spec := fmt.Sprintf("kind: source\nname: bench\n%s: {url: %q}\ntables: [bench.w1]\n", flavor, s.MySQLURL())
		p, err := b.start(flavor, spec)
		if err != nil {
			return Row{}, err
		}
		if err := p.loaded(ctx); err != nil {
			return Row{}, err
		}
		if err := p.stop(); err != nil {
			return Row{}, err
		}
		from, err := executed(c, flavor)
		if err != nil {
			return Row{}, err
		}
		for i := 1; i <= b.rows; i += 100 {
			if err := statements(c, fmt.Sprintf(mysqlInsert, i)); err != nil {
				return Row{}, err
			}
		}
		limit, err := b.decoded(ctx, s, flavor, from)
		if err != nil {
			return Row{}, err
		}
		rate, err := b.encoded(ctx, s, flavor, from)
		if err != nil {
			return Row{}, err
		}
		if p, err = b.start(flavor, spec); err != nil {
			return Row{}, err
		}
		var took time.Duration
		if err := until(ctx, func() (bool, error) { took, err = b.drained(ctx, p, "bench"); return took > 0, err }); err != nil {
			return Row{}, err
		}
		what := fmt.Sprintf("the log of %s as events; limit: go-mysql decodes it; to JetStream %.0f events/s", flavor, float64(b.rows)/took.Seconds())
		return Row{Value: rate, Unit: "events/s", Limit: limit, Ratio: rate / limit, What: what}, p.stop()
	}
}

func statements(c *client.Conn, sql ...string) error {
	for _, s := range sql {
		if _, err := c.Execute(s); err != nil {
			return fmt.Errorf("%.100s: %w", s, err)
		}
	}
	return nil
}

// executed is the set of transactions that the server has.
func executed(c *client.Conn, flavor string) (mysql.GTIDSet, error) {
	name := "gtid_executed"
	if flavor == mysql.MariaDBFlavor {
		name = "gtid_binlog_pos"
	}
	r, err := c.Execute("select @@global." + name)
	if err != nil {
		return nil, err
	}
	text, err := r.GetString(0, 0)
	if err != nil {
		return nil, err
	}
	return mysql.ParseGTIDSet(flavor, strings.Join(strings.Fields(text), ""))
}

// decoded is the rate at which go-mysql decodes the rows of the log.
func (b *bench) decoded(ctx context.Context, s *servers.Server, flavor string, from mysql.GTIDSet) (float64, error) {
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{ServerID: 4242, Flavor: flavor, Host: "127.0.0.1", Port: uint16(s.Port), User: "root",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	defer syncer.Close()
	began := time.Now()
	events, err := syncer.StartSyncGTID(from.Clone()) // it adds what it reads
	if err != nil {
		return 0, err
	}
	for n := 0; n < b.rows; {
		e, err := events.GetEvent(ctx)
		if err != nil {
			return 0, err
		}
		if rows, ok := e.Event.(*replication.RowsEvent); ok {
			n += len(rows.Rows)
		}
	}
	return float64(b.rows) / time.Since(began).Seconds(), nil
}

// encoded is the rate at which our reader gives the same rows as lines of JSON.
func (b *bench) encoded(ctx context.Context, s *servers.Server, flavor string, from mysql.GTIDSet) (float64, error) {
	src, err := source.New(source.Config{Name: "limit", Flavor: flavor, URL: s.MySQLURL(), Tables: []string{"bench.w1"}})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	log, err := src.Acquire(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close(ctx) }()
	if err := log.(capture.Tracker).Resume(from.String(), nil); err != nil {
		return 0, err
	}
	if err := log.Start(ctx, log.Info().Confirmed, event.Position{}); err != nil {
		return 0, err
	}
	var line []byte
	for n := 0; n < b.rows; {
		run, err := log.Next(ctx)
		if err != nil {
			return 0, err
		}
		for _, i := range run.Items {
			if i.Kind == capture.Changed {
				line = event.AppendLine(line[:0], i.Change)
				n++
			}
		}
	}
	return float64(b.rows) / time.Since(began).Seconds(), nil
}
