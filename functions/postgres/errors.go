package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/runnel-dev/runnel/runtime/sink"
)

// class says what an error of PostgreSQL means for us. It is decided here and nowhere else.
type class int

const (
	transient class = iota // connection, lock, deadlock, shutdown, read-only standby, full disk: try again
	data                   // this row can never be written: find it
	structure              // the table is not what it was when we looked: look again
	denied                 // GRANT something
	wrong                  // the specification or the target is wrong
)

// Codes of https://www.postgresql.org/docs/current/errcodes-appendix.html.
const (
	foreignKeyViolation   = "23503"
	divisionByZero        = "22012"
	cardinalityViolation  = "21000" // two rows of a statement for one row of the table
	programLimit          = "54000" // a value is too large for an index
	insufficientPrivilege = "42501"
	invalidCatalog        = "3D000"
	featureNotSupported   = "0A000"
	undefinedTable        = "42P01"
	invalidSchema         = "3F000"
	undefinedColumn       = "42703"
	noUniqueIndex         = "42P10"
	datatypeMismatch      = "42804"
	generatedAlways       = "428C9"
	duplicateTable        = "42P07"
	duplicateColumn       = "42701"
	duplicateSchema       = "42P06"
)

func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// detailOf is what PostgreSQL says besides: values, and the table that lacks them.
func detailOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Detail
	}
	return ""
}

func classOf(err error) class {
	code := codeOf(err)
	if code == "" {
		return transient
	}
	switch code {
	case cardinalityViolation, programLimit:
		return data
	case "P0001", "P0002", "P0003", "P0004": // raised by a trigger of the user
		return data
	case insufficientPrivilege:
		return denied
	case undefinedTable, undefinedColumn, invalidSchema, noUniqueIndex, datatypeMismatch, generatedAlways, featureNotSupported,
		duplicateTable, duplicateColumn, duplicateSchema: // the last three: somebody else was quicker
		return structure
	case invalidCatalog:
		return wrong
	}
	switch code[:2] {
	case "22", "23", "44":
		return data
	case "28":
		return wrong
	case "42":
		return wrong
	}
	return transient
}

// explain adds what the operator can do to an error that is neither of one event nor of a moment.
func (s *Sink) explain(err error, table ident) error {
	if err == nil || sink.IsHalt(err) || errors.Is(err, sink.ErrBehind) || errors.Is(err, sink.ErrClosed) {
		return err
	}
	switch classOf(err) {
	case denied:
		if table == (ident{}) {
			return sink.Halt(fmt.Errorf("role %s may not do this: %w; %s", s.role, err, s.grantRunnel()))
		}
		return sink.Halt(fmt.Errorf("role %s may not write %s: %w; as its owner or a superuser run: %s", s.role, table, err, s.grant(table)))
	case structure:
		return sink.Halt(fmt.Errorf("table %s does not fit: %w", table, err))
	case wrong:
		if code := codeOf(err); code == invalidCatalog || code[:2] == "28" {
			return sink.Halt(fmt.Errorf("the target refuses the connection: %w; check user, password and database in the function's url, and the server's pg_hba.conf", err))
		}
		return sink.Halt(err)
	case transient, data:
	}
	return err
}

func (s *Sink) grant(t ident) string {
	return fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON %s TO %s;", quote(t.schema), quote(s.role), t, quote(s.role))
}

func (s *Sink) grantRunnel() string {
	return fmt.Sprintf("as a superuser or the database's owner run: CREATE SCHEMA IF NOT EXISTS runnel; GRANT USAGE, CREATE ON SCHEMA runnel TO %[1]s; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA runnel TO %[1]s;", quote(s.role))
}
