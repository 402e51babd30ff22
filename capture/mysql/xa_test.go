package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/runtime/event"
)

// prepare does the first phase of an XA transaction, in a session that ends with it, as if its application had died.
func (w *world) prepare(xid string, statements ...string) {
	w.t.Helper()
	c := w.connect()
	run(w.t, c, "USE "+w.name, "XA START "+xid)
	run(w.t, c, statements...)
	run(w.t, c, "XA END "+xid, "XA PREPARE "+xid)
	if err := c.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// decide does the second phase, once the server has taken note that the session of the first one is gone.
func (w *world) decide(statement string) {
	w.t.Helper()
	w.until(func() error {
		_, err := w.db.Execute(statement)
		return err
	})
}

func texts(items []item) (out []string) {
	for _, c := range items {
		out = append(out, fmt.Sprintf("%s %t", c, c.last))
	}
	return out
}

func (w *world) want(got []item, want ...string) {
	w.t.Helper()
	if d := cmp.Diff(want, texts(got)); d != "" {
		w.t.Errorf("(-want +got):\n%s", d)
	}
}

// at is the set of what was read up to an item.
func (l *log) at(i item) string {
	l.t.Helper()
	set, err := l.Executed(i.Position)
	if err != nil {
		l.t.Fatal(err)
	}
	return set
}

// waits says whether a set has something whose end was not read.
func waits(set string) bool {
	return strings.Contains(set, ";x") || strings.Contains(set, ";o") || strings.Contains(set, ";+")
}

func (l *log) close() {
	l.t.Helper()
	if err := l.Close(context.Background()); err != nil {
		l.t.Error(err)
	}
}

// TestXA: the rows of an XA transaction are changes where its second phase commits them, together, and nothing where it rolls them back. One with a
// single phase is an ordinary transaction.
func TestXA(t *testing.T) {
	aloneOn(t, withPlaces, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY, v varchar(2000))", "CREATE TABLE other (id int PRIMARY KEY)")
		for _, memory := range []int64{1 << 20, 300} {
			s := w.source("a", "b")
			mysql.SetSpool(s, memory)
			l := w.open(s, "")
			w.exec("XA START 'x'", "INSERT INTO a VALUES (1)", "XA END 'x'", "XA COMMIT 'x' ONE PHASE")
			w.prepare("'g''1', 'b', 7", "INSERT INTO other VALUES (1)", "INSERT INTO a VALUES (2), (3)", "INSERT INTO b VALUES (1, REPEAT('x', 2000))", "UPDATE b SET v = 'y'")
			w.prepare("'none'", "INSERT INTO other VALUES (2)")
			w.prepare("'back'", "INSERT INTO a VALUES (9)")
			w.exec("INSERT INTO a VALUES (4)")
			w.decide("XA ROLLBACK 'back'")
			w.decide("XA COMMIT 'none'")
			w.decide("XA COMMIT 'g''1', 'b', 7")
			w.exec("INSERT INTO a VALUES (5)")
			got := l.read()
			w.want(got, `c a  {"id":1} true`, `c a  {"id":4} true`, `c a  {"id":2} false`, `c a  {"id":3} false`, `c b  {"id":1,"v":"`+strings.Repeat("x", 2000)+`"} false`,
				`u b  {"id":1,"v":"y"} true`, `c a  {"id":5} true`)
			for n, c := range got[2:6] { // the row that is not captured counts
				if p := c.Position; p.Commit != got[2].Position.Commit || p.Change != uint64(n+2) || c.Change.Order != int64(n+1) {
					t.Errorf("row %d: %s, order %d", n, p, c.Change.Order)
				}
			}
			if set := l.at(got[6]); waits(set) {
				t.Errorf("an XA transaction still waits in %s", set)
			}
			l.close()
			w.exec("DELETE FROM a", "DELETE FROM b", "DELETE FROM other")
		}
	})
}

// TestXAResumed: an agent that starts anywhere between the two phases, or within the rows of the second one, gives each row once, whatever was recorded.
func TestXAResumed(t *testing.T) {
	aloneOn(t, withPlaces, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
		l := w.open(w.source("a"), "")
		w.exec("INSERT INTO a VALUES (2)")
		first := l.changes("a")[0]
		before := l.at(first)
		w.prepare("'x'", "INSERT INTO a VALUES (10), (11), (12)")
		w.prepare("'none'", "INSERT INTO other VALUES (1)")
		w.exec("INSERT INTO a VALUES (3)")
		second := l.changes("a")[0]
		between := l.at(item{Item: capture.Item{Position: end(second.Position)}})
		w.exec("INSERT INTO a VALUES (4)")
		w.decide("XA COMMIT 'x'")
		w.decide("XA COMMIT 'none'")
		w.exec("INSERT INTO a VALUES (5)", "INSERT INTO other VALUES (2)", "INSERT INTO a VALUES (6)")
		all := append([]item{first, second}, l.read()...)
		w.want(all[2:], `c a  {"id":4} true`, `c a  {"id":10} false`, `c a  {"id":11} false`, `c a  {"id":12} true`, `c a  {"id":5} true`, `c a  {"id":6} true`)
		l.close()
		var since []event.Position
		for n, c := range all {
			since = append(since, c.Position)
			for name, set := range map[string]string{"before": before, "between": between} {
				if name == "between" && n == 0 {
					continue
				}
				r := w.open(w.source("a"), set, since...)
				recorded := r.at(item{Item: capture.Item{Position: c.Position}}) // as a start does
				if got := texts(r.read()); cmp.Diff(append([]string{}, texts(all[n+1:])...), append([]string{}, got...)) != "" {
					t.Errorf("from %s the set %s, after %s: got %v", name, set, c, got)
				}
				r.close()
				again := w.open(w.source("a"), recorded, c.Position)
				if got := texts(again.read()); cmp.Diff(append([]string{}, texts(all[n+1:])...), append([]string{}, got...)) != "" {
					t.Errorf("from the set %s, after %s: got %v", recorded, c, got)
				}
				if set := again.at(item{Item: capture.Item{Position: end(all[len(all)-1].Position)}}); n < len(all)-1 && waits(set) {
					t.Errorf("at the end something still waits in %s", set)
				}
				again.close()
			}
		}
	})
}

func end(p event.Position) event.Position { return event.Position{Origin: p.Origin, Commit: p.Commit} }

// TestXAPreparedBefore: the second phase of what was prepared before the log was read is not passed.
func TestXAPreparedBefore(t *testing.T) {
	aloneOn(t, withPlaces, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)")
		w.prepare("'x'", "INSERT INTO a VALUES (1)")
		w.prepare("'y'", "INSERT INTO a VALUES (2)")
		l := w.open(w.source("a"), "")
		w.decide("XA ROLLBACK 'y'")
		w.exec("INSERT INTO a VALUES (3)")
		w.decide("XA COMMIT 'x'")
		w.want(l.changes("a"), `c a  {"id":3} true`)
		if gap := (*capture.GapError)(nil); !errors.As(l.fails(), &gap) || !strings.Contains(gap.Error(), "XA") {
			t.Errorf("got %v, want a gap that names the XA transaction", gap)
		}
	})
}

// TestXAPurged: a first phase that the server has thrown away is a gap while its second one is to come, unless it has nothing captured.
func TestXAPurged(t *testing.T) {
	aloneOn(t, withPlaces, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY)")
		l := w.open(w.source("a"), "")
		w.prepare("'none'", "INSERT INTO other VALUES (1)")
		w.prepare("'x'", "INSERT INTO a VALUES (10)")
		w.exec("FLUSH BINARY LOGS")
		file := w.text("SHOW MASTER STATUS")
		w.exec("INSERT INTO a VALUES (2)")
		last := end(l.changes("a")[0].Position)
		full := l.at(item{Item: capture.Item{Position: last}})
		l.close()
		defer w.decide("XA COMMIT 'x'")
		w.purgeTo(file)
		n, err := w.source("a").Acquire(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.(capture.Tracker).Resume(full, nil); err != nil {
			t.Fatal(err)
		}
		var gap *capture.GapError
		if err := n.Check(t.Context(), last, last, ""); !errors.As(err, &gap) || !strings.Contains(err.Error(), "XA transaction X'78'") {
			t.Errorf("got %v, want a gap that names the XA transaction", err)
		}
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
		without, _, _ := strings.Cut(full, ";x")
		r := w.open(w.source("a"), without, last)
		w.decide("XA COMMIT 'none'")
		w.exec("INSERT INTO a VALUES (3)")
		w.want(r.read(), `c a  {"id":3} true`)
	})
}
