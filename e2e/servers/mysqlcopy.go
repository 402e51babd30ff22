package servers

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
)

// MySQLBackup copies the data of a running server as a snapshot of its disk would; a server that starts on it recovers as after a crash.
func (s *Server) MySQLBackup(t TB) (copied string) {
	t.Helper()
	copied = filepath.Join(tempDir(t, "mycopy"), "data")
	Freeze(t, s.cmd.Process.Pid)
	defer Thaw(t, s.cmd.Process.Pid)
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(s.Dir, "data"))); err != nil {
		t.Fatal(err)
	}
	return copied
}

// MySQLRestore puts a copy that MySQLBackup made in the place of the data, and starts the server on it, with the name that it had. It kills
// a running server first.
func (s *Server) MySQLRestore(t TB, copied string) {
	t.Helper()
	s.Kill()
	data := filepath.Join(s.Dir, "data")
	err := os.RemoveAll(data)
	if err == nil {
		err = os.Rename(copied, data)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
}

// replicas of this process, for ids and names.
var replicas atomic.Int32

// MySQLReplica starts a replica of a running server, which follows it by GTID, under a name of its own and with binlogs of other names.
func (s *Server) MySQLReplica(t TB) *Server {
	t.Helper()
	n := int(replicas.Add(1))
	dir := tempDir(t, "myreplica")
	if err := os.Rename(s.MySQLBackup(t), dir+"/data"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"auto.cnf", "relay-log.info", "master.info"} { // the copy is another server
		if err := os.RemoveAll(filepath.Join(dir, "data", name)); err != nil {
			t.Fatal(err)
		}
	}
	m := s.mysql
	m.id = 100 + n
	first := startMySQL(t, m, dir, m.args) // recovers, with the binlogs of the copy
	first.exec(t, "STOP SLAVE", "RESET SLAVE ALL")
	executed := first.text(t, m.executed())
	state := executed
	if m.flavor == flavorMariaDB {
		state = first.text(t, "SELECT @@GLOBAL.gtid_binlog_state")
	}
	first.Stop(syscall.SIGTERM)
	m.log = fmt.Sprintf("replica%d-bin", n)
	r := startMySQL(t, m, dir, m.args)
	primary := fmt.Sprintf("MASTER_HOST = '127.0.0.1', MASTER_PORT = %d, MASTER_USER = 'root', MASTER_CONNECT_RETRY = 1, ", s.Port)
	if m.flavor == flavorMariaDB {
		r.exec(t, "SET GLOBAL gtid_binlog_state = '"+state+"'", "SET GLOBAL gtid_slave_pos = '"+executed+"'", "CHANGE MASTER TO "+primary+"MASTER_USE_GTID = slave_pos")
	} else {
		r.exec(t, "CHANGE MASTER TO "+primary+"MASTER_AUTO_POSITION = 1")
	}
	r.exec(t, "START SLAVE")
	return r
}

// executed asks for all transactions that the server has.
func (m mysql) executed() string {
	if m.flavor == flavorMariaDB {
		return "SELECT @@GLOBAL.gtid_binlog_pos"
	}
	return "SELECT @@GLOBAL.gtid_executed"
}

// MySQLPromote makes a replica the primary. With a primary that still runs, that one takes no more writes, and the replica has all of its
// transactions first; nil leaves behind what has not come.
func (s *Server) MySQLPromote(t TB, primary *Server) {
	t.Helper()
	if primary != nil {
		stop, wait := "SET GLOBAL super_read_only = ON", "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', 120)"
		if s.mysql.flavor == flavorMariaDB {
			stop, wait = "SET GLOBAL read_only = ON", "SELECT MASTER_GTID_WAIT('%s', 120)"
		}
		primary.exec(t, stop)
		all := primary.text(t, s.mysql.executed())
		if got := s.text(t, fmt.Sprintf(wait, all)); got != "0" {
			t.Fatalf("the replica does not get all of %s: it has %s, and says %s", all, s.text(t, s.mysql.executed()), s.lastWords())
		}
	}
	s.exec(t, "STOP SLAVE", "RESET SLAVE ALL")
}

// exec runs statements as root.
func (s *Server) exec(t TB, statements ...string) {
	t.Helper()
	c := s.client(t)
	defer c.Close()
	for _, sql := range statements {
		if _, err := c.Execute(sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// text asks for one value.
func (s *Server) text(t TB, sql string) string {
	t.Helper()
	c := s.client(t)
	defer c.Close()
	r, err := c.Execute(sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	v, err := r.GetString(0, 0)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (s *Server) client(t TB) *client.Conn {
	t.Helper()
	c, err := client.Connect(s.Addr, "root", "", "")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Minute)) // nothing is waited for without end
	return c
}
