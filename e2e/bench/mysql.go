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

	"github.com/runnel-dev/runnel/e2e/servers"
)

const mysqlTable = `create table w1 (id bigint primary key, customer_id bigint not null, status varchar(20) not null, amount decimal(12,2) not null,
	currency char(3) not null, note text, attrs json, created_at timestamp(6) not null default now(6), updated_at timestamp(6) not null default now(6))`

// mysqlInserts writes single rows, a hundred to a transaction.
const mysqlInserts = `create procedure inserts(n int) begin
	declare i int default 1;
	while i <= n do
		start transaction;
		repeat
			insert into w1 (id, customer_id, status, amount, currency, note, attrs) values (i, i %% 1000, 'new', i * 0.37, 'EUR',
				concat('a note about order ', i, repeat(' lorem ipsum', 8)), concat('{"k": ', i, ', "tags": ["a", "b"]}'));
			set i = i + 1;
		until i %% 100 = 1 end repeat;
		commit;
	end while;
	insert into w1 (id, customer_id, status, amount, currency) values (%d, 0, '', 0, 'EUR');
end`

// mysql drains the log of a MySQL or MariaDB server into JetStream, beside go-mysql, which only decodes its rows.
func (b *bench) mysql(flavor string, start func(servers.TB, ...string) *servers.Server) func(context.Context) ([]Row, error) {
	return func(ctx context.Context) ([]Row, error) {
		rows := b.rows / 2
		s := start(b)
		c, err := client.Connect(s.Addr, "root", "", "")
		if err != nil {
			return nil, err
		}
		defer c.Close()
		if err := statements(c, "create database bench", "use bench", mysqlTable, fmt.Sprintf(mysqlInserts, marker)); err != nil {
			return nil, err
		}
		f, err := b.flow(ctx, flavor, fmt.Sprintf("kind: source\nname: bench\n%s: {url: %q}\ntables: [bench.w1]\n", flavor, s.MySQLURL()))
		if err != nil {
			return nil, err
		}
		if err := f.prepared(ctx); err != nil {
			return nil, err
		}
		from, err := executed(c, flavor)
		if err != nil {
			return nil, err
		}
		if err := statements(c, fmt.Sprintf("call inserts(%d)", rows)); err != nil {
			return nil, err
		}
		limit, err := decoded(ctx, s, flavor, from, rows)
		if err != nil {
			return nil, err
		}
		st, err := f.stream(ctx)
		if err != nil {
			return nil, err
		}
		before, err := st.End(ctx)
		if err != nil {
			return nil, err
		}
		p, err := f.agent()
		if err != nil {
			return nil, err
		}
		last, err := f.marked(ctx, st, p, "bench.w1")
		if err != nil {
			return nil, err
		}
		first, err := st.Next(ctx, "cdc.bench.bench.*.*", before.Last+1)
		if err != nil {
			return nil, err
		}
		cpu := family(p.cmd.Process.Pid)
		rate := float64(rows) / max(float64(last.TimeMS-first.TimeMS), 1) * 1000
		what := fmt.Sprintf("%s to JetStream, single-row inserts; agent %.2f CPU seconds per million rows; limit: go-mysql decodes them", flavor, cpu.Seconds()/float64(rows)*1e6)
		return []Row{row(flavor, rate, "rows/s", limit, what)}, p.stop()
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
func decoded(ctx context.Context, s *servers.Server, flavor string, from mysql.GTIDSet, rows int) (float64, error) {
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{ServerID: 4242, Flavor: flavor, Host: "127.0.0.1", Port: uint16(s.Port), User: "root",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	defer syncer.Close()
	began := time.Now()
	events, err := syncer.StartSyncGTID(from.Clone()) // it adds what it reads
	if err != nil {
		return 0, err
	}
	for n := 0; n < rows; {
		e, err := events.GetEvent(ctx)
		if err != nil {
			return 0, err
		}
		if r, ok := e.Event.(*replication.RowsEvent); ok {
			n += len(r.Rows)
		}
	}
	return float64(rows) / time.Since(began).Seconds(), nil
}
