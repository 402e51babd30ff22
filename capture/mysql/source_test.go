package mysql_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/capture/sourcetest"
)

// TestSource runs the suite that every source passes.
func TestSource(t *testing.T) {
	t.Parallel()
	for _, f := range withPlaces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			sourcetest.Run(t, sourcetest.Suite{
				Open: func(t *testing.T) sourcetest.Database { return suiteDatabase(f.world(t, f.running(t, &f.shared))) },
				Forget: func(t *testing.T) (sourcetest.Database, func()) {
					w := f.alone(t)
					return suiteDatabase(w), w.purge
				},
				Load:  load,
				Wrong: wrong,
			})
		})
	}
}

// session speaks to the suite, in the SQL of all servers.
type session struct {
	w  *world
	db *client.Conn
}

func suiteSession(w *world) session {
	s := session{w, w.connect()}
	s.Exec("USE "+w.name, "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'")
	return s
}

func (s session) Exec(statements ...string) { s.w.t.Helper(); run(s.w.t, s.db, statements...) }

func (s session) Value(sql string) string { s.w.t.Helper(); return s.w.text(sql) }

type database struct{ session }

func suiteDatabase(w *world) sourcetest.Database { return database{suiteSession(w)} }

func (d database) Schema() string { return d.w.name }

func (d database) Open() sourcetest.Session { return suiteSession(d.w) }

func (d database) Source(tables ...string) capture.Source {
	if len(tables) == 0 {
		tables = []string{"*"}
	}
	for i, t := range tables {
		tables[i] = d.w.name + "." + t
	}
	s := d.w.source(tables...)
	mysql.SetPatience(s, time.Second)
	mysql.SetTick(s, 100*time.Millisecond)
	return s
}

func (d database) Disconnect() {
	d.w.exec("KILL " + d.w.text("SELECT IS_USED_LOCK('runnel."+d.w.name+"')"))
}

func load(d sourcetest.Database) {
	file := certificates + "/" + d.Schema() + ".csv"
	if err := os.WriteFile(file, []byte("11,q,1\n12,q,2\n13,q,3\n"), 0o644); err != nil {
		d.(database).w.t.Fatal(err)
	}
	d.Exec("SET SESSION sql_mode = ''", "LOAD DATA INFILE '"+file+"' INTO TABLE a FIELDS TERMINATED BY ','")
}

func wrong(d sourcetest.Database) map[string]sourcetest.Wrong {
	w := d.(database).w
	w.exec("CREATE USER plain_" + w.name + "@'%' IDENTIFIED BY 'right'")
	as := func(user string) capture.Source {
		s, err := mysql.New(mysql.Config{Name: w.name, Flavor: w.flavor, URL: "mysql://" + user + "@" + w.server.Addr + "?tls=insecure", Tables: []string{w.name + ".*"}})
		if err != nil {
			w.t.Fatal(err)
		}
		return s
	}
	return map[string]sourcetest.Wrong{
		"User":     {Source: as("nobody:sEcReT"), Words: []string{"nobody"}, Secret: "sEcReT"},
		"Password": {Source: as("plain_" + w.name + ":sEcReT"), Words: []string{"plain_" + w.name, "password in the source's url"}, Secret: "sEcReT"},
		"Rights":   {Source: as("plain_" + w.name + ":right"), Words: []string{"GRANT SELECT"}},
	}
}

// purge makes the server throw away all binlogs but a new one.
func (w *world) purge() {
	w.t.Helper()
	w.exec("FLUSH BINARY LOGS")
	w.purgeTo(w.text("SHOW MASTER STATUS"))
}

// purgeTo makes the server throw away all binlogs before one, which is the newest.
func (w *world) purgeTo(file string) {
	w.t.Helper()
	w.until(func() error { // a reader that has just gone still holds one
		w.exec("PURGE BINARY LOGS TO '" + file + "'")
		if w.text("SHOW BINARY LOGS") != file {
			return errors.New("the server keeps its log")
		}
		return nil
	})
}
