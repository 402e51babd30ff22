package servers

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/go-mysql-org/go-mysql/client"
)

// MySQL8 starts MySQL 8.0 with GTIDs and full row metadata; user root, no password. A later argument overrides an earlier one.
func MySQL8(t TB, args ...string) *Server {
	t.Helper()
	home, err := filepath.Abs(Services() + "/mysql8")
	if err != nil {
		t.Fatal(err)
	}
	if !exists(home + "/template/mysql.ibd") {
		missing(t, "MySQL 8")
	}
	dir := tempDir(t, "my8")
	if err := os.CopyFS(dir+"/data", os.DirFS(home+"/template")); err != nil { // without auto.cnf: a server_uuid of its own
		t.Fatal(err)
	}
	return startMySQL(t, mysql{flavor: flavorMySQL, bin: home + "/bin/mysqld", id: 1, log: "binlog"}, dir, append([]string{"--basedir=" + home, "--lc-messages-dir=" + home + "/share",
		"--character-sets-dir=" + home + "/share/charsets", "--innodb-log-file-size=4M", "--mysqlx=OFF", "--gtid-mode=ON",
		"--enforce-gtid-consistency=ON", "--performance-schema=OFF"}, args...))
}

// MariaDB starts MariaDB with full row metadata; user root, no password. A later argument overrides an earlier one.
func MariaDB(t TB, args ...string) *Server {
	t.Helper()
	bin, err := exec.LookPath("mariadbd")
	if err != nil {
		if bin = "/usr/sbin/mariadbd"; !exists(bin) {
			missing(t, "MariaDB")
		}
	}
	install, err := exec.LookPath("mariadb-install-db")
	if err != nil {
		missing(t, "mariadb-install-db")
	}
	dir := tempDir(t, "maria")
	tmp := serverTemp(t, dir) // servers that share one delete each other's temporary tables
	cmd := exec.Command(install, "--no-defaults", "--user="+userName(t), "--datadir="+dir+"/data", "--tmpdir="+tmp,
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=16M")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	return startMySQL(t, mysql{flavor: flavorMariaDB, bin: bin, id: 1, log: "binlog"}, dir, append([]string{"--innodb-log-file-size=16M", "--gtid-strict-mode=ON", "--skip-name-resolve"}, args...))
}

// Flavors.
const (
	flavorMySQL   = "mysql"
	flavorMariaDB = "mariadb"
)

// mysql is what a server of either flavour was started with; replicas are started alike.
type mysql struct {
	flavor, bin string
	id          int    // server id
	log         string // base name of the binlogs: a path would lead a copy to those of the original
	args        []string
}

// startMySQL starts a server on the data in dir, with fsync off: killed processes lose nothing, for the operating system lives on.
func startMySQL(t TB, m mysql, dir string, args []string) *Server {
	t.Helper()
	m.args = args
	port := freePort(t)
	all := append([]string{"--no-defaults", "--user=" + userName(t), "--datadir=" + dir + "/data", "--tmpdir=" + serverTemp(t, dir), "--socket=" + dir + "/s.sock",
		"--pid-file=" + dir + "/pid", "--port=" + strconv.Itoa(port), "--bind-address=127.0.0.1", "--server-id=" + strconv.Itoa(m.id), "--log-bin=" + m.log,
		"--binlog-format=ROW", "--binlog-row-image=FULL", "--binlog-row-metadata=FULL", "--log-slave-updates=ON", "--skip-slave-start", "--sync-binlog=0",
		"--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=32M", "--character-set-server=utf8mb4"}, args...)
	s := start(t, dir, port, nil, syscall.SIGTERM, func() error {
		c, err := client.Connect(fmt.Sprintf("127.0.0.1:%d", port), "root", "", "")
		if err != nil {
			return err
		}
		return c.Close()
	}, nil, m.bin, all...)
	s.mysql = m
	return s
}

// serverTemp is a folder for temporary files of one server.
func serverTemp(t TB, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir+"/tmp", 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + "/tmp"
}

// userName is who runs this: the servers refuse to run as root unless they are told to.
func userName(t TB) string {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return me.Username
}

// MySQLURL is for both flavours.
func (s *Server) MySQLURL() string { return "mysql://root@" + s.Addr }
