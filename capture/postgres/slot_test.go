package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestNewSlotIsHeld: nobody reads from a new slot yet, and still no other agent gets it.
func TestNewSlotIsHeld(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	r := acquire(t, d.source())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := d.source().Acquire(ctx, func(string) { cancel() }); err == nil {
		t.Fatal("two agents have the slot")
	}
	if err := r.Holds(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := d.source()
	r := started(t, s)
	first := r.Info().Confirmed
	d.exec(`INSERT INTO a VALUES (1)`)
	d.exec(`INSERT INTO a VALUES (2)`)
	all := r.items()
	if got := d.confirmed(r); got != pglogrepl.LSN(first.Commit) {
		t.Errorf("confirmed %s, want %s", got, first)
	}
	middle := all[2].Position // the end of the first transaction
	if err := r.Confirm(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	d.eventually(`SELECT confirmed_flush_lsn = $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1`, r.Info().Slot, pglogrepl.LSN(middle.Commit).String())
	if err := r.Confirm(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	r.close()
	r = started(t, s)
	if r.Info().Confirmed.Compare(middle) != 0 || r.Info().NewSlot {
		t.Errorf("info: %+v", r.Info())
	}
	expect(t, lines(r.changes()), `c public.a {"id":2} last`)
	record := all[3].Position // a change of the second transaction: what is confirmed up to its commit record is kept
	record.Change, record.N = 0, 0
	if err := r.Confirm(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	d.eventually(`SELECT confirmed_flush_lsn = $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1`, r.Info().Slot, pglogrepl.LSN(record.Commit).String())
	r.close()
	expect(t, lines(started(t, s).changes()), `c public.a {"id":2} last`)
}

func (d *database) confirmed(r *reader) pglogrepl.LSN {
	d.t.Helper()
	lsn, err := pglogrepl.ParseLSN(d.text(`SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, r.Info().Slot))
	if err != nil {
		d.t.Fatal(err)
	}
	return lsn
}

// TestBusyConsumer: nobody calls Next for longer than the server waits for an answer.
func TestBusyConsumer(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY, v text)`)
	d.exec(`ALTER ROLE postgres IN DATABASE ` + d.name + ` SET wal_sender_timeout = '400ms'`)
	r := started(t, d.source())
	d.exec(`INSERT INTO a SELECT g, repeat('x', 1000) FROM generate_series(1, 50000) g`) // more than sockets buffer
	d.eventually(`SELECT count(*) = 1 FROM pg_stat_replication s JOIN pg_replication_slots p ON p.active_pid = s.pid WHERE p.slot_name = $1 AND s.sent_lsn > p.confirmed_flush_lsn`, r.Info().Slot)
	time.Sleep(1200 * time.Millisecond) // time itself is what is tested
	if n := len(r.changes()); n != 50000 {
		t.Errorf("%d changes", n)
	}
}

func TestOwnOldSessionIsEnded(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := d.source()
	lost := started(t, s) // as the server sees it after this process lost the connection
	r := acquire(t, s)
	if err := r.Holds(t.Context()); err != nil {
		t.Error(err)
	}
	// What was sent before the end may still come.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for err := error(nil); err == nil; {
		_, err = lost.Next(ctx)
	}
	if ctx.Err() != nil {
		t.Error("the old session goes on")
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := d.source()
	r := started(t, s)
	d.exec(`INSERT INTO a VALUES (1)`)
	r.changes()
	old := r.Info().Confirmed
	r.close()
	refused := errors.New("another agent has written")
	if _, err := s.Renew(t.Context(), nil, func(context.Context) error { return refused }); !errors.Is(err, refused) {
		t.Fatalf("renewed: %v", err)
	}
	kept, err := s.Acquire(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if kept.Info().NewSlot {
		t.Error("the slot went, although it must not")
	}
	if err := kept.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := s.Renew(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	if !l.Info().NewSlot || l.Info().Confirmed.Compare(old) <= 0 {
		t.Errorf("info: %+v", l.Info())
	}
}

func TestGaps(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := d.source()
	r := started(t, s)
	first, identity := r.Info().Confirmed, r.Info().Identity
	d.exec(`INSERT INTO a VALUES (1)`)
	all := r.items()
	change, commit := all[1].Position, all[2].Position

	r.close()
	r = acquire(t, s)
	ahead := commit
	ahead.Commit += 1 << 30
	other := commit
	other.Timeline = 7
	for name, c := range map[string]struct {
		from     event.Position
		identity string
		want     string
	}{
		"Server":   {commit, "123", "another server"},
		"Past":     {ahead, identity, "restored"},
		"Timeline": {other, identity, "timeline"},
	} {
		wantGap(t, r.Check(t.Context(), c.from, first, c.identity), c.want)
		_ = name
	}
	for _, ok := range []event.Position{first, change, commit, {}} {
		if err := r.Check(t.Context(), ok, first, identity); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	r.close()

	r = acquire(t, s) // a change that the server's log does not have
	unknown := change
	unknown.N = 5
	r.start(unknown)
	_, err := r.Next(t.Context())
	wantGap(t, err, "another history")
	r.close()

	d.exec(`SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`, r.Info().Slot)
	r = acquire(t, s)
	wantGap(t, r.Check(t.Context(), change, first, identity), "moved on")
	if err := r.Check(t.Context(), first, r.Info().Confirmed, identity); err != nil {
		t.Errorf("slot at its first position: %v", err)
	}
	r.close()

	d.exec(`SELECT pg_drop_replication_slot($1)`, r.Info().Slot)
	r = acquire(t, s)
	wantGap(t, r.Check(t.Context(), commit, first, identity), "is gone")
	r.close()
}

func TestLostSlot(t *testing.T) {
	t.Parallel()
	for _, major := range []int{15, 17} {
		d := databaseOn(t, ownServer(t, major, "max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB"))
		d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
		s := d.source()
		started(t, s).close()
		for range 4 {
			d.exec(`SELECT pg_switch_wal()`)
			d.exec(`CREATE TABLE b AS SELECT g FROM generate_series(1, 1000) g`)
			d.exec(`DROP TABLE b`)
		}
		d.exec(`CHECKPOINT`)
		_, err := s.Acquire(t.Context(), nil)
		wantGap(t, err, "lost")
		l, err := s.Renew(t.Context(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		l.Close(context.Background())
	}
}

func TestPublicationYoungerThanSlot(t *testing.T) {
	t.Parallel()
	for _, major := range versions {
		d := newDatabase(t, major)
		d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
		s := d.source()
		started(t, s).close()
		d.exec(`DROP PUBLICATION runnel_` + d.name)
		d.exec(`INSERT INTO a VALUES (1)`)
		_, err := s.Acquire(t.Context(), nil)
		wantGap(t, err, "publication")
	}
}

// TestFailoverSlot: standbys copy the slot or do not as the source says, whoever made it.
func TestFailoverSlot(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	no := false
	without := func(c *postgres.Config) { c.Failover = &no }
	failover := func(want string) {
		t.Helper()
		if got := d.text(`SELECT failover::text FROM pg_replication_slots WHERE database = $1`, d.name); got != want {
			t.Errorf("failover: %s, want %s", got, want)
		}
	}
	r := started(t, d.source())
	r.close()
	failover("true")
	started(t, d.source(without)).close()
	failover("false")
	d.exec(`SELECT pg_drop_replication_slot($1)`, r.Info().Slot)
	started(t, d.source(without)).close()
	failover("false")
	d.exec(`SELECT pg_drop_replication_slot($1)`, r.Info().Slot)
	d.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, r.Info().Slot)
	failover("false")
	d.exec(`INSERT INTO a VALUES (1)`)
	r = acquire(t, d.source())
	failover("true")
	expect(t, lines(r.changes()), `c public.a {"id":1} last`)
	r.close()
}

// TestServerShutsDown: a fast shutdown does not wait until everything is confirmed.
func TestServerShutsDown(t *testing.T) {
	t.Parallel()
	srv := ownServer(t, 17)
	d := databaseOn(t, srv)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := d.source()
	r := started(t, s)
	d.exec(`INSERT INTO a VALUES (1)`)
	since := time.Now()
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := r.Next(context.Background()); err != nil {
				done <- err
				return
			}
		}
	}()
	srv.Stop(interrupt)
	if took := time.Since(since); took > 8*time.Second {
		t.Errorf("the shutdown took %s", took)
	}
	t.Log(<-done)
	r.close()
	srv.Restart(t)
	r = started(t, s)
	expect(t, lines(r.changes()), `c public.a {"id":1} last`)
	r.close()
}

// TestSlotMadeAgainSkipsNothing: somebody, or a cluster manager after a failover, makes a slot of the same name anew. It would
// be read without an error, from where it was made.
func TestSlotMadeAgainSkipsNothing(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, 17)
	d.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := d.source()
	r := started(t, s)
	first, identity := r.Info().Confirmed, r.Info().Identity
	d.exec(`INSERT INTO a VALUES (1)`)
	read := r.items()[2].Position
	r.close()
	d.exec(`INSERT INTO a VALUES (2)`)
	d.exec(`SELECT pg_drop_replication_slot($1)`, r.Info().Slot)
	d.exec(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, r.Info().Slot)
	d.exec(`INSERT INTO a VALUES (3)`)
	r = acquire(t, s)
	wantGap(t, r.Check(t.Context(), read, first, identity), "moved on")
	r.close()
}
