package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// loop is what latencies are compared with: it reads a slot and publishes the id of each row that was inserted, with the libraries that
// everybody has. It guarantees nothing.
func loop(ctx context.Context, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	url, slot, publication := args[0], args[1], args[2]
	nc, err := nats.Connect(args[3])
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	c, err := pgconn.Connect(ctx, url+"&replication=database")
	if err != nil {
		return err
	}
	defer c.Conn().Close() // a goodbye would wait for what the server still sends
	if err := pglogrepl.StartReplication(ctx, c, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names '" + publication + "'"}}); err != nil {
		return err
	}
	for ctx.Err() == nil {
		m, err := c.ReceiveMessage(ctx)
		if err != nil {
			break
		}
		data, ok := m.(*pgproto3.CopyData)
		if !ok || data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		x, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			return err
		}
		change, err := pglogrepl.Parse(x.WALData)
		if err != nil {
			return err
		}
		if insert, ok := change.(*pglogrepl.InsertMessage); ok {
			if _, err := js.PublishAsync("loop.row", fmt.Appendf(nil, `{"after":{"id":%s,"note":%q}}`, insert.Tuple.Columns[0].Data, insert.Tuple.Columns[5].Data)); err != nil {
				return err
			}
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(5 * time.Second):
	}
	return nil
}
