package postgres_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/runnel-dev/runnel/runtime/event"
)

// TestRestoredServer: the server's files were replaced by an older copy. At first its log ends before what was read; once it
// has grown beyond that, the change that was read last is not in it, whether the stream ends with that change or with a mark.
func TestRestoredServer(t *testing.T) {
	t.Parallel()
	srv := ownServer(t, 17)
	d := databaseOn(t, srv)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, v text)`)
	s := d.source()
	r := started(t, s)
	d.exec(`INSERT INTO a VALUES (1, 'before')`)
	r.changes()
	first, identity := r.Info().Confirmed, r.Info().Identity
	r.close()
	d.Close(t.Context())

	srv.Stop(interrupt)
	data, copied := filepath.Join(srv.Dir, "data"), filepath.Join(srv.Dir, "copy")
	if out, err := exec.Command("cp", "-a", data, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	srv.Restart(t)
	d = connect(t, d.url)
	r = started(t, s)
	for i := range 20 {
		d.exec(`INSERT INTO a VALUES ($1::int, repeat('x', 1000))`, 10+i)
	}
	changes := r.changes()
	from := changes[len(changes)-1].Position
	var idle event.Position // as an agent marks it in the stream, and releases it to the slot
	for idle.Commit <= from.Commit+100 {
		d.exec(`SELECT pg_logical_emit_message(false, 'test', 'moves the log on')`)
		run, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range run.Items {
			idle = i.Position
		}
	}
	if err := r.Confirm(t.Context(), idle); err != nil {
		t.Fatal(err)
	}
	d.eventually(`SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $2`,
		pglogrepl.LSN(idle.Commit).String(), r.Info().Slot)
	r.close()
	d.Close(t.Context())

	srv.Stop(interrupt)
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, data); err != nil {
		t.Fatal(err)
	}
	srv.Restart(t)
	d = connect(t, d.url)
	r = acquire(t, s)
	wantGap(t, r.Check(t.Context(), from, first, identity), "restored to the past")
	r.close()

	d.exec(`CREATE TABLE other AS SELECT g, repeat('y', 100) FROM generate_series(1, 10000) g`)
	d.exec(`SELECT pg_switch_wal()`)
	for _, after := range []event.Position{from, idle} {
		r = acquire(t, s)
		if err := r.Check(t.Context(), after, first, identity); err != nil {
			t.Fatal(err) // nothing shows it yet
		}
		if err := r.Start(t.Context(), after, from); err != nil {
			t.Fatal(err)
		}
		for {
			run, err := r.Next(t.Context())
			if err != nil {
				wantGap(t, err, "another history")
				break
			}
			for _, i := range run.Items {
				t.Errorf("gave %d at %s", i.Kind, i.Position)
			}
		}
		r.close()
	}
}
