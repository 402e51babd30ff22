package clickhouse_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/functions/clickhouse"
	"github.com/runnel-dev/runnel/runtime/event"
)

// testPreview gives the server what is shown, and Handle the same batch into another table: both come to be equal.
func testPreview(t *testing.T, g target) {
	for name, s := range map[string]*clickhouse.Sink{"http": g.sink(), "native": g.over("clickhouse://" + g.native + "/default")} {
		for kind, more := range map[string][]event.Column{"plain": nil, "float": {{Name: "ratio", Type: "double precision", Nullable: true}}} {
			shown, handled := fmt.Sprintf("shown_%s_%s", name, kind), fmt.Sprintf("handled_%s_%s", name, kind)
			for _, table := range []string{shown, handled} {
				x := schemaOf(table, append([]event.Column{{Name: "order_id", Type: "bigint", Key: 1}, {Name: "line", Type: "text", Nullable: true}}, more...)...)
				b := batch(put(x, 1, `{"order_id":1,"line":"it's \\ \"a\""}`), put(x, 2, `{"order_id":2,"line":null}`), del(x, 3, `{"order_id":2}`))
				if table == handled {
					must(t, s.Handle(t.Context(), b))
					continue
				}
				must(t, s.Check(t.Context(), []*event.Schema{x}))
				text, err := s.Preview(t.Context(), b)
				must(t, err)
				set, insert, _ := strings.Cut(string(text), ";\n")
				if !strings.HasPrefix(set, "SET async_insert = 0, ") || !strings.Contains(set, "insert_deduplication_token = 'analytics.1.3:") {
					t.Errorf("settings: %s", set)
				}
				g.query(strings.TrimSuffix(insert, ";\n"))
			}
			const rows = "select order_id, line, _partition, _version, _deleted from %s final order by order_id format JSONEachRow"
			got, want := g.query(fmt.Sprintf(rows, shown)), g.query(fmt.Sprintf(rows, handled))
			if got != want || !strings.Contains(want, "it's") {
				t.Errorf("%s, %s: Handle\n%s\nPreview\n%s", name, kind, want, got)
			}
		}
	}
}
