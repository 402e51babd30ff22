package mysql_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/capture/mysql"
)

// TestStatements: what statements of many kinds leave in the log.
func TestStatements(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY, v varchar(20))", "CREATE TABLE b (id int PRIMARY KEY, v varchar(20))",
			"CREATE TABLE parent (id int PRIMARY KEY)", "CREATE TABLE child (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE)",
			"CREATE TABLE ci (k varchar(10) COLLATE utf8mb4_general_ci PRIMARY KEY, n int)")
		l := w.open(w.source(), "")
		for _, tt := range []struct {
			name       string
			statements []string
			want       string
			only       string
		}{
			{"Upsert", []string{"INSERT INTO a VALUES (1, 'x')", "INSERT INTO a VALUES (1, 'y') ON DUPLICATE KEY UPDATE v = 'z'", "REPLACE INTO a VALUES (1, 'w')"},
				`c a  {"id":1,"v":"x"}|u a  {"id":1,"v":"z"}|u a  {"id":1,"v":"w"}`, ""},
			{"TwoTables", []string{"INSERT INTO b VALUES (1, 'b')", "UPDATE a, b SET a.v = 'm', b.v = 'm' WHERE a.id = b.id", "DELETE a, b FROM a JOIN b ON a.id = b.id"},
				`c b  {"id":1,"v":"b"}|u a  {"id":1,"v":"m"}|u b  {"id":1,"v":"m"}|d a {"id":1} |d b {"id":1} `, ""},
			{"Cascade", []string{"INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (1, 1)", "DELETE FROM parent"},
				`c parent  {"id":1}|c child  {"id":1,"p":1}|d parent {"id":1} `, ""}, // of the child nothing
			{"CreateSelect", []string{"INSERT INTO a VALUES (1, 'x'), (2, 'y')", "CREATE TABLE s (PRIMARY KEY (id)) SELECT * FROM a"},
				`c a  {"id":1,"v":"x"}|c a  {"id":2,"v":"y"}|c s  {"id":1,"v":"x"}|c s  {"id":2,"v":"y"}`, mysql.MariaDB}, // MySQL refuses it with GTIDs before 8.0.21
			{"Renames", []string{"CREATE TABLE a2 (id int PRIMARY KEY, n int)", "RENAME TABLE a TO a3, a2 TO a, a3 TO a2", "INSERT INTO a VALUES (7, 7)", "INSERT INTO a2 VALUES (8, 'x')"},
				`c a  {"id":7,"n":7}|c a2  {"id":8,"v":"x"}`, ""},
			{"Case", []string{"INSERT INTO ci VALUES ('Ab', 1)", "UPDATE ci SET k = 'aB'", "INSERT INTO ci VALUES ('AB', 1) ON DUPLICATE KEY UPDATE n = 2", "REPLACE INTO ci VALUES ('AB', 3)"},
				`c ci  {"k":"Ab","n":1}|d ci {"k":"Ab"} |c ci  {"k":"aB","n":1}|u ci  {"k":"aB","n":2}|d ci {"k":"aB"} |c ci  {"k":"AB","n":3}`, ""},
			{"Invisible", []string{"CREATE TABLE i (id int PRIMARY KEY, h int INVISIBLE DEFAULT 5, g int AS (id * 2) VIRTUAL, s int AS (id * 3) STORED)", "INSERT INTO i (id) VALUES (1)", "UPDATE i SET h = 6"},
				`c i  {"id":1,"h":5,"g":2,"s":3}|u i  {"id":1,"h":6,"g":2,"s":3}`, mysql.MariaDB}, // MySQL has them since 8.0.23
			{"RowImageOfAll", []string{"SET binlog_row_image = 'NOBLOB'", "INSERT INTO b VALUES (20, 'x')", "UPDATE b SET v = 'z' WHERE id = 20", "SET binlog_row_image = 'FULL'"},
				`c b  {"id":20,"v":"x"}|u b  {"id":20,"v":"z"}`, ""},
			{"Temporary", []string{"CREATE TEMPORARY TABLE tmp (id int PRIMARY KEY)", "INSERT INTO tmp VALUES (1)", "INSERT INTO b VALUES (21, 'x')", "DROP TEMPORARY TABLE tmp"},
				`c b  {"id":21,"v":"x"}`, ""},
			{"GhostTable", []string{"CREATE TABLE _b_gho LIKE b", "ALTER TABLE _b_gho ADD COLUMN n int DEFAULT 9", "INSERT INTO _b_gho (id, v) SELECT id, v FROM b WHERE id = 21",
				"LOCK TABLES b WRITE, _b_gho WRITE", "UNLOCK TABLES", "RENAME TABLE b TO _b_del, _b_gho TO b", "DROP TABLE _b_del", "UPDATE b SET v = 'g' WHERE id = 21"},
				`c _b_gho  {"id":21,"v":"x","n":9}|u b  {"id":21,"v":"g","n":9}`, ""},
			{"KeyChanged", []string{"CREATE TABLE k (id int PRIMARY KEY, u int NOT NULL)", "INSERT INTO k VALUES (1, 10)", "ALTER TABLE k DROP PRIMARY KEY, ADD PRIMARY KEY (u)", "DELETE FROM k"},
				`c k  {"id":1,"u":10}|d k {"u":10} `, ""},
		} {
			if tt.only != "" && tt.only != w.flavor {
				continue
			}
			w.exec(tt.statements...)
			var got []string
			for _, c := range l.read() {
				got = append(got, c.String())
			}
			if d := cmp.Diff(strings.Split(tt.want, "|"), got); d != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, d)
			}
		}
	})
}

// TestRolledBack: what a table without transactions keeps of a transaction that was rolled back comes, and nothing else. MySQL refuses such
// a transaction under GTIDs.
func TestRolledBack(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE m (id int PRIMARY KEY) ENGINE = MyISAM")
		l := w.open(w.source(), "")
		if w.flavor == mysql.MySQL {
			w.exec("INSERT INTO m VALUES (1)", "DELETE FROM m")
			if got := lines(l.read()); got != "c m  {\"id\":1}\nd m {\"id\":1} \n" {
				t.Errorf("got %s", got)
			}
			return
		}
		w.exec("BEGIN", "INSERT INTO a VALUES (1)", "INSERT INTO m VALUES (1)", "INSERT INTO a VALUES (2)", "ROLLBACK", "BEGIN", "INSERT INTO m VALUES (2)", "INSERT INTO a VALUES (3)", "COMMIT")
		got := lines(l.read())
		if strings.Contains(got, "c a  {\"id\":1}") || strings.Contains(got, "c a  {\"id\":2}") || !strings.Contains(got, "c m  {\"id\":1}") ||
			!strings.Contains(got, "c m  {\"id\":2}") || !strings.Contains(got, "c a  {\"id\":3}") {
			t.Errorf("got:\n%s", got)
		}
	})
}

// TestCompressed: MariaDB compresses rows and statements.
func TestCompressed(t *testing.T) {
	t.Parallel()
	w := flavors[1].alone(t)
	w.exec("SET GLOBAL log_bin_compress = ON", "SET GLOBAL log_bin_compress_min_len = 10")
	defer w.exec("SET GLOBAL log_bin_compress = OFF")
	l := w.open(w.source(), "")
	long := strings.Repeat("x", 300)
	w.exec("CREATE TABLE a (id int PRIMARY KEY, v varchar(1000) COMMENT '"+long+"')", "INSERT INTO a VALUES (1, '"+long+"')", "UPDATE a SET v = CONCAT(v, 'y')", "DELETE FROM a", "TRUNCATE a /*"+long+"*/")
	want := "c a  {\"id\":1,\"v\":\"" + long + "\"}\nu a  {\"id\":1,\"v\":\"" + long + "y\"}\nd a {\"id\":1} \nt a  \n"
	if d := cmp.Diff(want, lines(l.read())); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestCompressedTransaction: MySQL compresses whole transactions. (The server of the tests is too old to do so itself.)
func TestCompressedTransaction(t *testing.T) {
	t.Parallel()
	w := flavors[0].alone(t)
	w.exec("CREATE TABLE a (id int PRIMARY KEY, v varchar(20), j json)", "CREATE TABLE b (id int PRIMARY KEY)")
	l := w.open(w.source("a"), "")
	w.exec("BEGIN", "INSERT INTO a VALUES (1, 'x', '[1]'), (2, NULL, NULL)", "INSERT INTO b VALUES (1)", "UPDATE a SET v = 'ü' WHERE id = 1", "DELETE FROM a WHERE id = 2", "COMMIT")
	if err := mysql.Compress(t.Context(), l.Log); err != nil {
		t.Fatal(err)
	}
	w.exec("INSERT INTO a VALUES (3, 'after', NULL)")
	var got []string
	for _, c := range l.read() {
		got = append(got, fmt.Sprintf("%s %d %t", c, c.Position.Change, c.last))
	}
	want := []string{`c a  {"id":1,"v":"x","j":[1]} 1 false`, `c a  {"id":2,"v":null,"j":null} 2 false`, `u a  {"id":1,"v":"ü","j":[1]} 4 false`, `d a {"id":2}  5 true`,
		`c a  {"id":3,"v":"after","j":null} 1 true`}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestHeldCommit: a commit that waits for a replica is in the log and no snapshot shows it. MariaDB counts it as part of its binlog.
func TestHeldCommit(t *testing.T) {
	t.Parallel()
	w := flavors[1].alone(t)
	w.exec("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
	l := w.open(w.source(), "")
	w.exec("SET GLOBAL rpl_semi_sync_master_timeout = 600000", "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC", "SET GLOBAL rpl_semi_sync_master_wait_no_slave = ON",
		"SET GLOBAL rpl_semi_sync_master_enabled = ON")
	other := w.connect()
	run(t, other, "USE "+w.name)
	done := make(chan error, 1)
	go func() {
		_, err := other.Execute("INSERT INTO a VALUES (2)")
		done <- err
	}()
	released := false
	release := func() {
		if !released {
			released = true
			w.exec("SET GLOBAL rpl_semi_sync_master_enabled = OFF")
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	defer release()
	held := l.changes("a")[0] // the log has it before its commit returns
	c := w.chunk(l, "a")
	waiting, err := l.Waiting(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Rows) != 1 || c.Visible(held.XID) || len(waiting) != 1 || c.Visible(waiting[0]) {
		t.Errorf("while it waits: %d rows, visible %t, waiting %v", len(c.Rows), c.Visible(held.XID), waiting)
	}
	release()
	if c = w.chunk(l, "a"); len(c.Rows) != 2 || !c.Visible(held.XID) || !c.Visible(waiting[0]) {
		t.Errorf("once it is done: %d rows, visible %t and %t", len(c.Rows), c.Visible(held.XID), c.Visible(waiting[0]))
	}
}
