package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/shop"
)

// CommittedMySQL reads the journal of a shop in MySQL or MariaDB, row by row. Its transactions have numbers of the shop's own.
func CommittedMySQL(ctx context.Context, address string) Entries {
	return func(yield func(Entry, error) bool) {
		goingOn := true
		if err := eachEntry(ctx, address, func(e Entry) bool { goingOn = yield(e, nil); return goingOn }); err != nil && goingOn {
			yield(Entry{}, fmt.Errorf("read the journal: %w", err))
		}
	}
}

// eachEntry calls f with the entries until it gives false.
func eachEntry(ctx context.Context, address string, f func(Entry) bool) error {
	c, err := client.ConnectWithContext(ctx, address, "root", "", "shop", 0)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Execute("SET NAMES utf8mb4, time_zone = '+00:00'"); err != nil {
		return err
	}
	types := map[string]map[string]string{}
	for _, t := range shop.Tables {
		if _, types[t.Name], err = equal.MySQLColumns(c, "shop", t.Name); err != nil {
			return err
		}
	}
	var r mysql.Result
	err = c.ExecuteSelectStreaming("SELECT id, txn, at, op, tbl, num, old_row, new_row FROM journal ORDER BY txn, id", &r, func(row []mysql.FieldValue) error {
		e, err := entry(row, types)
		if err == nil && !f(e) {
			err = errEnough
		}
		return err
	}, nil)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough says that no more entries are wanted.
var errEnough = errors.New("no more is wanted")

func entry(row []mysql.FieldValue, types map[string]map[string]string) (e Entry, err error) {
	e = Entry{
		ID: row[0].AsInt64(), XID: row[1].AsUint64(), Op: string(row[3].AsString()), Table: string(row[4].AsString()), Change: row[5].AsInt64(),
	}
	if e.At, err = time.Parse(time.DateTime, string(row[2].AsString())); err != nil {
		return e, err
	}
	for i, side := range []*json.RawMessage{&e.Old, &e.New} {
		if v := &row[6+i]; v.Type == mysql.FieldValueTypeString {
			if *side, err = equal.MySQLRow(types[e.Table], v.AsString()); err != nil {
				return e, fmt.Errorf("entry %d: %w", e.ID, err)
			}
		}
	}
	return e, nil
}
