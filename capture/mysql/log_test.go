package mysql_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestChanges: what only these servers have: rows of tables without a key, databases, comments in statements.
func TestChanges(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		other := "x y " + w.name
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE loose (v int)", "CREATE TABLE other (id int PRIMARY KEY)",
			"CREATE DATABASE `"+other+"`", "CREATE TABLE `"+other+"`.`a``b` (`q\"` int PRIMARY KEY)", "CREATE TABLE done (id int PRIMARY KEY)")
		l := w.open(w.source("a", "loose", other+".*", "done"), "")
		w.exec("BEGIN", "INSERT INTO other VALUES (1), (2), (3)", "INSERT INTO a VALUES (1)", "INSERT INTO other VALUES (4)", "INSERT INTO a VALUES (2)", "COMMIT",
			"INSERT INTO loose VALUES (1)", "UPDATE loose SET v = 2", "DELETE FROM loose",
			"INSERT INTO `"+other+"`.`a``b` VALUES (1)", "/* x */ truncate `"+other+"`.`a``b`", "TRUNCATE other", "INSERT INTO done VALUES (1)")
		changes := l.changes("done")
		want := []string{`c a  {"id":1}`, `c a  {"id":2}`, `c loose  {"v":1}`, `u loose {"v":1} {"v":2}`, `d loose {"v":2} `,
			"c a`b  {\"q\\\"\":1}", "t a`b  ", `c done  {"id":1}`}
		var got []string
		for _, c := range changes {
			got = append(got, c.String())
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("changes (-want +got):\n%s", d)
		}
		// Rows of other tables count, so that a position stays when tables are added.
		if a, b := changes[0].Position, changes[1].Position; a.Change != 4 || b.Change != 6 || changes[1].Change.Order != 2 {
			t.Errorf("positions: %s, %s, order %d", a, b, changes[1].Change.Order)
		}
	})
}

// TestExecuted: the set at any position, followed by what comes after it, is the whole.
func TestExecuted(t *testing.T) {
	alone(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)")
		l := w.open(w.source(), "")
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
		if got, _, _ := strings.Cut(got, ";"); err != nil || got != w.executedNow() {
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

// TestRefused: what cannot be read exactly ends the log on the very event, with a statement that changes it: what comes before is given, nothing of it
// and nothing behind it.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name, want, only string
		statements       []string
	}{
		{"RowImage", "binlog_row_image = 'FULL'", "", []string{"SET binlog_row_image = 'MINIMAL'", "UPDATE a SET v = 2 WHERE id = 1"}},
		{"NoBlob", "binlog_row_image = 'FULL'", "", []string{"SET binlog_row_image = 'NOBLOB'", "UPDATE a SET v = 2 WHERE id = 1"}},
		{"InTransaction", "binlog_row_image = 'FULL'", "", []string{"SET binlog_row_image = 'MINIMAL'", "BEGIN", "INSERT INTO other VALUES (1)", "DELETE FROM a WHERE id = 1", "COMMIT"}},
		{"Statement", "binlog_format = 'ROW'", "", []string{"SET binlog_format = 'STATEMENT'", "UPDATE a SET v = 2 WHERE id = 1"}},
		{"PartialJSON", "binlog_row_value_options = ''", mysql.MySQL, []string{"SET binlog_row_value_options = 'PARTIAL_JSON'", "UPDATE a SET j = JSON_SET(j, '$.a', 2) WHERE id = 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			alone(t, func(t *testing.T, w *world) {
				if tt.only != "" && tt.only != w.flavor {
					return
				}
				w.exec("CREATE TABLE other (id int PRIMARY KEY)", "CREATE TABLE a (id int PRIMARY KEY, v int, j json, x text)", `INSERT INTO a VALUES (1, 1, '{"a": 1, "b": "`+strings.Repeat("x", 100)+`"}', 'x')`)
				l := w.open(w.source("a"), "")
				w.exec("BEGIN", "INSERT INTO a (id, v) VALUES (2, 2)", "INSERT INTO a (id, v) VALUES (3, 3)", "COMMIT")
				w.exec(tt.statements...)
				w.exec("SET binlog_row_image = 'FULL', binlog_format = 'ROW'", "DELETE FROM a WHERE id = 3")
				got := l.changes("a")
				if len(got) == 1 {
					got = append(got, l.changes("a")...)
				}
				w.want(got, `c a  {"id":2,"v":2,"j":null,"x":null} false`, `c a  {"id":3,"v":3,"j":null,"x":null} true`)
				err := l.fails()
				var gap *capture.GapError
				if !errors.As(err, &gap) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "--resnapshot") {
					t.Errorf("got %v, want a gap with %q", err, tt.want)
				}
			})
		})
	}
}

// TestSettingChanged: a setting that is changed for the whole server while its log is read is noticed with the first session that has it; sessions from before
// go on as they were.
func TestSettingChanged(t *testing.T) {
	for _, tt := range []struct{ name, change, back, only string }{
		{"binlog_row_image", "'MINIMAL'", "'FULL'", ""},
		{"binlog_format", "'STATEMENT'", "'ROW'", ""},
		{"binlog_row_value_options", "'PARTIAL_JSON'", "''", mysql.MySQL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			alone(t, func(t *testing.T, w *world) {
				if tt.only != "" && tt.only != w.flavor {
					return
				}
				w.exec("CREATE TABLE a (id int PRIMARY KEY, v int, j json)")
				l := w.open(w.source(), "")
				w.exec("SET GLOBAL " + tt.name + " = " + tt.change)
				defer w.exec("SET GLOBAL " + tt.name + " = " + tt.back)
				w.exec(`INSERT INTO a VALUES (1, 1, '{"a": 1, "b": "` + strings.Repeat("x", 100) + `"}')`)
				if got := l.changes("a"); len(got) != 1 || !got[0].last {
					t.Errorf("got %s", lines(got))
				}
				next := w.connect()
				run(t, next, "USE "+w.name, "UPDATE a SET v = 2, j = JSON_SET(j, '$.a', 2)")
				if gap := (*capture.GapError)(nil); !errors.As(l.fails(), &gap) || !strings.Contains(gap.Error(), tt.name+" = "+tt.back) {
					t.Errorf("got %v, want a gap with %s = %s", gap, tt.name, tt.back)
				}
				var setup *capture.SetupError
				if _, err := w.source().Acquire(t.Context(), nil); !errors.As(err, &setup) || !strings.Contains(err.Error(), tt.name+" = "+tt.back) {
					t.Errorf("a start: got %v, want an error with %s = %s", err, tt.name, tt.back)
				}
				findings := fmt.Sprintf("%+v", w.source().Doctor(t.Context()))
				if !strings.Contains(findings, tt.name+" = "+tt.back) {
					t.Errorf("doctor: got %s, want %s = %s in it", findings, tt.name, tt.back)
				}
			})
		})
	}
}

// TestStructure: structures follow the log, in the midst of a table's life and without names in the log.
func TestStructure(t *testing.T) {
	for _, metadata := range []string{"FULL", "MINIMAL"} {
		t.Run(metadata, func(t *testing.T) {
			alone(t, func(t *testing.T, w *world) {
				w.exec("SET GLOBAL binlog_row_metadata = " + metadata)
				defer w.exec("SET GLOBAL binlog_row_metadata = FULL")
				w.exec("CREATE TABLE a (id int unsigned PRIMARY KEY, v varchar(10) CHARACTER SET latin1, e enum('x','y'), f set('p','q'))", "CREATE TABLE done (id int PRIMARY KEY)")
				l := w.open(w.source("a", "done"), "")
				w.exec("INSERT INTO a VALUES (4000000000, 'é', 'y', 'q,p')", "INSERT INTO done VALUES (1)")
				got := l.changes("done")
				w.exec("ALTER TABLE a ADD COLUMN n bigint unsigned FIRST, MODIFY e enum('z','x','y'), MODIFY f set('o','q','p')", "INSERT INTO a VALUES (18446744073709551615, 1, 'ü', 'y', 'p,o')", "UPDATE done SET id = 2")
				got = append(got, l.changes("done")...)
				w.exec("CREATE TABLE _a_new LIKE a", "ALTER TABLE _a_new ADD COLUMN g int AS (id + 1) STORED, ADD COLUMN h int AS (id + 2) VIRTUAL",
					"INSERT INTO _a_new (n, id, v, e, f) SELECT * FROM a", "RENAME TABLE a TO _a_old, _a_new TO a", "DROP TABLE _a_old",
					"UPDATE a SET e = 'z' WHERE id = 1", "UPDATE done SET id = 3")
				got = append(got, l.changes("done")...)
				var text []string
				for _, c := range got {
					if c.Schema.Table.Name == "a" {
						text = append(text, c.after)
					}
				}
				want := []string{`{"id":4000000000,"v":"é","e":"y","f":"p,q"}`, `{"n":18446744073709551615,"id":1,"v":"ü","e":"y","f":"o,p"}`,
					`{"n":18446744073709551615,"id":1,"v":"ü","e":"z","f":"o,p","g":2,"h":3}`}
				if d := cmp.Diff(want, text); d != "" {
					t.Errorf("rows (-want +got):\n%s", d)
				}
				if last := string(w.chunk(l, "a").Rows[0].JSON); last != want[2] {
					t.Errorf("chunk: got %s, want %s", last, want[2])
				}
			})
		})
	}
}

// TestStructureUnknown: rows from before a change of structure that was not read yet are not guessed at, where the log has no names of columns.
func TestStructureUnknown(t *testing.T) {
	for name, alter := range map[string]string{
		"Fewer":   "ALTER TABLE a DROP COLUMN v",
		"Type":    "ALTER TABLE a MODIFY v varchar(5)",
		"Dropped": "DROP TABLE a",
	} {
		t.Run(name, func(t *testing.T) {
			alone(t, func(t *testing.T, w *world) {
				w.exec("SET GLOBAL binlog_row_metadata = MINIMAL")
				defer w.exec("SET GLOBAL binlog_row_metadata = FULL")
				w.exec("CREATE TABLE a (id int PRIMARY KEY, v int, n int)", "CREATE TABLE b (id int PRIMARY KEY)")
				set := w.executedNow()
				w.exec("INSERT INTO b VALUES (1)", "INSERT INTO a VALUES (1, 2, 3)", alter)
				l := w.open(w.source(), set)
				w.want(l.changes("b"), `c b  {"id":1} true`)
				if gap := (*capture.GapError)(nil); !errors.As(l.fails(), &gap) || !strings.Contains(gap.Error(), "binlog_row_metadata = 'FULL'") {
					t.Errorf("got %v, want a gap that names the setting", gap)
				}
			})
		})
	}
}
