package mysql

import (
	"errors"
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/runnel-dev/runnel/capture"
)

// code is the server's number of an error, or 0.
func code(err error) uint16 {
	var e *mysql.MyError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// explain says what an operator does about an error that no try again mends.
func (s *Source) explain(action string, err error) error {
	switch code(err) {
	case mysql.ER_ACCESS_DENIED_ERROR:
		return &capture.SetupError{Reason: action, Err: err, Fix: fmt.Sprintf("check user %q and its password in the source's url, and that it may connect from here (and with tls=verify, if it must)", s.user)}
	case mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR, mysql.ER_TABLEACCESS_DENIED_ERROR:
		return &capture.SetupError{Reason: action, Err: err, Fix: "give the user what it needs: " + s.grants()}
	}
	return fmt.Errorf("%s: %w", action, err)
}

// grants are the least privileges.
func (s *Source) grants() string {
	user := quote(s.user) + "@'%'"
	g := "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO " + user
	if s.cfg.Flavor == MariaDB {
		g = "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO " + user
	}
	return g + "; GRANT SELECT ON the captured tables, for example <database>.*, TO " + user
}

func (s *Source) gap(format string, args ...any) error {
	return &capture.GapError{
		Reason: fmt.Sprintf(format, args...),
		Fix: "name a server in the source's url that still has these transactions (a replica, or a backup of the binlogs), or run: runnel capture " +
			s.cfg.Name + " --resnapshot, which goes on from now and loads everything again",
	}
}

// purged is a gap that the server made by throwing its log away.
func (s *Source) purged(format string, args ...any) error {
	return &capture.GapError{
		Reason: fmt.Sprintf(format, args...),
		Fix: "name a server in the source's url that still has these transactions, or run: runnel capture " + s.cfg.Name +
			" --resnapshot, which goes on from now and loads everything again, or: runnel capture " + s.cfg.Name +
			" --from-oldest, which goes on with the oldest transaction that the server has and loads nothing, so that what was purged is missing in all targets",
	}
}

// unreadable is a gap that the log has itself: what it says cannot be told exactly.
func (d *decoder) unreadable(reason, before string) error {
	return &capture.GapError{
		Reason: reason,
		Fix:    before + "; then run: runnel capture " + d.log.source.cfg.Name + " --resnapshot, which goes on from now and loads everything again",
	}
}

func setup(reason, fix string) error { return &capture.SetupError{Reason: reason, Fix: fix} }
