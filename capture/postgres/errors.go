package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/runnel-dev/runnel/capture"
)

// SQLSTATE codes, https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	invalidPassword    = "28P01"
	notAuthorized      = "28000"
	noSuchDatabase     = "3D000"
	noPrivilege        = "42501"
	limitExceeded      = "53400"
	tooManyConnections = "53300"
	objectInUse        = "55006"
	undefinedObject    = "42704"
	undefinedFile      = "58P01"
	adminShutdown      = "57P01"
	cannotConnectNow   = "57P03"
)

func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func setup(reason, format string, args ...any) *capture.SetupError {
	return &capture.SetupError{Reason: reason, Fix: fmt.Sprintf(format, args...)}
}

// explain turns what a server says to an agent that lacks something into what the operator does about it. The texts of pgx
// never contain the password.
func (s *Source) explain(action string, err error) error {
	user, db := s.pool.ConnConfig.User, s.pool.ConnConfig.Database
	var fix string
	switch code(err) {
	case invalidPassword:
		fix = fmt.Sprintf("check user %q and its password in the source's url", user)
	case notAuthorized:
		fix = fmt.Sprintf("let user %q connect in pg_hba.conf, to database %q and for replication", user, db)
	case noSuchDatabase:
		fix = "correct the database's name in the source's url"
	case noPrivilege:
		fix = fmt.Sprintf("ALTER ROLE %s REPLICATION; (on Amazon RDS: GRANT rds_replication TO %[1]s;)", quote(user))
	case limitExceeded:
		fix = "drop a slot that nobody needs (SELECT slot_name, active FROM pg_replication_slots) or raise max_replication_slots and restart the server"
	case tooManyConnections: // may pass by itself
		return fmt.Errorf("%s: %w: if this stays, raise max_wal_senders or max_connections and restart the server", action, err)
	default:
		return fmt.Errorf("%s: %w", action, err)
	}
	return &capture.SetupError{Reason: action, Fix: fix, Err: err}
}

func (s *Source) gap(reason string, args ...any) error {
	return &capture.GapError{Reason: fmt.Sprintf(reason, args...), Fix: "run once with --resnapshot to go on from where the log can be read and load everything again"}
}
