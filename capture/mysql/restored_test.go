package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestRestored: a server that was restored from a copy and has written on since, until it has as many transactions as were published, or more, is
// known by its newest one. Nothing of its other history is given.
func TestRestored(t *testing.T) {
	aloneOn(t, withPlaces, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
		copied := w.server.MySQLBackup(t)
		l := w.open(w.source(), "")
		w.exec("INSERT INTO a VALUES (2)")
		last := end(l.read()[0].Position)
		set := l.at(item{Item: capture.Item{Position: last}})
		l.close()
		again := w.open(w.source(), set, last) // it is still the same
		w.want(again.read())
		again.close()
		second := w.text("SELECT UNIX_TIMESTAMP()")
		w.server.MySQLRestore(t, copied)
		w.db = w.connect()
		w.exec("USE " + w.name)
		w.until(func() error { // MariaDB's log has whole seconds
			if w.text("SELECT UNIX_TIMESTAMP()") == second {
				return errors.New("no second has passed")
			}
			return nil
		})
		w.exec("INSERT INTO a VALUES (3)", "INSERT INTO a VALUES (4)", "INSERT INTO a VALUES (5)")
		other := w.open(w.source(), set, last)
		if gap := (*capture.GapError)(nil); !errors.As(other.fails(), &gap) || !strings.Contains(gap.Error(), "restored") || !strings.Contains(gap.Error(), "--resnapshot") {
			t.Errorf("got %v, want a gap that says that the server was restored", gap)
		}
	})
}

// TestRestoredPlaces: of a log without GTIDs also one in which another transaction begins elsewhere, or whose place is in the midst of one, or whose
// binlog was begun anew.
func TestRestoredPlaces(t *testing.T) {
	t.Parallel()
	w := places.alone(t)
	w.exec("CREATE TABLE a (id int PRIMARY KEY, v varchar(1000))")
	l := w.open(w.source(), "")
	w.exec("INSERT INTO a VALUES (1, 'x')", "INSERT INTO a VALUES (2, 'y')")
	last := end(l.read()[1].Position)
	set := l.at(item{Item: capture.Item{Position: last}})
	l.close()
	w.exec("RESET MASTER")
	s := w.source()
	mysql.SetPatience(s, 0)
	check := func() error {
		n, err := s.Acquire(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close(context.Background())
		if err := n.(capture.Tracker).Resume(set, []event.Position{last}); err != nil {
			return err
		}
		if err := n.Check(t.Context(), last, last, ""); err != nil {
			return err
		}
		if err := n.Start(t.Context(), last, event.Position{}); err != nil {
			return err
		}
		return (&log{Log: n, t: t}).fails()
	}
	for n, filler := range []string{"", "z", strings.Repeat("z", 1000)} {
		if n > 0 {
			for i := range 20 {
				w.exec(fmt.Sprintf("REPLACE INTO a VALUES (%d, '%s')", i, filler))
			}
		}
		if gap := (*capture.GapError)(nil); !errors.As(check(), &gap) || !strings.Contains(gap.Error(), "--resnapshot") {
			t.Errorf("filled with %q: got %v, want a gap", filler, gap)
		}
	}
}

// TestAnotherServer: what was read by files and bytes says nothing of another server, nor of one that has GTIDs now.
func TestAnotherServer(t *testing.T) {
	t.Parallel()
	w, gtids := places.world(t, places.running(t, &places.shared)), flavors[0].world(t, flavors[0].running(t, &flavors[0].shared))
	l := w.open(w.source(), "")
	byPlace := l.at(item{Item: capture.Item{Position: l.Info().Confirmed}})
	m := gtids.open(gtids.source(), "")
	byGTID := m.at(item{Item: capture.Item{Position: m.Info().Confirmed}})
	for name, err := range map[string]error{
		"another server": l.Resume(strings.Replace(byPlace, l.Info().Identity, m.Info().Identity, 1), nil),
		"GTIDs now":      m.Resume(byPlace, nil),
		"no GTIDs now":   l.Resume(byGTID, nil),
	} {
		if gap := (*capture.GapError)(nil); !errors.As(err, &gap) || !strings.Contains(err.Error(), "--resnapshot") {
			t.Errorf("%s: got %v, want a gap", name, err)
		}
	}
}

// TestTurned: a new file is noted once it is begun, so that the one before may go although nothing was written since.
func TestTurned(t *testing.T) {
	t.Parallel()
	w := places.alone(t)
	w.exec("CREATE TABLE a (id int PRIMARY KEY)")
	l := w.open(w.source(), "")
	w.exec("INSERT INTO a VALUES (1)", "FLUSH BINARY LOGS")
	if err := l.Mark(t.Context(), "turned"); err != nil {
		t.Fatal(err)
	}
	var last event.Position
	for _, i := range l.until(func(i item) bool { return i.Kind == capture.Marked }) {
		if i.Kind == capture.Committed {
			last = i.Position
		}
	}
	set := l.at(item{Item: capture.Item{Position: last}})
	l.close()
	w.purgeTo(w.text("SHOW MASTER STATUS"))
	again := w.open(w.source(), set, last)
	w.exec("INSERT INTO a VALUES (2)")
	w.want(again.read(), `c a  {"id":2} true`)
}

// TestHeldPlaces: a commit that is in the log and not visible yet is not shown by a snapshot, of a log without GTIDs; those before it are.
func TestHeldPlaces(t *testing.T) {
	t.Parallel()
	w := places.alone(t)
	w.exec("CREATE TABLE a (id int PRIMARY KEY)")
	l := w.open(w.source(), "")
	w.exec("INSERT INTO a VALUES (0)")
	before := l.changes("a")[0]
	w.exec("SET GLOBAL binlog_group_commit_sync_delay = 1000000") // a second, in the midst of each commit
	defer w.exec("SET GLOBAL binlog_group_commit_sync_delay = 0")
	other := w.connect()
	run(t, other, "USE "+w.name)
	for n, met := 1, false; !met; n++ { // a busy machine may be too late to see it wait
		done := make(chan error, 1)
		go func() {
			_, err := other.Execute(fmt.Sprintf("INSERT INTO a VALUES (%d)", n))
			done <- err
		}()
		held := l.changes("a")[0]
		waiting, err := l.Waiting(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := w.chunk(l, "a")
		if met = len(c.Rows) == n; met && (!c.Visible(before.XID) || c.Visible(held.XID) || c.Visible(waiting[0])) {
			t.Errorf("while it waits: visible are the one before %t, itself %t, all that was waited for %t", c.Visible(before.XID), c.Visible(held.XID), c.Visible(waiting[0]))
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		w.until(func() error {
			if c := w.chunk(l, "a"); len(c.Rows) != n+1 || !c.Visible(held.XID) || !c.Visible(before.XID) || !c.Visible(waiting[0]) {
				return fmt.Errorf("once it is done: %d rows, visible %t, %t and %t", len(c.Rows), c.Visible(held.XID), c.Visible(before.XID), c.Visible(waiting[0]))
			}
			return nil
		})
		if n > 20 {
			t.Fatal("a commit that waits is never met")
		}
	}
}
