package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/runtime/doctor"
	"github.com/runnel-dev/runnel/runtime/event"
)

// failover is a primary with a table, a standby, and an agent that has read the table's first row.
type failover struct {
	*database
	t        *testing.T
	primary  *servers.Server
	standby  *servers.Server
	source   *postgres.Source
	reader   *reader
	first    event.Position
	identity string
	last     event.Position // what the agent has published
}

func newFailover(t *testing.T, major int, change ...func(*postgres.Config)) *failover {
	t.Helper()
	f := &failover{t: t, primary: ownServer(t, major, servers.Durable...)}
	f.database = databaseOn(t, f.primary)
	f.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	f.source = f.database.source(change...)
	f.reader = started(t, f.source)
	f.first, f.identity = f.reader.Info().Confirmed, f.reader.Info().Identity
	f.standby = f.primary.Standby(t)
	f.exec(`INSERT INTO a VALUES (1)`)
	f.read(`c public.a {"id":1} last`)
	return f
}

// read expects changes and publishes them.
func (f *failover) read(want string) {
	f.t.Helper()
	changes := f.reader.changes()
	expect(f.t, lines(changes), want)
	if len(changes) > 0 {
		f.last = changes[len(changes)-1].Position
	}
}

// synced waits until the standby has the slot, while the agent confirms what it reads.
func (f *failover) synced() {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() {
		for {
			run, err := f.reader.Next(ctx)
			if ctx.Err() != nil {
				done <- nil
				return
			}
			for _, i := range run.Items {
				if err == nil && i.Kind == capture.Changed {
					err = fmt.Errorf("unexpected change %s", i.Position)
				}
				if err == nil {
					err = f.reader.Confirm(ctx, i.Position)
				}
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	f.standby.Synced(f.t, f.primary, f.reader.Info().Slot)
	cancel()
	if err := <-done; err != nil {
		f.t.Fatal(err)
	}
}

// promote kills the primary and promotes the standby; the agent has lost its connections.
func (f *failover) promote() {
	f.t.Helper()
	f.primary.Kill()
	f.reader.close()
	f.Close(f.t.Context())
	f.standby.Promote(f.t)
	name := f.name
	f.database = connect(f.t, strings.Replace(f.standby.PostgresURL(), "/postgres?", "/"+name+"?", 1))
	f.name = name
}

// over is the source as it is configured now: with the new primary's address.
func (f *failover) over() *reader {
	f.t.Helper()
	f.source = f.database.source()
	f.reader = acquire(f.t, f.source)
	return f.reader
}

// TestShutdownWithoutStandby: a primary that waits for its standby, which is away, ends the replication with an error when it shuts
// down. Nothing is lost by that.
func TestShutdownWithoutStandby(t *testing.T) {
	t.Parallel()
	f := newFailover(t, 17)
	f.standby.Stop(interrupt)
	f.exec(`INSERT INTO a VALUES (2)`)
	f.eventually(`SELECT wait_event = 'WaitForStandbyConfirmation' FROM pg_stat_activity WHERE backend_type = 'walsender'`)
	stopped := make(chan struct{})
	go func() { f.primary.Stop(interrupt); close(stopped) }()
	var err error
	for err == nil {
		_, err = f.reader.Next(t.Context())
	}
	t.Log(err)
	if gap := (&capture.GapError{}); errors.As(err, &gap) {
		t.Errorf("got a gap: %v", err)
	}
	f.reader.close()
	<-stopped
	f.primary.Restart(t)
	f.standby.Restart(t)
	f.database = connect(t, f.url)
	f.reader = acquire(t, f.source)
	f.reader.start(f.last)
	f.read(`c public.a {"id":2} last`)
}

// look expects a finding of a source whose url names these hosts.
func (f *failover) look(hosts string, level doctor.Level, subject string, words ...string) {
	f.t.Helper()
	s := f.database.source(func(c *postgres.Config) {
		c.URL = fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable&target_session_attrs=any", hosts, f.name)
	})
	for _, x := range s.Doctor(f.t.Context()) {
		if x.Subject != subject {
			continue
		}
		if x.Level != level {
			f.t.Errorf("%+v, want %s", x, level)
		}
		for _, w := range words {
			if !strings.Contains(x.Text+"\n"+x.Fix, w) {
				f.t.Errorf("%+v does not say %q", x, w)
			}
		}
		return
	}
	f.t.Errorf("nothing about %s", subject)
}

// TestFailover: the slot was synced, and the agent goes on at the promoted standby: what it had read does not come again, and
// what it had not comes, including what it never confirmed.
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, major := range []int{17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			f := newFailover(t, major)
			f.synced()
			f.exec(`INSERT INTO a VALUES (2)`)
			f.read(`c public.a {"id":2} last`)
			f.exec(`INSERT INTO a VALUES (3)`)
			f.eventually(`SELECT bool_and(replay_lsn >= pg_current_wal_flush_lsn()) FROM pg_stat_replication WHERE application_name = 'walreceiver'`)
			f.promote()
			f.exec(`INSERT INTO a VALUES (4)`)

			r := f.over()
			if r.Info().NewSlot {
				t.Error("the slot is a new one")
			}
			if r.Info().Timeline != 2 {
				t.Errorf("timeline %d, want 2", r.Info().Timeline)
			}
			if err := r.Check(t.Context(), f.last, f.first, f.identity); err != nil {
				t.Fatal(err)
			}
			r.start(f.last)
			expect(t, lines(r.changes()), "c public.a {\"id\":3} last\nc public.a {\"id\":4} last")
		})
	}
}

// TestFailoverWithoutSlot: the new primary never had the slot, so its log was not kept since the stream's end.
func TestFailoverWithoutSlot(t *testing.T) {
	t.Parallel()
	no := false
	f := newFailover(t, 17, func(c *postgres.Config) { c.Failover = &no })
	f.look(f.primary.Addr, doctor.Warn, "failover", "not carried over", "start the agent of")
	f.promote()
	r := f.over()
	if !r.Info().NewSlot {
		t.Error("the slot is not new")
	}
	wantGap(t, r.Check(t.Context(), f.last, f.first, f.identity), "is gone")
}

// TestFailoverOfAPhantom: the agent published a commit that the promoted standby never got. With synchronized_standby_slots the
// primary does not even send such a commit; without, the agent does not go on as if nothing had happened.
func TestFailoverOfAPhantom(t *testing.T) {
	t.Parallel()
	f := newFailover(t, 17)
	f.synced()
	f.standby.Stop(interrupt)
	f.exec(`INSERT INTO a VALUES (2)`)
	f.eventually(`SELECT wait_event = 'WaitForStandbyConfirmation' FROM pg_stat_activity WHERE backend_type = 'walsender'`)
	f.exec(`ALTER SYSTEM SET synchronized_standby_slots = ''`)
	f.exec(`SELECT pg_reload_conf()`)
	f.read(`c public.a {"id":2} last`)
	f.primary.Kill()
	f.standby.Restart(t)
	f.promote()
	f.exec(`INSERT INTO a SELECT generate_series(10, 1000)`) // its log grows beyond what was published
	wantGap(t, f.over().Check(t.Context(), f.last, f.first, f.identity), "a failover lost it")
}

// TestDoctorOfFailovers: what keeps a slot from living on at a standby is found beforehand, with the statement that helps.
func TestDoctorOfFailovers(t *testing.T) {
	t.Parallel()
	f := newFailover(t, 17)
	slot := f.reader.Info().Slot
	set := func(name, value string) {
		t.Helper()
		f.exec(fmt.Sprintf(`ALTER SYSTEM SET %s = '%s'`, name, value))
		f.exec(`SELECT pg_reload_conf()`)
		f.eventually(`SELECT setting = $1 FROM pg_settings WHERE name = $2`, value, name)
	}
	both, host := f.primary.Addr+","+f.standby.Addr, "host "+f.standby.Addr
	f.synced()
	f.look(both, doctor.OK, host, "a copy of slot "+slot)
	f.look(f.standby.Addr, doctor.OK, "slot "+slot, "a copy of slot "+slot)

	f.look(both, doctor.OK, "failover", "standby of slot standby")
	set("synchronized_standby_slots", "")
	f.look(both, doctor.Warn, "failover", "later than the stream", "synchronized_standby_slots = 'standby';")
	set("synchronized_standby_slots", "standby, other")
	f.look(both, doctor.Fail, "failover", "waits for other", "synchronized_standby_slots = 'standby';")
	set("synchronized_standby_slots", "standby")
	f.standby.Kill()
	f.eventually(`SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'standby'`)
	f.look(both, doctor.Warn, host, "cannot be reached")
	f.look(both, doctor.Fail, "failover", "waits for standby", "synchronized_standby_slots = '';")

	other := f.primary.Standby(t, "sync_replication_slots=off")
	both, host = f.primary.Addr+","+other.Addr, "host "+other.Addr
	f.look(both, doctor.Warn, host, "no copy of slot "+slot, "sync_replication_slots = on")
	own, there := make(chan error, 1), connect(t, other.PostgresURL())
	go func() { // waits for what the primary writes every 15 s
		_, err := there.Exec(context.Background(), `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, slot)
		own <- err
	}()
	for made := false; !made; {
		f.exec(`SELECT pg_log_standby_snapshot()`)
		select {
		case err := <-own:
			if err != nil {
				t.Fatal(err)
			}
			made = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	f.look(both, doctor.Warn, host, "a slot "+slot+" of its own", "pg_drop_replication_slot('"+slot+"')")
}
