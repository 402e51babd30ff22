package clickhouse

import (
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/runnel-dev/runnel/functions"
)

// Codes of ClickHouse's errors (src/Common/ErrorCodes.cpp).
const (
	unknownTable         = 60
	unknownDatabase      = 81
	readonly             = 164
	unknownUser          = 192
	wrongPassword        = 193
	requiredPassword     = 194
	tableIsReadOnly      = 242
	notEnoughSpace       = 243
	accessDenied         = 497
	authenticationFailed = 516
)

// values are the codes that say that a value does not fit its column.
var values = map[int32]bool{6: true, 26: true, 27: true, 38: true, 41: true, 53: true, 69: true, 70: true, 72: true, 117: true, 131: true, 321: true, 349: true, 376: true, 407: true, 441: true, 467: true, 675: true, 676: true}

// classify gives an error its class: a wrong value (second result), a wrong target or permission (Halt), or something that
// passes, which is tried again.
func (s *Sink) classify(err error, t *table) (error, bool) { //nolint:revive,staticcheck // the error is what is transformed
	if err == nil {
		return nil, false
	}
	var e *clickhouse.Exception
	if !errors.As(err, &e) {
		return fmt.Errorf("clickhouse: %w", err), false
	}
	name := quote(s.database) + ".*"
	if t != nil {
		name = t.name
	}
	err = fmt.Errorf("clickhouse: code %d: %s", e.Code, shorten(e.Message))
	switch e.Code {
	case unknownTable:
		if t != nil {
			return s.dropped(t), false
		}
		return err, false
	case unknownDatabase:
		return functions.Halt(fmt.Errorf("%w; run CREATE DATABASE %s", err, quote(s.database))), false
	case readonly:
		return functions.Halt(fmt.Errorf("%w; the user's profile is read-only: SET readonly = 0 in it, or use another user", err)), false
	case accessDenied:
		return functions.Halt(fmt.Errorf("%w; run GRANT SELECT, INSERT, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER TABLE ON %s TO the user of the url", err, name)), false
	case unknownUser, wrongPassword, requiredPassword, authenticationFailed:
		return functions.Halt(fmt.Errorf("clickhouse: code %d: user or password of the url is wrong", e.Code)), false
	case tableIsReadOnly:
		return fmt.Errorf("%w (the table is read-only: look at the server's disk and Keeper)", err), false
	case notEnoughSpace:
		return fmt.Errorf("%w (the server's disk is full: make room, it goes on by itself)", err), false
	}
	return err, values[e.Code]
}

// dropped says that a table is gone that this sink has written. Made anew it would hold what comes from now on, and seem to be
// whole.
func (s *Sink) dropped(t *table) error {
	view := quote(s.database) + "." + quote(t.plain+live)
	return functions.Halt(fmt.Errorf("clickhouse: table %s was dropped or renamed while the function %s wrote it: run DROP VIEW IF EXISTS %s in ClickHouse, then `runnel delete %s` and `runnel deploy`, and it is filled again from the stream's beginning; or only `runnel resume %s`, to go on without the rows that it had",
		t.name, s.function, view, s.function, s.function))
}

// shorten keeps an error readable: ClickHouse quotes the whole row.
func shorten(s string) string {
	const most = 600
	if len(s) > most {
		s = s[:most] + "..."
	}
	return s
}
