package check_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/runtime/event"
)

// A checker that finds nothing proves nothing: each kind of violation is planted once.
func TestJournalFindsWhatIsPlanted(t *testing.T) {
	t.Parallel()
	table := &equal.Table{Name: "orders", Key: []string{"id"}, Columns: []string{"id", "n"}, Types: map[string]string{"id": "bigint", "n": "numeric"}}
	tables := map[string]*equal.Table{"orders": table}
	schema := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"}, []event.Column{{Name: "id", Type: "bigint", Key: 1}, {Name: "n", Type: "numeric"}})
	row := func(id, n int) []byte { return fmt.Appendf(nil, `{"id":%d,"n":%d}`, id, n) }
	journal := []check.Entry{
		{XID: 7, Op: "i", Table: "orders", New: row(1, 1)},
		{XID: 7, Op: "u", Table: "orders", Old: row(1, 1), New: json.RawMessage(`{"id":1,"n":2.0}`)},
		{XID: 8, Op: "u", Table: "orders", Old: row(1, 2), New: row(5, 2)},
		{XID: 9, Op: "d", Table: "orders", Old: row(5, 2)},
	}
	w := event.Writer{Epoch: 1, Base: 512}
	message := func(n int, op event.Op, tx uint64, before, after []byte) *event.Message {
		line := event.AppendLine(nil, &event.Change{Op: op, Schema: schema, Before: before, After: after, TxID: tx, Order: 1,
			Position: event.Position{Timeline: 1, Commit: tx, Change: uint64(n)}})
		return &event.Message{Subject: event.Subject("shop", schema.Table, 0), Sequence: 512 + uint64(n), Writer: w, Data: line}
	}
	right := []*event.Message{
		message(1, event.Create, 7, nil, row(1, 1)), message(2, event.Update, 7, nil, row(1, 2)),
		message(3, event.Delete, 8, []byte(`{"id":1}`), nil), message(4, event.Create, 8, nil, row(5, 2)), message(5, event.Delete, 9, []byte(`{"id":5}`), nil),
	}
	for _, c := range []struct {
		name, want string
		stream     []*event.Message
	}{
		{"Right", "", right},
		{"Gap", "gap: transaction 9", right[:4]},
		{"Duplicate", "duplicate: transaction 7", append([]*event.Message{right[0], right[1], right[1]}, right[2:]...)},
		{"Order", "order: transaction 7", append([]*event.Message{right[1], right[0]}, right[2:]...)},
		{"Value", "value: transaction 7", append([]*event.Message{right[0], message(2, event.Update, 7, nil, row(1, 3))}, right[2:]...)},
		{"Phantom", "not in the journal", append(slices.Clone(right), message(6, event.Create, 10, nil, row(9, 9)))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := strings.Join(check.Journal(c.stream, journal, tables), "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
