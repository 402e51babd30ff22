package postgres_test

import (
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/e2e/servers"
)

// TestOldestOpen: the transaction that holds back log and VACUUM is named, with what ends it.
func TestOldestOpen(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t, 17, "max_prepared_transactions=10").PostgresURL()
	look := connect(t, url)
	wants := func(writes bool, want ...string) {
		t.Helper()
		what, ending, err := postgres.OldestOpen(t.Context(), look.Conn, writes)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(what+"; "+ending, w) {
				t.Errorf("got %s; %s, want %q in it", what, ending, w)
			}
		}
		if len(want) == 0 && what != "" {
			t.Errorf("got %s", what)
		}
	}
	wants(true)
	wants(false)
	look.exec(`CREATE TABLE a (id int)`)

	reader := connect(t, url+"&application_name=report")
	reader.exec(`BEGIN ISOLATION LEVEL REPEATABLE READ`)
	reader.exec("SELECT *\n  FROM a")
	wants(true)
	wants(false, "of role postgres (report), idle in transaction for 00:00:0", "SELECT * FROM a", "SELECT pg_terminate_backend(")

	writer := connect(t, url)
	writer.exec(`BEGIN`)
	writer.exec(`INSERT INTO a VALUES (1)`)
	writer.exec(`PREPARE TRANSACTION 'it''s mine'`)
	wants(true, "prepared transaction 'it''s mine' of role postgres in database postgres", "ROLLBACK PREPARED 'it''s mine';")
	writer.exec(`ROLLBACK PREPARED 'it''s mine'`)
	wants(true)
}
