package postgres_test

import (
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
)

func init() { cases["Drop"] = testDrop }

// testDrop: tables that the function made go with all that it noted of itself, others stay.
func testDrop(t *testing.T, w *world) {
	s, f := w.sink(postgres.Config{}), &flow{generation: 1}
	if dropped, kept, err := s.Drop(t.Context(), nil, false); err != nil || len(dropped)+len(kept) > 0 {
		t.Errorf("before the first write: dropped %v, kept %v, %v", dropped, kept, err)
	}
	w.exec(`CREATE TABLE theirs (id integer PRIMARY KEY)`)
	id := event.Column{Name: "id", Type: "integer", Key: 1}
	w.claim(s, f)
	w.handle(s, f.add(event.Create, schema("ours", id), `{"id":1}`).add(event.Create, schema("theirs", id), `{"id":1}`).batch())
	for i, want := range []string{`"public"."ours"`, `"public"."ours"`, ""} { // a look, then the deed, which may be repeated
		dropped, kept, err := s.Drop(t.Context(), nil, i == 0)
		if err != nil || strings.Join(dropped, " ") != want || i < 2 && strings.Join(kept, " ") != `"public"."theirs"` {
			t.Errorf("dropped %v, kept %v, %v; want %q", dropped, kept, err, want)
		}
	}
	w.want(`SELECT to_regclass('ours')::text, (SELECT count(*) FROM theirs)`, "<nil>|1")
	w.want(`SELECT (SELECT count(*) FROM runnel.checkpoints) + (SELECT count(*) FROM runnel.targets)`, "0")
}
