package postgres_test

import (
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/capture/sourcetest"
)

// TestSource runs the suite that every source passes.
func TestSource(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, sourcetest.Suite{
		Open: func(t *testing.T) sourcetest.Database { return suiteDatabase{session{newDatabase(t, 17)}} },
		Forget: func(t *testing.T) (sourcetest.Database, func()) {
			d := suiteDatabase{session{newDatabase(t, 17)}}
			return d, func() { d.exec(`SELECT pg_drop_replication_slot('runnel_' || $1)`, d.name) }
		},
		Load: func(d sourcetest.Database) { // all of its rows have one LSN
			c := d.(suiteDatabase).PgConn()
			if _, err := c.CopyFrom(d.(suiteDatabase).t.Context(), newLines("11\tq\t1", "12\tq\t2", "13\tq\t3"), `COPY a FROM STDIN`); err != nil {
				d.(suiteDatabase).t.Fatal(err)
			}
		},
		Wrong: func(d sourcetest.Database) map[string]sourcetest.Wrong {
			return d.(suiteDatabase).wrong()
		},
	})
}

// session speaks to the suite.
type session struct{ *database }

func (s session) Exec(statements ...string) {
	s.t.Helper()
	for _, sql := range statements {
		s.exec(sql)
	}
}

func (s session) Value(sql string) string {
	s.t.Helper()
	return s.text(sql)
}

type suiteDatabase struct{ session }

func (suiteDatabase) Schema() string { return "public" }

func (d suiteDatabase) Open() sourcetest.Session { return session{connect(d.t, d.url)} }

func (d suiteDatabase) Source(tables ...string) capture.Source {
	return d.source(func(c *postgres.Config) {
		if len(tables) > 0 {
			c.Tables = nil
		}
		for _, t := range tables {
			c.Tables = append(c.Tables, "public."+t)
		}
	})
}

func (d suiteDatabase) Disconnect() {
	d.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'runnel_' || $1`, d.name)
}

func (d suiteDatabase) wrong() map[string]sourcetest.Wrong {
	role := "plain_" + d.name
	d.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'right'`)
	at := func(old, new string) capture.Source {
		return d.source(func(c *postgres.Config) { c.URL = strings.Replace(c.URL, old, new, 1) })
	}
	return map[string]sourcetest.Wrong{
		"User":     {Source: at("postgres@", "nobody:sEcReT@"), Words: []string{"nobody"}, Secret: "sEcReT"},
		"Rights":   {Source: at("postgres@", role+":sEcReT@"), Words: []string{"ALTER ROLE", "REPLICATION"}, Secret: "sEcReT"},
		"Database": {Source: at("/"+d.name, "/nowhere"), Words: []string{"nowhere"}},
	}
}
