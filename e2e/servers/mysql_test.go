package servers_test

import (
	"testing"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/e2e/servers"
)

func TestMySQL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		start func(servers.TB, ...string) *servers.Server
	}{{"MySQL", servers.MySQL8}, {"MariaDB", servers.MariaDB}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := tt.start(t, "--binlog-row-image=MINIMAL")
			run := func(sql string) string {
				c, err := client.Connect(s.Addr, "root", "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				r, err := c.Execute(sql)
				if err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
				if r.Resultset == nil || r.RowNumber() == 0 {
					return ""
				}
				v, err := r.GetString(0, 0)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			if got := run("SELECT @@binlog_row_image"); got != "MINIMAL" {
				t.Errorf("binlog_row_image: got %s, want MINIMAL", got)
			}
			if got := run("SELECT @@binlog_row_metadata"); got != "FULL" {
				t.Errorf("binlog_row_metadata: got %s, want FULL", got)
			}
			run("CREATE DATABASE shop")
			run("CREATE TABLE shop.t (id int PRIMARY KEY)")
			run("INSERT INTO shop.t VALUES (1), (2)")
			s.Kill()
			s.Restart(t)
			if got := run("SELECT count(*) FROM shop.t"); got != "2" {
				t.Errorf("rows after kill -9: got %s, want 2", got)
			}
			copied := s.MySQLBackup(t)
			r := s.MySQLReplica(t)
			run("INSERT INTO shop.t VALUES (3)")
			r.MySQLPromote(t, s)
			s.MySQLRestore(t, copied)
			if got := run("SELECT count(*) FROM shop.t"); got != "2" {
				t.Errorf("rows after a restore: got %s, want 2", got)
			}
			s = r
			if got := run("SELECT count(*) FROM shop.t"); got != "3" {
				t.Errorf("rows of the promoted replica: got %s, want 3", got)
			}
		})
	}
}
