package postgres_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture/postgres"
)

func TestConfigFaults(t *testing.T) {
	t.Parallel()
	_, err := postgres.New(postgres.Config{URL: "postgres://u:sec%ret@h/db", Slot: "Größe", Tables: []string{"orders"}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, w := range []string{"name is missing", "Größe", `"orders": want schema.table`, "url"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "sec") {
		t.Errorf("%q contains the password", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE SCHEMA inv; CREATE TABLE public.orders (id int PRIMARY KEY); CREATE TABLE inv.stock (id int PRIMARY KEY); CREATE UNLOGGED TABLE tmp (id int PRIMARY KEY)`)
	role := "plain_" + d.name
	d.exec(`CREATE ROLE ` + role + ` LOGIN; GRANT CONNECT ON DATABASE ` + d.name + ` TO ` + role + `; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ` + role)
	as := func(user string) func(*postgres.Config) {
		return func(c *postgres.Config) { c.URL = strings.Replace(c.URL, "postgres@", user+":sEcReT@", 1) }
	}
	for name, c := range map[string]struct {
		change func(*postgres.Config)
		words  []string
	}{
		"NearMiss":       {func(c *postgres.Config) { c.Tables = []string{"public.order"} }, []string{"public.order does not exist", "did you mean public.orders?"}},
		"OtherSchema":    {func(c *postgres.Config) { c.Tables = []string{"public.stock"} }, []string{"inv.stock"}},
		"NothingLike":    {func(c *postgres.Config) { c.Tables = []string{"public.orders", "x.nope_*"} }, []string{"x.nope_* does not exist"}},
		"Unlogged":       {func(c *postgres.Config) { c.Tables = []string{"public.tmp"} }, []string{"SET LOGGED"}},
		"NoTables":       {func(c *postgres.Config) { c.Tables = nil }, []string{"no tables"}},
		"WrongDatabase":  {func(c *postgres.Config) { c.URL = strings.Replace(c.URL, "/"+d.name, "/nowhere", 1) }, []string{"nowhere", "database's name"}},
		"NoReplication":  {as(role), []string{"ALTER ROLE \"" + role + "\" REPLICATION"}},
		"PhysicalSlot":   {func(c *postgres.Config) { c.Slot = "physical_" + d.name }, []string{"physical", "pg_drop_replication_slot"}},
		"OtherPlugin":    {func(c *postgres.Config) { c.Slot = "plugin_" + d.name }, []string{"test_decoding"}},
		"SlotOfDatabase": {func(c *postgres.Config) { c.Slot = "foreign_" + d.name }, []string{"belongs to database postgres"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &database{d.Conn, t, d.name, d.url}
			switch name {
			case "PhysicalSlot":
				d.exec(`SELECT pg_create_physical_replication_slot($1)`, "physical_"+d.name)
				defer d.exec(`SELECT pg_drop_replication_slot($1)`, "physical_"+d.name)
			case "OtherPlugin":
				d.exec(`SELECT pg_create_logical_replication_slot($1, 'test_decoding')`, "plugin_"+d.name)
				defer d.exec(`SELECT pg_drop_replication_slot($1)`, "plugin_"+d.name)
			case "SlotOfDatabase":
				main := connect(t, server(t, 17).PostgresURL())
				main.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, "foreign_"+d.name)
				defer d.exec(`SELECT pg_drop_replication_slot($1)`, "foreign_"+d.name)
			}
			_, err := d.source(c.change).Acquire(t.Context(), nil)
			wantSetup(t, err, c.words...)
			if strings.Contains(err.Error(), "sEcReT") {
				t.Errorf("%q contains the password", err)
			}
		})
	}
}

// TestRightsOfOthers: a user who may replicate but owns nothing gets the SQL, and works once somebody ran it.
func TestRightsOfOthers(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (v int)`)
	role := "repl_" + d.name
	d.exec(`CREATE ROLE ` + role + ` LOGIN REPLICATION; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ` + role)
	s := d.source(func(c *postgres.Config) { c.URL = strings.Replace(c.URL, "postgres@", role+"@", 1) })
	_, err := s.Acquire(t.Context(), nil)
	wantSetup(t, err, "CREATE PUBLICATION")
	_, sql, _ := strings.Cut(err.Error(), "superuser:\n")
	d.exec(sql)
	r := started(t, s)
	d.exec(`INSERT INTO a VALUES (1); INSERT INTO b VALUES (2)`)
	expect(t, lines(r.changes()), "c public.a {\"id\":1}\nc public.b {\"v\":2} last")
}

func TestServerSettings(t *testing.T) {
	t.Parallel()
	srv := ownServer(t, 17, "wal_level=replica", "max_replication_slots=1")
	d := databaseOn(t, srv)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	_, err := d.source().Acquire(t.Context(), nil)
	wantSetup(t, err, "wal_level is replica", "ALTER SYSTEM SET wal_level = logical")

	hba := filepath.Join(srv.Dir, "data", "pg_hba.conf")
	before, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	d.exec(`SET password_encryption = 'scram-sha-256'; CREATE ROLE secret LOGIN REPLICATION PASSWORD 'right'`)
	if err := os.WriteFile(hba, append([]byte("host all secret 127.0.0.1/32 scram-sha-256\nhost replication locked 127.0.0.1/32 reject\n"), before...), 0o600); err != nil {
		t.Fatal(err)
	}
	d.exec(`SELECT pg_reload_conf()`)
	d.eventually(`SELECT count(*) > 0 FROM pg_hba_file_rules WHERE user_name = '{secret}'`)
	_, err = d.source(func(c *postgres.Config) { c.URL = strings.Replace(c.URL, "postgres@", "secret:wr0ng@", 1) }).Acquire(t.Context(), nil)
	wantSetup(t, err, "password", `"secret"`)
	if strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("%q contains the password", err)
	}
}

func TestNoSlotLeft(t *testing.T) {
	t.Parallel()
	srv := ownServer(t, 17, "max_replication_slots=1")
	d := databaseOn(t, srv)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	d.exec(`SELECT pg_create_physical_replication_slot('taken')`)
	_, err := d.source().Acquire(t.Context(), nil)
	wantSetup(t, err, "max_replication_slots")
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	dir := server(t, 17).Dir
	port := d.text(`SHOW port`)
	r := started(t, d.source(func(c *postgres.Config) {
		c.URL = "host=" + dir + " port=" + port + " user=postgres dbname=" + d.name
	}))
	d.exec(`INSERT INTO a VALUES (1)`)
	expect(t, lines(r.changes()), `c public.a {"id":1} last`)
}

func TestTablesComeAndGo(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int)`)
	s := d.source()
	started(t, s).close()
	d.exec(`CREATE TABLE c (id int PRIMARY KEY); ALTER TABLE b ADD PRIMARY KEY (id); DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY)`)
	r := started(t, s)
	d.exec(`INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); INSERT INTO c VALUES (1); UPDATE b SET id = 2`)
	expect(t, lines(r.changes()), `
c public.a {"id":1}
c public.b {"id":1}
c public.c {"id":1}
d public.b {"id":1} ->
c public.b {"id":2} last`)
}

func TestServerIsGone(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	s := d.source(func(c *postgres.Config) { c.URL = "postgres://postgres:hidden@127.0.0.1:1/x?sslmode=disable" })
	_, err := s.Acquire(context.Background(), nil)
	if err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("got %v", err)
	}
}
