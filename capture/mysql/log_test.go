package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/runtime/event"
)

func TestChanges(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int, part varchar(10), v int, PRIMARY KEY (part, id))", "CREATE TABLE loose (v int)",
			"CREATE TABLE other (id int PRIMARY KEY)", "CREATE DATABASE `x y`", "CREATE TABLE `x y`.`a``b` (`q\"` int PRIMARY KEY)", "CREATE TABLE done (id int PRIMARY KEY)")
		l := w.open(w.source("shop.a", "shop.loose", "x y.*", "shop.done"), "")
		w.exec("INSERT INTO a VALUES (1, 'x', 10), (2, 'x', 20)",
			"BEGIN", "INSERT INTO other VALUES (1), (2), (3)", "UPDATE a SET v = v + 1", "UPDATE a SET id = 7 WHERE id = 1", "DELETE FROM a WHERE id = 2", "COMMIT",
			"BEGIN", "INSERT INTO a VALUES (9, 'y', 1)", "ROLLBACK",
			"BEGIN", "INSERT INTO a VALUES (8, 'y', 1)", "SAVEPOINT s", "INSERT INTO a VALUES (9, 'y', 1)", "ROLLBACK TO s", "COMMIT",
			"INSERT INTO loose VALUES (1)", "UPDATE loose SET v = 2", "DELETE FROM loose",
			"INSERT INTO `x y`.`a``b` VALUES (1)", "TRUNCATE TABLE a", "/* x */ truncate `x y`.`a``b`", "TRUNCATE other", "INSERT INTO done VALUES (1)")
		changes := l.changes("done")
		want := []string{
			`c shop.a  {"id":1,"part":"x","v":10}`, `c shop.a  {"id":2,"part":"x","v":20}`,
			`u shop.a  {"id":1,"part":"x","v":11}`, `u shop.a  {"id":2,"part":"x","v":21}`,
			`d shop.a {"id":1,"part":"x"} `, `c shop.a  {"id":7,"part":"x","v":11}`, `d shop.a {"id":2,"part":"x"} `,
			`c shop.a  {"id":8,"part":"y","v":1}`,
			`c shop.loose  {"v":1}`, `u shop.loose {"v":1} {"v":2}`, `d shop.loose {"v":2} `,
			"c x y.a`b  {\"q\\\"\":1}", "t shop.a  ", "t x y.a`b  ", `c shop.done  {"id":1}`,
		}
		var got, places []string
		for _, c := range changes {
			got = append(got, c.String())
			places = append(places, fmt.Sprintf("%d.%d.%d %d %v", c.Position.Commit-changes[0].Position.Commit, c.Position.Change, c.Position.Part, c.Change.Order, c.last))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("changes (-want +got):\n%s", d)
		}
		// Rows of other tables count, and those of a transaction that was rolled back are not in the log.
		wantPlaces := []string{"0.1.0 1 false", "0.2.0 2 true", "1.4.0 1 false", "1.5.0 2 false", "1.6.0 3 false", "1.6.1 4 false", "1.7.0 5 true", "2.1.0 1 true"}
		if d := cmp.Diff(wantPlaces, places[:len(wantPlaces)]); d != "" {
			t.Errorf("positions (-want +got):\n%s", d)
		}
		if key := changes[0].Schema.KeyColumns(); !slices.Equal(key, []int{1, 0}) {
			t.Errorf("key: got columns %v, want part, id", key)
		}
	})
}

// TestResume: wherever a reader stops, the next one goes on with exactly the change that follows.
func TestResume(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY, v int)", "CREATE TABLE b (id int PRIMARY KEY)", "CREATE TABLE done (id int PRIMARY KEY)")
		l := w.open(w.source("shop.a", "shop.done"), "")
		start, err := l.Executed(l.Info().Confirmed)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			w.exec("BEGIN", fmt.Sprintf("INSERT INTO b VALUES (%d)", i), fmt.Sprintf("INSERT INTO a VALUES (%d, 0), (%d, 0)", 10*i, 10*i+1),
				fmt.Sprintf("UPDATE a SET id = id + 2 WHERE id = %d", 10*i+1), "COMMIT", fmt.Sprintf("INSERT INTO b VALUES (%d)", 100+i))
		}
		w.exec("INSERT INTO done VALUES (1)")
		all := l.until(func(i item) bool { return i.Kind == capture.Changed && i.Schema.Table.Name == "done" })
		_ = l.Close(context.Background())
		var changes, places []item
		for _, i := range all {
			if i.Kind == capture.Changed {
				changes = append(changes, i)
			}
			if i.Kind == capture.Changed || i.Kind == capture.Committed {
				places = append(places, i)
			}
		}
		if len(changes) != 21 {
			t.Fatalf("got %d changes, want 21:\n%s", len(changes), lines(changes))
		}
		for n := range places[:slices.IndexFunc(places, func(i item) bool { return i.Kind == capture.Changed && i.Schema.Table.Name == "done" })] {
			var since []event.Position
			rest := 0
			for i, p := range places {
				if i <= n {
					since = append(since, p.Position)
				} else if p.Kind == capture.Changed {
					rest++
				}
			}
			again := w.open(w.source("shop.a", "shop.done"), start, since...)
			got := again.changes("done")
			_ = again.Close(context.Background())
			want := changes[len(changes)-rest:]
			if d := cmp.Diff(lines(want), lines(got)); d != "" {
				t.Fatalf("after %s (-want +got):\n%s", places[n].Position, d)
			}
			for i := range got {
				if got[i].Position != want[i].Position || got[i].Change.Order != want[i].Change.Order || got[i].last != want[i].last {
					t.Fatalf("after %s: got %+v, want %+v", places[n].Position, got[i].Change, want[i].Change)
				}
			}
		}
	})
}

// TestExecuted: the set at any position, followed by what comes after it, is the whole.
func TestExecuted(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)")
		l := w.open(w.source("shop.*"), "")
		w.exec("INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2), (3)", "CREATE TABLE done (id int PRIMARY KEY)", "INSERT INTO done VALUES (1)")
		all := l.until(func(i item) bool { return i.Kind == capture.Committed && w.isLast(i.Position) })
		for _, i := range all {
			if i.Kind != capture.Changed && i.Kind != capture.Committed {
				continue
			}
			first, err := l.Executed(i.Position)
			if err != nil {
				t.Fatal(err)
			}
			if second, err := l.Executed(i.Position); err != nil || second != first {
				t.Errorf("at %s: got %s, then %s, %v", i.Position, first, second, err)
			}
		}
		got, err := l.Executed(all[len(all)-1].Position)
		if err != nil || got != w.executedNow() {
			t.Errorf("at the end: got %s, %v, want %s", got, err, w.executedNow())
		}
	})
}

func (w *world) executedNow() string {
	if w.flavor == mysql.MariaDB {
		return w.text("SELECT @@GLOBAL.gtid_binlog_pos")
	}
	return strings.ReplaceAll(w.text("SELECT @@GLOBAL.gtid_executed"), "\n", "")
}

// isLast says whether the server's newest transaction is the one of a position.
func (w *world) isLast(p event.Position) bool {
	now := w.executedNow()
	return strings.HasSuffix(now, fmt.Sprintf("-%d", p.Commit)) || strings.HasSuffix(now, fmt.Sprintf(":%d", p.Commit))
}

// TestRefused: what cannot be read exactly ends the log, with a statement that changes it.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name, want, only string
		statements       []string
	}{
		{"RowImage", "binlog_row_image = 'FULL'", "", []string{"SET binlog_row_image = 'MINIMAL'", "UPDATE a SET v = 2 WHERE id = 1"}},
		{"Statement", "binlog_format = 'ROW'", "", []string{"SET binlog_format = 'STATEMENT'", "UPDATE a SET v = 2 WHERE id = 1"}},
		{"XA", "ONE PHASE", "", []string{"XA START 'x'", "UPDATE a SET v = 2 WHERE id = 1", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"}},
		{"PartialJSON", "binlog_row_value_options = ''", mysql.MySQL, []string{"SET binlog_row_value_options = 'PARTIAL_JSON'", "UPDATE a SET j = JSON_SET(j, '$.a', 2) WHERE id = 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				if tt.only != "" && tt.only != w.flavor {
					return
				}
				w.exec("CREATE TABLE a (id int PRIMARY KEY, v int, j json)", `INSERT INTO a VALUES (1, 1, '{"a": 1, "b": "`+strings.Repeat("x", 100)+`"}')`)
				l := w.open(w.source("shop.*"), "")
				w.exec(tt.statements...)
				err := l.fails()
				var setup *capture.SetupError
				if !errors.As(err, &setup) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want a SetupError with %q", err, tt.want)
				}
			})
		})
	}
}

// TestOnePhase: XA with one phase is an ordinary transaction.
func TestOnePhase(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE done (id int PRIMARY KEY)")
		l := w.open(w.source("shop.*"), "")
		w.exec("XA START 'x'", "INSERT INTO done VALUES (1)", "XA END 'x'", "XA COMMIT 'x' ONE PHASE")
		if got := l.changes("done"); len(got) != 1 || !got[0].last {
			t.Errorf("got %s", lines(got))
		}
	})
}

// TestPurged: where the server has thrown its log away the operator is told.
func TestPurged(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)")
		l := w.open(w.source("shop.*"), "")
		set, err := l.Executed(l.Info().Confirmed)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close(context.Background())
		w.exec("INSERT INTO a VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (2)", "FLUSH BINARY LOGS")
		file := w.text("SHOW MASTER STATUS")
		for end := time.Now().Add(30 * time.Second); ; {
			w.exec("PURGE BINARY LOGS TO '" + file + "'")
			if w.text("SHOW BINARY LOGS") == file {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the server keeps its log")
			}
		}
		n, err := w.source("shop.*").Acquire(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close(context.Background())
		tr := n.(capture.Tracker)
		if err := tr.Resume(set, nil); err != nil {
			t.Fatal(err)
		}
		from := n.Info().Confirmed
		if err = n.Check(t.Context(), from, from, ""); err == nil {
			if err = n.Start(t.Context(), from, event.Position{}); err == nil {
				err = (&log{Log: n, t: t}).fails()
			}
		}
		var gap *capture.GapError
		if !errors.As(err, &gap) || !strings.Contains(err.Error(), "--resnapshot") {
			t.Errorf("got %v, want a gap that names --resnapshot", err)
		}
	})
}

// TestStandby: a second reader waits until the first one is gone.
func TestStandby(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)")
		l := w.open(w.source("shop.*"), "")
		if err := l.Holds(t.Context()); err != nil {
			t.Fatal(err)
		}
		waits := make(chan string, 1)
		taken := make(chan error, 1)
		go func() {
			n, err := w.source("shop.*").Acquire(t.Context(), func(holder string) { waits <- holder })
			if err == nil {
				err = n.Holds(t.Context())
				_ = n.Close(context.Background())
			}
			taken <- err
		}()
		select {
		case <-waits:
		case err := <-taken:
			t.Fatalf("taken at once: %v", err)
		}
		_ = l.Close(context.Background())
		if err := <-taken; err != nil {
			t.Error(err)
		}
	})
}

// TestStructure: structures follow the log, in the midst of a table's life and without names in the log.
func TestStructure(t *testing.T) {
	for _, metadata := range []string{"FULL", "MINIMAL"} {
		t.Run(metadata, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				w.exec("CREATE TABLE a (id int unsigned PRIMARY KEY, v varchar(10) CHARACTER SET latin1, e enum('x','y'))", "CREATE TABLE done (id int PRIMARY KEY)")
				l := w.open(w.source("shop.a", "shop.done"), "")
				w.exec("INSERT INTO a VALUES (4000000000, 'é', 'y')", "INSERT INTO done VALUES (1)")
				got := l.changes("done")
				w.exec("ALTER TABLE a ADD COLUMN n bigint unsigned FIRST, MODIFY e enum('z','x','y')", "INSERT INTO a VALUES (18446744073709551615, 1, 'ü', 'y')", "UPDATE done SET id = 2")
				got = append(got, l.changes("done")...)
				w.exec("CREATE TABLE _a_new LIKE a", "ALTER TABLE _a_new ADD COLUMN g int AS (id + 1) STORED, ADD COLUMN h int AS (id + 2) VIRTUAL",
					"INSERT INTO _a_new (n, id, v, e) SELECT * FROM a", "RENAME TABLE a TO _a_old, _a_new TO a", "DROP TABLE _a_old",
					"UPDATE a SET e = 'z' WHERE id = 1", "UPDATE done SET id = 3")
				got = append(got, l.changes("done")...)
				var text []string
				for _, c := range got {
					if c.Schema.Table.Name == "a" {
						text = append(text, c.after)
					}
				}
				want := []string{`{"id":4000000000,"v":"é","e":"y"}`, `{"n":18446744073709551615,"id":1,"v":"ü","e":"y"}`,
					`{"n":18446744073709551615,"id":1,"v":"ü","e":"z","g":2,"h":3}`}
				if d := cmp.Diff(want, text); d != "" {
					t.Errorf("rows (-want +got):\n%s", d)
				}
				c, err := l.Chunk(t.Context(), capture.ChunkRequest{Table: event.Table{Schema: "shop", Name: "a"}, MaxRows: 10, MaxBytes: 1 << 20})
				if err != nil {
					t.Fatal(err)
				}
				if last := string(c.Rows[0].JSON); last != want[2] {
					t.Errorf("chunk: got %s, want %s", last, want[2])
				}
			}, "--binlog-row-metadata="+map[string]string{"FULL": "FULL", "MINIMAL": "MINIMAL"}[metadata])
		})
	}
}
