package pgjson_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/runnel-dev/runnel/capture/postgres/pgjson"
)

// replicated encodes what the slot gives.
func (o *oracle) replicated(t *testing.T, n int) map[string]string {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn := connect(t, o.url, true).PgConn()
	if err := pglogrepl.StartReplication(ctx, conn, "s", 0, pglogrepl.StartReplicationOptions{PluginArgs: []string{"proto_version '1'", "publication_names 'p'"}}); err != nil {
		t.Fatal(err)
	}
	rows, catalog := map[string]string{}, pgjson.New(o.conn)
	names, types, tables := map[uint32][]string{}, map[uint32][]*pgjson.Type{}, map[uint32]string{}
	for len(rows) < n {
		change := receive(ctx, t, conn)
		switch m := change.(type) {
		case *pglogrepl.RelationMessage:
			var refs []pgjson.Ref
			names[m.RelationID] = nil
			for _, c := range m.Columns {
				names[m.RelationID] = append(names[m.RelationID], c.Name)
				refs = append(refs, pgjson.Ref{OID: c.DataType, Typmod: c.TypeModifier})
			}
			var err error
			if types[m.RelationID], err = catalog.Types(ctx, refs); err != nil {
				t.Fatal(err)
			}
			tables[m.RelationID] = m.Namespace + "." + m.RelationName
		case *pglogrepl.InsertMessage:
			if !strings.HasPrefix(tables[m.RelationID], "o.") {
				continue
			}
			var values [][]byte
			for _, c := range m.Tuple.Columns {
				if c.DataType == pglogrepl.TupleDataTypeNull {
					values = append(values, nil)
				} else {
					values = append(values, append([]byte{}, c.Data...))
				}
			}
			rows[tables[m.RelationID]+"/"+string(values[0])] = encode(t, names[m.RelationID], types[m.RelationID], values)
		}
	}
	return rows
}

// receive gives the next message of the log.
func receive(ctx context.Context, t *testing.T, conn *pgconn.PgConn) pglogrepl.Message {
	for {
		m, err := conn.ReceiveMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		data, ok := m.(*pgproto3.CopyData)
		if !ok {
			t.Fatalf("got %#v", m)
		}
		if data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		x, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			t.Fatal(err)
		}
		change, err := pglogrepl.Parse(x.WALData)
		if err != nil {
			t.Fatal(err)
		}
		return change
	}
}
