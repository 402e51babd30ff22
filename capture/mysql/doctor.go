package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/doctor"
)

var _ doctor.Examiner = (*Source)(nil)

// Doctor looks at the server, at the user's rights and at the tables, and changes nothing.
func (s *Source) Doctor(ctx context.Context) []doctor.Finding {
	var r doctor.Report
	x, err := s.open(ctx, utf8)
	if err != nil {
		fault(&r, "connection", err)
		return r
	}
	defer x.close()
	sv, err := s.ask(ctx, x)
	if err != nil {
		fault(&r, "server", err)
		return r
	}
	r.OK("server", "%s at %s", sv.version, s.address)
	s.examineSettings(ctx, x, &r)
	s.examineRights(ctx, x, &r)
	s.examineTables(ctx, x, &r)
	return r
}

// fault reports an error with what to do about it.
func fault(r *doctor.Report, subject string, err error) {
	var setup *capture.SetupError
	if errors.As(err, &setup) {
		text := setup.Reason
		if setup.Err != nil {
			text += ": " + setup.Err.Error()
		}
		r.Fail(subject, setup.Fix, "%s", text)
		return
	}
	r.Fail(subject, "", "%v", err)
}

func (s *Source) examineSettings(ctx context.Context, x *session, r *doctor.Report) {
	if err := s.ready(ctx, x); err != nil {
		fault(r, "settings", err)
	} else {
		r.OK("settings", "whole rows in the binlog")
	}
	if k, err := s.kind(ctx, x); err == nil && k == placeSets {
		r.Warn("gtid_mode", turnOn, "it is OFF: positions are files and bytes of this server's binlog, and after a failover everything must be loaded again")
	}
	var metadata, expires string
	if err := x.texts(ctx, "SELECT @@GLOBAL.binlog_row_metadata", &metadata); err == nil && metadata != "FULL" {
		r.Warn("binlog_row_metadata", "SET GLOBAL binlog_row_metadata = 'FULL'; and in the server's configuration",
			"it is %s: the log has no names of columns; after a change of structure that was not read yet a table may not fit", metadata)
	}
	if err := x.texts(ctx, "SELECT @@GLOBAL.binlog_expire_logs_seconds", &expires); err == nil && expires != "0" && number([]byte(expires)) < 2*24*3600 {
		r.Warn("binlog_expire_logs_seconds", "SET GLOBAL binlog_expire_logs_seconds = 604800",
			"the server throws its log away after %s s: an agent that is down for longer must load everything again", expires)
	}
}

func (s *Source) examineRights(ctx context.Context, x *session, r *doctor.Report) {
	grants, err := x.query(ctx, "SHOW GRANTS")
	if err != nil {
		fault(r, "rights", s.explain("read the user's rights", err))
		return
	}
	var all strings.Builder
	for _, g := range grants {
		all.Write(g[0])
		all.WriteByte('\n')
	}
	text := strings.ToUpper(all.String())
	if !strings.Contains(text, "REPLICATION SLAVE") && !strings.Contains(text, "ALL PRIVILEGES ON *.*") {
		r.Fail("rights", s.grants(), "the user may not read the binlog")
		return
	}
	if _, err := s.end(ctx, x); err != nil {
		fault(r, "rights", err)
		return
	}
	r.OK("rights", "the user may read the binlog")
}

func (s *Source) examineTables(ctx context.Context, x *session, r *doctor.Report) {
	all, err := s.look(ctx, x, nil)
	if err != nil {
		fault(r, "tables", err)
		return
	}
	if len(all) == 0 {
		r.Fail("tables", s.grants(), "no table matches %v, or the user may not read any", s.cfg.Tables)
		return
	}
	for _, t := range all {
		name := fmt.Sprintf("table %s", t.table)
		if len(t.schema.KeyColumns()) == 0 {
			r.Warn(name, fmt.Sprintf("ALTER TABLE %s.%s ADD PRIMARY KEY (…)", quoteName(t.table.Schema), quoteName(t.table.Name)),
				"it has no primary key: rows that it has already are not loaded, only its changes")
			continue
		}
		r.OK(name, "about %d rows", t.rows)
	}
}
