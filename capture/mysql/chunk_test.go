package mysql_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestChunkKeys: chunks of any size give each row once, whatever the key is made of.
func TestChunkKeys(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for n, tt := range []struct {
			columns, key string
			rows         []string
		}{
			{"a int", "a", []string{"-5", "0", "3", "-2147483648", "7"}},
			{"a bigint unsigned", "a", []string{"0", "18446744073709551615", "9223372036854775808", "1"}},
			{"a varchar(20) COLLATE utf8mb4_general_ci", "a", []string{"'b'", "'A'", "'c'", "'ä2'", "'Z'", "''", "'it''s \\\\ x'"}},
			{"a varchar(20) CHARACTER SET latin1", "a", []string{"'é'", "'z'", "'ü'", "'a'"}},
			{"a binary(4)", "a", []string{"x'00'", "x'ff00ff00'", "'ab'", "x'27'"}},
			{"a varbinary(4)", "a", []string{"x''", "x'00'", "x'0000'", "x'5c27'"}},
			{"a date", "a", []string{"'2024-01-01'", "'1999-12-31'", "'9999-12-31'"}},
			{"a datetime(3)", "a", []string{"'2024-01-01 00:00:00.001'", "'2024-01-01 00:00:00.002'", "'2023-01-01'"}},
			{"a timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)", "a", []string{"'2024-01-01 00:00:00.000001'", "'2024-01-01 00:00:00.000002'", "'2001-01-01'"}},
			{"a time", "a", []string{"'-838:59:59'", "'00:00:00'", "'100:00:00'", "'-00:00:01'"}},
			{"a decimal(30,10)", "a", []string{"-1.5", "0", "99999999999999999999.0000000001", "99999999999999999999.0000000002"}},
			{"a float", "a", []string{"0.1", "0.3", "-0.1", "1e30"}},
			{"a double", "a", []string{"0.1", "0.30000000000000004", "-1e300", "1e300"}},
			{"a bit(10)", "a", []string{"b'1'", "b'1111111111'", "b'0'", "b'1000000000'"}},
			{"a enum('z','y','x')", "a", []string{"'x'", "'y'", "'z'"}},
			{"a set('z','y','x')", "a", []string{"'x,z'", "'y'", "''", "'x,y,z'"}},
			{"a year", "a", []string{"1999", "2024", "0"}},
			{"a int, b varchar(5), c bigint unsigned", "b, c, a", []string{"1, 'x', 5", "2, 'x', 5", "1, 'x', 6", "1, 'y', 0", "-1, 'A', 18446744073709551615", "3, 'a', 1"}},
		} {
			table := fmt.Sprintf("k%d", n)
			w.exec(fmt.Sprintf("CREATE TABLE %s (%s, v int, PRIMARY KEY (%s))", table, tt.columns, tt.key))
			for i, r := range tt.rows {
				w.exec(fmt.Sprintf("INSERT INTO %s VALUES (%s, %d)", table, r, i))
			}
		}
		l := w.open(w.source("shop.*"), "")
		tables, err := l.Tables(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range tables {
			name := info.Schema.Table
			want := w.text("SELECT count(*) FROM " + name.Name)
			for _, size := range []int{1, 2, 100} {
				seen := map[string]bool{}
				for after, n := "", 0; ; n++ {
					c, err := l.Chunk(t.Context(), capture.ChunkRequest{Table: name, After: after, MaxRows: size, MaxBytes: 1 << 20})
					if err != nil {
						t.Fatalf("%s after %s: %v", info.Schema.Columns[0].Type, after, err)
					}
					for _, r := range c.Rows {
						if seen[string(r.Key)] {
							t.Errorf("%s: %s is there twice", info.Schema.Columns[0].Type, r.JSON)
						}
						seen[string(r.Key)] = true
					}
					if after = c.Next; after == "" || n > 20 {
						break
					}
				}
				if fmt.Sprint(len(seen)) != want {
					t.Errorf("%s in chunks of %d: %d rows, want %s", info.Schema.Columns[0].Type, size, len(seen), want)
				}
			}
		}
	})
}

// TestChunkVisible: a chunk shows what was committed, and says so; its marker comes back behind all of it.
func TestChunkVisible(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)")
		l := w.open(w.source("shop.*"), "")
		w.exec("INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2)")
		c, err := l.Chunk(t.Context(), capture.ChunkRequest{Table: event.Table{Schema: "shop", Name: "a"}, MaxRows: 10, MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Mark(t.Context(), "m1"); err != nil {
			t.Fatal(err)
		}
		w.exec("INSERT INTO a VALUES (3)")
		marked := false
		visible := 0
		for _, i := range l.until(func(i item) bool { return i.Kind == capture.Changed && strings.Contains(i.after, "3") }) {
			switch i.Kind {
			case capture.Marked:
				marked = true
				if visible != 2 {
					t.Errorf("the marker came behind %d changes, want 2", visible)
				}
			case capture.Changed:
				if c.Visible(i.XID) {
					visible++
				} else if !marked {
					t.Errorf("%s comes before the marker and is not visible", i)
				}
			default:
			}
		}
		if !marked || visible != 2 || len(c.Rows) != 2 {
			t.Errorf("marked %v, %d visible changes, %d rows; want true, 2, 2", marked, visible, len(c.Rows))
		}
		if err := l.Mark(t.Context(), "m2"); err != nil { // on an idle server
			t.Fatal(err)
		}
		l.until(func(i item) bool { return i.Kind == capture.Marked && i.Mark == "m2" })
	})
}

// TestFailover: a replica with other binlogs goes on where the primary was left, within a transaction; and one that lacks what was published is a gap.
func TestFailover(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE done (id int PRIMARY KEY)", "CREATE USER replica@'%' IDENTIFIED BY 'x'", "GRANT REPLICATION SLAVE ON *.* TO replica@'%'")
		replica := w.replica()
		l := w.open(w.source("shop.*"), "")
		start, err := l.Executed(l.Info().Confirmed)
		if err != nil {
			t.Fatal(err)
		}
		w.exec("INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2), (3), (4)", "INSERT INTO done VALUES (1)")
		var since []event.Position
		for _, i := range l.until(func(i item) bool { return strings.Contains(i.after, `{"id":2}`) }) {
			if i.Kind == capture.Changed && !strings.Contains(i.after, "3") && i.Schema.Table.Name == "a" && len(since) < 2 {
				since = append(since, i.Position)
			}
		}
		_ = l.Close(context.Background())
		other := &world{t: t, flavor: w.flavor, server: replica}
		other.db = other.connect()
		for want := w.text("SELECT count(*) FROM shop.done"); ; {
			if r, err := other.db.Execute("SELECT count(*) FROM shop.done"); err == nil {
				if n, err := r.GetString(0, 0); err == nil && n == want {
					break
				}
			}
			if t.Context().Err() != nil {
				t.Fatal("the replica does not follow")
			}
		}
		again := other.open(other.source("shop.*"), start, since...)
		var got []string
		for _, c := range again.changes("done") {
			got = append(got, c.after)
		}
		_ = again.Close(context.Background())
		if want := `{"id":3} {"id":4} {"id":1}`; strings.Join(got, " ") != want {
			t.Errorf("after %v: got %v, want %s", since, got, want)
		}
	})
}

// replica starts a server that follows this one, with fewer transactions in each of its binlogs.
func (w *world) replica() *servers.Server {
	w.t.Helper()
	start := servers.MySQL8
	follow := "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %d, MASTER_USER = 'replica', MASTER_PASSWORD = 'x', MASTER_AUTO_POSITION = 1, GET_MASTER_PUBLIC_KEY = 1"
	if w.flavor == mysql.MariaDB {
		start = servers.MariaDB
		follow = "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %d, MASTER_USER = 'replica', MASTER_PASSWORD = 'x', MASTER_USE_GTID = slave_pos"
	}
	s := start(w.t, "--server-id=2", "--max-binlog-size=4096")
	c, err := client.Connect(s.Addr, "root", "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	run(w.t, c, fmt.Sprintf(follow, w.server.Port), "START SLAVE")
	return s
}
