package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func init() {
	cases["Preview"] = testPreview
	cases["PreviewNotes"] = testPreviewNotes
}

// What is shown, given to the server as it stands, does what Handle does, checkpoint included; shown again it changes nothing.
func testPreview(t *testing.T, w *world) {
	for _, inOrder := range []bool{false, true} {
		one, two := w.another(), w.another()
		var want []string
		for _, target := range []*world{one, two} {
			s, f, sc := target.sink(postgres.Config{InOrder: inOrder}), &flow{generation: 1}, items(event.Column{Name: "$1 \"odd'", Type: "numeric(10,2)", Nullable: true})
			if inOrder {
				f.partition = sink.All
			}
			target.claim(s, f)
			target.apply(s, f.add(event.Create, sc, `{"id":1,"name":"old","$1 \"odd'":1.5}`).add(event.Create, sc, `{"id":2,"name":"'$2'","$1 \"odd'":null}`), inOrder)
			f.add(event.Update, sc, `{"id":1,"name":"it's $1 -- \"new\"","$1 \"odd'":2}`).add(event.Delete, sc, `{"id":2}`).add(event.Create, sc, `{"id":3,"name":null,"$1 \"odd'":3}`).
				add(event.Update, sc, `{"id":1,"name":"partly"}`, `$1 "odd'`)
			if target == one {
				target.apply(s, f, inOrder)
			} else {
				text, err := s.Preview(t.Context(), f.batch())
				if err != nil {
					t.Fatal(err)
				}
				target.psql(t, string(text))
				if again := target.psqlError(string(text)); !inOrder && again == nil {
					t.Error("the guard let it pass twice")
				}
			}
			got := append(target.rows(`SELECT * FROM items ORDER BY id`), target.rows(`SELECT function, generation, partition, version, sequence FROM runnel.checkpoints`)...)
			if target == one {
				want = got
			} else if d := cmp.Diff(want, got); d != "" {
				t.Errorf("in order %v: Handle -, Preview +:\n%s", inOrder, d)
			}
		}
	}
}

// apply writes what was added.
func (w *world) apply(s *postgres.Sink, f *flow, inOrder bool) {
	w.t.Helper()
	if !inOrder {
		w.handle(s, f.batch())
		return
	}
	claim := f.claim()
	b := f.batch()
	tx, err := s.Open(w.t.Context(), claim, b.Spans[0].After)
	if err == nil {
		err = tx.Apply(w.t.Context(), b.Spans[0].Events)
	}
	if err == nil {
		err = tx.Commit(w.t.Context(), b.Spans[0].To)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// psql runs statements as they were typed in.
func (w *world) psql(t *testing.T, text string) {
	t.Helper()
	if err := w.psqlError(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

func (w *world) psqlError(text string) error {
	c, err := w.db.Acquire(w.t.Context())
	if err != nil {
		return err
	}
	defer c.Release()
	_, err = c.Conn().PgConn().Exec(w.t.Context(), text).ReadAll()
	if err != nil {
		_, _ = c.Exec(w.t.Context(), "ROLLBACK") // of what failed in its middle
	}
	return err
}

// A preview asks nobody, and tells what can never be written.
func testPreviewNotes(t *testing.T, w *world) {
	s := w.sink(postgres.Config{URL: "postgres://nobody@127.0.0.1:1/nowhere", Table: "copy.{table}"})
	f, sc := &flow{generation: 1}, items()
	text, err := s.Preview(t.Context(), f.add(event.Create, sc, `{"id":1,"name":"a"}`).add(event.Create, sc, `{"name":"no key"}`).batch())
	var failed *sink.BatchError
	if !errors.As(err, &failed) || len(failed.Failed) != 1 || failed.Failed[0].Event != 1 || !sink.IsPermanent(failed.Failed[0].Err) {
		t.Errorf("got %v, want event 1 as permanent", err)
	}
	if !strings.Contains(string(text), `INSERT INTO "copy"."items"`) || strings.Contains(string(text), "no key") {
		t.Errorf("got %s", text)
	}
}
