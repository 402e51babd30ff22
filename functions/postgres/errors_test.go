package postgres_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func init() {
	cases["Permissions"] = testPermissions
	cases["ReadOnly"] = testReadOnly
	cases["Locked"] = testLocked
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, url, table, want string }{
		{"BadPort", "postgres://u:geheim@host:port/db", "", "url cannot be read"},
		{"BadEscape", "postgres://u:geh%eim@host/db", "", "url cannot be read"},
		{"Keywords", "host=h password=geheim port=x", "", "url cannot be read"},
		{"Template", "postgres://u:geheim@h/d", "{scheme}.{table}", "only {schema} and {table}"},
		{"Dots", "postgres://u:geheim@h/d", "a.b.c", "want schema.table"},
		{"Ours", "postgres://u:geheim@h/d", "runnel.x", "Runnel's own"},
	} {
		_, err := postgres.New(postgres.Config{Function: "f", URL: c.url, Table: c.table})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "geh") {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

func TestDown(t *testing.T) {
	t.Parallel()
	srv := servers.Postgres(t, 15)
	w := newWorld(t, srv)
	s, f, sc := w.sink(postgres.Config{URL: strings.Replace(w.url, "postgres@", "postgres:geheim@", 1)}), &flow{generation: 1}, items()
	w.claim(s, f)
	w.handle(s, f.add(event.Create, sc, `{"id":1,"name":"a"}`).batch())
	b := f.add(event.Create, sc, `{"id":2,"name":"b"}`).batch()
	srv.Stop(syscall.SIGQUIT)
	for range 2 {
		err := s.Handle(t.Context(), b)
		if err == nil || sink.IsHalt(err) || sink.IsPermanent(err) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("down: got %v, want a plain error", err)
		}
	}
	if err := s.Check(t.Context(), nil); err == nil || sink.IsHalt(err) {
		t.Errorf("check while down: got %v, want a plain error", err)
	}
	srv.Restart(t)
	w.db.Reset()
	w.handle(s, b)
	w.want("SELECT * FROM items ORDER BY id", "1|a", "2|b")
}

func testPermissions(t *testing.T, w *world) {
	role := "r_" + w.name()
	w.exec("CREATE ROLE " + role + " LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC; CREATE TABLE items (id bigint PRIMARY KEY, name text)")
	s, f, sc := w.sink(postgres.Config{URL: w.as(role)}), &flow{generation: 1}, items()
	halted := func(err error, want string) {
		t.Helper()
		if !sink.IsHalt(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a halt with %s", err, want)
		}
	}
	own := strings.ReplaceAll(`CREATE SCHEMA IF NOT EXISTS runnel; GRANT USAGE, CREATE ON SCHEMA runnel TO ROLE; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA runnel TO ROLE;`, "ROLE", `"`+role+`"`)
	grant := `GRANT USAGE ON SCHEMA "public" TO "` + role + `"; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON "public"."items" TO "` + role + `";`
	_, err := s.Claim(t.Context(), f.claim())
	halted(err, own)
	err = s.Check(t.Context(), []*event.Schema{sc})
	halted(err, own)
	halted(err, grant)
	w.exec(own)
	w.claim(s, f)
	b := f.add(event.Create, sc, `{"id":1,"name":"a"}`).batch()
	halted(s.Handle(t.Context(), b), grant)
	w.exec(grant)
	if err := s.Check(t.Context(), []*event.Schema{sc}); err != nil {
		t.Error(err)
	}
	w.handle(s, b)
	w.exec("REVOKE UPDATE ON items FROM " + role)
	b = f.add(event.Update, sc, `{"id":1,"name":"b"}`).batch()
	halted(s.Handle(t.Context(), b), grant)
	w.exec(grant)
	w.handle(s, b)
	w.want("SELECT * FROM items", "1|b")
	// A new column in a table that is not ours, and a new table in a schema that we may not create in.
	err = s.Handle(t.Context(), f.add(event.Update, items(nullable("x", "date")), `{"id":1,"name":"b","x":null}`).batch())
	halted(err, `ALTER TABLE "public"."items" ADD COLUMN "x" date;`)
	other := schema("others", event.Column{Name: "id", Type: "bigint", Key: 1})
	halted(s.Check(t.Context(), []*event.Schema{other}), `CREATE TABLE "public"."others" ("id" bigint, PRIMARY KEY ("id"));`)
	halted(w.sink(postgres.Config{URL: w.as(role), Table: "new.{table}"}).Check(t.Context(), []*event.Schema{other}), `CREATE SCHEMA "new";`)
	// Row-level security must not hide rows from us.
	w.exec("ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON items USING (id > 5)")
	err = w.sinkAt(role, f).Handle(t.Context(), f.add(event.Delete, sc, `{"id":1}`).batch())
	halted(err, "row-level security")

	halted(w.sink(postgres.Config{URL: w.as("nobody_" + w.name())}).Check(t.Context(), nil), "check user, password and database")
}

func (w *world) sinkAt(role string, f *flow) *postgres.Sink {
	w.t.Helper()
	s := w.sink(postgres.Config{URL: w.as(role)})
	w.claim(s, f)
	f.events = nil
	return s
}

func testReadOnly(t *testing.T, w *world) {
	s, f, sc := w.sink(postgres.Config{}), &flow{generation: 1}, items()
	w.claim(s, f)
	b := f.add(event.Create, sc, `{"id":1,"name":"a"}`).batch()
	w.handle(s, b)
	w.exec("ALTER DATABASE " + w.name() + " SET default_transaction_read_only = on")
	w.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	b = f.add(event.Create, sc, `{"id":2,"name":"a"}`).batch()
	for range 3 { // the first ones meet the connections that were cut
		if err := s.Handle(t.Context(), b); err == nil || sink.IsHalt(err) || sink.IsPermanent(err) {
			t.Errorf("got %v, want a plain error", err)
		}
	}
}

// testLocked: somebody else's lock is waited for, and then it is an error that passes.
func testLocked(t *testing.T, w *world) {
	s, f, sc := w.sink(postgres.Config{URL: w.url}), &flow{generation: 1}, items()
	w.claim(s, f)
	w.handle(s, f.add(event.Create, sc, `{"id":1,"name":"a"}`).batch())
	tx, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE items"); err != nil {
		t.Fatal(err)
	}
	b := f.add(event.Update, sc, `{"id":1,"name":"b"}`).batch()
	got := make(chan error, 1)
	go func() { got <- s.Handle(t.Context(), b) }()
	// Do not wait for the whole lock_timeout: an administrator cancels the statement.
	for cancelled := false; !cancelled; {
		if err := tx.QueryRow(t.Context(), "SELECT coalesce(bool_or(pg_cancel_backend(pid)), false) FROM pg_locks WHERE relation = 'items'::regclass AND NOT granted").Scan(&cancelled); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-got; err == nil || sink.IsHalt(err) || sink.IsPermanent(err) {
		t.Errorf("got %v, want a plain error", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.handle(s, b)
	w.want("SELECT * FROM items", "1|b")
}
