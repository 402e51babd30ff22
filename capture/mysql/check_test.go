package mysql_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/capture"
	"github.com/runnel-dev/runnel/capture/mysql"
	"github.com/runnel-dev/runnel/runtime/event"
)

// TestRemaining: where the server has purged a part of its log, the rest of it can be gone on with, from its very first transaction.
func TestRemaining(t *testing.T) {
	alone(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE a (id int PRIMARY KEY)")
		l := w.open(w.source(), "")
		w.exec("INSERT INTO a VALUES (1)")
		set, err := l.Executed(l.read()[0].Position)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close(context.Background())
		w.exec("INSERT INTO a VALUES (2)")
		w.purge()
		w.exec("INSERT INTO a VALUES (3)", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (4)")
		n, err := w.source().Acquire(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close(context.Background())
		if err := n.(capture.Tracker).Resume(set, nil); err != nil {
			t.Fatal(err)
		}
		from := n.Info().Confirmed
		if err := n.Check(t.Context(), from, from, ""); err == nil || !strings.Contains(err.Error(), "--from-oldest") {
			t.Fatalf("got %v, want a gap that names --from-oldest", err)
		}
		at, err := n.(capture.Remainder).Remaining(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Check(t.Context(), at, at, ""); err != nil {
			t.Error(err)
		}
		if err := n.Start(t.Context(), at, event.Position{}); err != nil {
			t.Fatal(err)
		}
		rest := &log{Log: n, Tracker: n.(capture.Tracker), Snapshotter: n.(capture.Snapshotter), t: t}
		if got := lines(rest.read()); got != "c a  {\"id\":3}\nc a  {\"id\":4}\n" {
			t.Errorf("got %s", got)
		}
	})
}

// TestRemainingOfAnother: a server that lacks what was published is no place to go on.
func TestRemainingOfAnother(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := w.source()
		mysql.SetPatience(s, 0)
		n, err := s.Acquire(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close(context.Background())
		ahead := n.Info().Confirmed
		ahead.Commit += 1000
		if err := n.(capture.Tracker).Resume(w.executedNow(), []event.Position{ahead}); err != nil {
			t.Fatal(err)
		}
		_, err = n.(capture.Remainder).Remaining(t.Context())
		if gap := (*capture.GapError)(nil); !errors.As(err, &gap) || strings.Contains(err.Error(), "--from-oldest") {
			t.Errorf("got %v, want a gap that only --resnapshot passes", err)
		}
	})
}
