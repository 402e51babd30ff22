package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/runtime/event"
)

func TestReplicaIdentities(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ table, changes, want, key string }{
		"Default": {
			`CREATE TABLE x (b int, a int, v text, PRIMARY KEY (a, b))`,
			`INSERT INTO x VALUES (2, 1, 'p'); UPDATE x SET v = 'q'; UPDATE x SET b = 3; DELETE FROM x`, `
c public.x {"b":2,"a":1,"v":"p"} last
u public.x {"b":2,"a":1,"v":"q"} last
d public.x {"b":2,"a":1} ->
c public.x {"b":3,"a":1,"v":"q"} last
d public.x {"b":3,"a":1} -> last`, "a,b"},
		"FullWithKey": {
			`CREATE TABLE x (id int PRIMARY KEY, v text); ALTER TABLE x REPLICA IDENTITY FULL`,
			`INSERT INTO x VALUES (1, 'p'); UPDATE x SET v = 'q'; UPDATE x SET id = 2; DELETE FROM x`, `
c public.x {"id":1,"v":"p"} last
u public.x {"id":1,"v":"p"} -> {"id":1,"v":"q"} last
d public.x {"id":1,"v":"q"} ->
c public.x {"id":2,"v":"q"} last
d public.x {"id":2,"v":"q"} -> last`, "id"},
		"FullWithoutKey": {
			`CREATE TABLE x (id int, v text); ALTER TABLE x REPLICA IDENTITY FULL`,
			`INSERT INTO x VALUES (1, 'p'); UPDATE x SET id = 2; DELETE FROM x`, `
c public.x {"id":1,"v":"p"} last
u public.x {"id":1,"v":"p"} -> {"id":2,"v":"p"} last
d public.x {"id":2,"v":"p"} -> last`, ""},
		"UsingIndex": {
			`CREATE TABLE x (id int PRIMARY KEY, u text NOT NULL UNIQUE); ALTER TABLE x REPLICA IDENTITY USING INDEX x_u_key`,
			`INSERT INTO x VALUES (1, 'p'); UPDATE x SET id = 2; UPDATE x SET u = 'q'; DELETE FROM x`, `
c public.x {"id":1,"u":"p"} last
u public.x {"id":2,"u":"p"} last
d public.x {"u":"p"} ->
c public.x {"id":2,"u":"q"} last
d public.x {"u":"q"} -> last`, "u"},
		"Nothing": {
			`CREATE TABLE x (id int PRIMARY KEY, v text); ALTER TABLE x REPLICA IDENTITY NOTHING`,
			`INSERT INTO x VALUES (1, 'p'); UPDATE x SET v = 'q'; DELETE FROM x; TRUNCATE x`, `
c public.x {"id":1,"v":"p"} last
t public.x last`, "id"},
		"NoKey": {
			`CREATE TABLE x (id int, v text)`,
			`INSERT INTO x VALUES (1, 'p'); UPDATE x SET v = 'q'; DELETE FROM x; TRUNCATE x`, `
c public.x {"id":1,"v":"p"} last
t public.x last`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, 17)
			d.exec(c.table)
			r := started(t, d.source())
			for _, sql := range strings.Split(c.changes, "; ") {
				d.exec(sql)
			}
			changes := r.changes()
			expect(t, lines(changes), c.want)
			s := changes[0].Schema
			var key []string
			for _, i := range s.KeyColumns() {
				key = append(key, s.Columns[i].Name)
			}
			if got := strings.Join(key, ","); got != c.key {
				t.Errorf("key %q, want %q", got, c.key)
			}
			tables, err := r.snapshotter().Tables(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(tables) != 1 || tables[0].Schema.Fingerprint() != s.Fingerprint() || tables[0].Keyless != (c.key == "") {
				t.Errorf("the snapshot has another schema: %+v", tables[0].Schema)
			}
		})
	}
}

func TestDeferrableKey(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE x (id int PRIMARY KEY DEFERRABLE)`)
	_, err := d.source().Acquire(t.Context(), nil)
	wantSetup(t, err, "deferrable")
}

func wantSetup(t *testing.T, err error, words ...string) {
	t.Helper()
	var s *capture.SetupError
	if !errors.As(err, &s) {
		t.Fatalf("got %v, want a SetupError", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func wantGap(t *testing.T, err error, words ...string) {
	t.Helper()
	var g *capture.GapError
	if !errors.As(err, &g) {
		t.Fatalf("got %v, want a GapError", err)
	}
	for _, w := range append(words, "--resnapshot") {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestToast(t *testing.T) {
	t.Parallel()
	// Not compressible and larger than a page's quarter, so that it is stored out of line.
	const big = `(SELECT string_agg(md5(g::text || $1), '') FROM generate_series(1, 200) g)`
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int, k text, big text, n int, j json, PRIMARY KEY (id, k)); CREATE TABLE f (id int PRIMARY KEY, big text, n int); ALTER TABLE f REPLICA IDENTITY FULL`)
	r := started(t, d.source())
	d.exec(`INSERT INTO a VALUES (1, 'x''y', `+big+`, 0, ('["' || `+big+` || E'",\n1]')::json), (2, 'b', `+big+`, 0, '{}'), (3, 'c', `+big+`, 0, NULL)`, "1")
	d.exec(`INSERT INTO f VALUES (1, `+big+`, 0)`, "2")
	d.exec(`UPDATE a SET n = 1 WHERE id = 1`)
	changes := r.changes() // later the row has another key, and is not found
	d.exec(`UPDATE a SET k = 'moved' WHERE id = 1`)
	d.exec(`UPDATE a SET n = 2 WHERE id = 3`)
	d.exec(`DELETE FROM a WHERE id = 3`)
	d.exec(`UPDATE f SET n = 1`)
	d.exec(`BEGIN; INSERT INTO a VALUES (4, 'd', repeat(md5('1'), 5000), 0, NULL); UPDATE a SET n = 1 WHERE id = 4; COMMIT`)
	changes = append(changes, r.changes()...)
	a := strings.Split(strings.TrimSpace(lines(changes)), "\n")
	value := func(line, name string) string {
		_, rest, ok := strings.Cut(line, `"`+name+`":`)
		if !ok {
			return ""
		}
		return rest[:64]
	}
	for n, like := range map[int]int{4: 0, 6: 0, 9: 3, 11: 10} {
		if value(a[n], "big") == "" || value(a[n], "big") != value(a[like], "big") {
			t.Errorf("change %d lacks the unchanged value: %.200s", n, a[n])
		}
	}
	if value(a[6], "j") != value(a[0], "j") || !strings.Contains(a[6], `", 1]`) {
		t.Errorf("json came back as %s", a[6][len(a[6])-100:])
	}
	expect(t, a[7], `u public.a {"id":3,"k":"c","n":2,"j":null} without big last`)
	if string(changes[6].After) != strings.Replace(strings.Replace(string(changes[0].After), `"n":0`, `"n":1`, 1), "x'y", "moved", 1) {
		t.Error("columns are not in table order")
	}
}

// TestToastUnderSynchronousReplication: a commit that waits for its standby is in the log, and no SELECT shows it. The value
// that a SELECT shows then is older than the one in the log.
func TestToastUnderSynchronousReplication(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, big text, n int); ALTER TABLE a ALTER big SET STORAGE EXTERNAL`)
	d.exec(`INSERT INTO a VALUES (1, repeat('old', 5000), 0)`)
	r := started(t, d.source())
	waiting := d.waitingCommit(`UPDATE a SET big = repeat('new', 5000); UPDATE a SET n = 1`)
	got := make(chan []event.Change)
	go func() { got <- r.changes() }()
	d.eventually(`SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle' AND query LIKE '%__row%'`)
	select {
	case c := <-got:
		t.Fatalf("did not wait for the transaction to become visible: %.100s", lines(c))
	default:
	}
	xids, err := r.snapshotter().Waiting(t.Context())
	if err != nil || len(xids) != 1 {
		t.Errorf("waiting: %v, %v", xids, err)
	}
	waiting()
	changes := <-got
	if len(changes) != 2 || !strings.Contains(string(changes[1].After), `"big":"newnew`) || changes[0].TxID != xids[0] {
		t.Errorf("got %.200s", lines(changes))
	}
}
