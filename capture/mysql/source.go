package mysql

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/capture"
)

var _ capture.Source = (*Source)(nil)

// standbyInterval is how often a standby looks whether it can take over.
const standbyInterval = time.Second

// utf8 is for sessions that read names.
const utf8 = "SET SESSION time_zone = '+00:00', sql_mode = '', character_set_results = utf8mb4"

// server is what was asked of it.
type server struct {
	version, id, identity string
	clock                 int64
	kind                  kind
	executed              set
	origin                string // of its own transactions
}

// Acquire implements capture.Source. A lock of the server's keeps a second agent waiting; it ends with the session that holds it, at the latest
// after half a minute of silence. (What a writer that has lost it still sends, the stream's fence refuses.)
func (s *Source) Acquire(ctx context.Context, waiting func(holder string)) (_ capture.Log, err error) {
	x, err := s.open(ctx, utf8, "SET SESSION wait_timeout = 30")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			x.close()
		}
	}()
	if err := s.ready(ctx, x); err != nil {
		return nil, err
	}
	if err := s.lock(ctx, x, waiting); err != nil {
		return nil, err
	}
	sv, err := s.ask(ctx, x)
	if err != nil {
		return nil, err
	}
	l := &Log{source: s, control: x, server: sv, wake: make(chan struct{}, 1)}
	if l.collations, err = collations(ctx, x); err != nil {
		return nil, err
	}
	if l.serverID, err = s.freeID(ctx, x); err != nil {
		return nil, err
	}
	p := sv.executed.newest(sv.origin)
	l.info = capture.Info{
		Identity: sv.identity, Connector: s.cfg.Flavor, Server: sv.version, Clock: sv.clock, Flushed: p, Confirmed: p,
	}
	if sv.kind == placeSets {
		s.cfg.Log.Warn("the server has no GTIDs: positions are files and bytes of its binlog, and after a failover everything must be loaded again", "source", s.cfg.Name, "fix", turnOn)
	}
	l.begin(ctx)
	return l, nil
}

// setting is a variable that must have a value.
type setting struct{ name, want, why string }

func (s *Source) settings() []setting {
	all := []setting{
		{"log_bin", "1", "start the server with log_bin"},
		{"binlog_format", "ROW", "SET GLOBAL binlog_format = 'ROW', and let the applications connect again"},
		{"binlog_row_image", "FULL", "SET GLOBAL binlog_row_image = 'FULL', and let the applications connect again"},
	}
	if s.cfg.Flavor == MySQL {
		all = append(all,
			setting{"binlog_row_value_options", "", "SET GLOBAL binlog_row_value_options = '', and let the applications connect again"})
	}
	return all
}

// turnOn is how to get GTIDs.
const turnOn = "turn GTIDs on, one step after the other: SET GLOBAL enforce_gtid_consistency = ON; " +
	"SET GLOBAL gtid_mode = OFF_PERMISSIVE; = ON_PERMISSIVE; = ON"

// kind of names that the server gives to transactions.
func (s *Source) kind(ctx context.Context, x *session) (kind, error) {
	if s.cfg.Flavor == MariaDB {
		return domainSets, nil
	}
	var mode string
	if err := x.texts(ctx, "SELECT @@GLOBAL.gtid_mode", &mode); err != nil {
		return 0, s.explain("read the server's settings", err)
	}
	switch mode {
	case "ON":
		return uuidSets, nil
	case "OFF":
		return placeSets, nil
	}
	return 0, setup("gtid_mode is "+mode+", with which a transaction may have a GTID or not", turnOn+". Without GTIDs, OFF also works, with positions that no failover keeps")
}

// ready checks what no right can replace.
func (s *Source) ready(ctx context.Context, x *session) error {
	var version string
	if err := x.texts(ctx, "SELECT VERSION()", &version); err != nil {
		return s.explain("read the server's version", err)
	}
	maria := strings.Contains(version, "MariaDB")
	if maria != (s.cfg.Flavor == MariaDB) {
		return setup("the server is "+version, "write the source as mysql: for MySQL, and as mariadb: for MariaDB")
	}
	major, minor := versionOf(version)
	if !maria && major < 8 || maria && (major < 10 || major == 10 && minor < 6) {
		return setup(version+" is too old", "use MySQL 8.0 or MariaDB 10.6, or later")
	}
	if _, err := s.kind(ctx, x); err != nil {
		return err
	}
	for _, v := range s.settings() {
		var is string
		if err := x.texts(ctx, "SELECT @@GLOBAL."+v.name, &is); err != nil {
			if code(err) == 1193 { // unknown before 8.0.3
				continue
			}
			return s.explain("read the server's settings", err)
		}
		if is != v.want {
			return setup(v.name+" is "+is, v.why)
		}
	}
	return nil
}

func versionOf(text string) (major, minor int) {
	f := strings.FieldsFunc(text, func(r rune) bool { return r == '.' || r == '-' })
	if len(f) > 1 {
		major, _ = strconv.Atoi(f[0])
		minor, _ = strconv.Atoi(f[1])
	}
	return major, minor
}

func (s *Source) lockName() string { return "runnel." + s.cfg.Name }

// lock waits as a standby while another agent holds the lock.
func (s *Source) lock(ctx context.Context, x *session, waiting func(string)) error {
	told := false
	for {
		var got string
		if err := x.texts(ctx, "SELECT COALESCE(GET_LOCK("+quote(s.lockName())+", 0), 0)", &got); err != nil {
			return s.explain("take the lock "+s.lockName(), err)
		}
		if got == "1" {
			return nil
		}
		var holder string
		if err := x.texts(ctx, "SELECT COALESCE(IS_USED_LOCK("+quote(s.lockName())+"), 0)", &holder); err != nil {
			return s.explain("see who holds the lock "+s.lockName(), err)
		}
		if !told && holder != "0" && waiting != nil {
			told = true
			waiting("connection " + holder + " of " + s.address)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(standbyInterval):
		}
	}
}

// ask reads what the server is and has executed.
func (s *Source) ask(ctx context.Context, x *session) (server, error) {
	var sv server
	var clock, executed string
	err := x.texts(ctx, "SELECT VERSION(), @@GLOBAL.server_id, UNIX_TIMESTAMP()", &sv.version, &sv.id, &clock)
	if err != nil {
		return sv, s.explain("ask the server who it is", err)
	}
	sv.clock, _ = strconv.ParseInt(clock, 10, 64)
	if s.cfg.Flavor == MySQL {
		err = x.texts(ctx, "SELECT @@GLOBAL.server_uuid", &sv.identity)
		sv.origin = sv.identity
	} else {
		err = x.texts(ctx, "SELECT CONCAT(@@GLOBAL.gtid_domain_id, '-', @@GLOBAL.server_id)", &sv.origin)
		sv.identity = "mariadb-" + sv.id
	}
	if err != nil {
		return sv, s.explain("ask the server who it is", err)
	}
	if sv.kind, err = s.kind(ctx, x); err != nil {
		return sv, err
	}
	if sv.kind == placeSets {
		sv.origin = placePrefix + sv.identity
		at, err := s.end(ctx, x)
		sv.executed = set{places: &places{origin: sv.origin, through: at.number() - 1, next: at.number()}}
		return sv, err
	}
	if executed, err = s.executed(ctx, x); err != nil {
		return sv, err
	}
	sv.executed, err = parseSet(sv.kind, executed)
	return sv, err
}

// executed is what the binlog holds. MySQL's set shows a commit once every snapshot does; MariaDB's position is ahead of that.
func (s *Source) executed(ctx context.Context, x *session) (string, error) {
	sql := "SELECT @@GLOBAL.gtid_executed"
	if s.cfg.Flavor == MariaDB {
		sql = "SELECT @@GLOBAL.gtid_binlog_pos"
	}
	var text string
	if err := x.texts(ctx, sql, &text); err != nil {
		return "", s.explain("read which transactions the server has", err)
	}
	return text, nil
}

// freeID picks a server id that no replica has: two with the same one would cut off each other for ever. Chance sees to that, one in two
// thousand million for each replica. They are not listed: MySQL 8.0.15 dies of SHOW SLAVE HOSTS while one of them leaves.
func (s *Source) freeID(ctx context.Context, x *session) (uint32, error) {
	var own string
	if err := x.texts(ctx, "SELECT @@GLOBAL.server_id", &own); err != nil {
		return 0, s.explain("read the server's id", err)
	}
	for {
		var b [4]byte
		rand.Read(b[:])
		if id := binary.BigEndian.Uint32(b[:]) | 1<<31; strconv.FormatUint(uint64(id), 10) != own {
			return id, nil
		}
	}
}

// Tables implements capture.Snapshotter.
func (l *Log) Tables(ctx context.Context) ([]capture.TableInfo, error) {
	x, err := l.source.open(ctx, utf8)
	if err != nil {
		return nil, err
	}
	defer x.close()
	all, err := l.source.look(ctx, x, nil)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, setup(fmt.Sprintf("no table matches %v, or the user may not read any", l.source.cfg.Tables),
			"check the source's tables, and: "+l.source.grants())
	}
	out := make([]capture.TableInfo, len(all))
	for i, t := range all {
		out[i] = capture.TableInfo{Schema: t.schema, EstimatedRows: t.rows, Keyless: len(t.schema.KeyColumns()) == 0}
	}
	return out, nil
}
