package host_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// rowsTarget holds what a target would hold.
type rowsTarget struct {
	mu   sync.Mutex
	rows map[string]string
	gone int
}

func (r *rowsTarget) Handle(_ context.Context, b sink.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range b.Spans {
		for i := range s.Events {
			e := &s.Events[i]
			id, _ := e.Key().Column("number")
			if e.After.IsNull() {
				r.gone++
				delete(r.rows, string(id))
				continue
			}
			r.rows[string(id)] = string(e.After.Raw())
		}
	}
	return nil
}

// A filtered target holds the rows that pass now, whether they passed before or not, shaped as the specification says.
func TestShapedRows(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders",
		"filter: after.id % 2 == 0 && after.note != 'secret'\nset: {label: \"'#' + string(after.id)\"}\ncolumns: {rename: {id: number}}\nmask: {redact: [note]}")
	h := &rowsTarget{rows: map[string]string{}}
	start(t, name, only(h), nil)
	f.put(f.schema, keys(1, 20)...)
	waitFor(t, "the rows that pass", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for id := 2; id <= 20; id += 2 {
			if h.rows[fmt.Sprint(id)] != fmt.Sprintf(`{"number":%d,"note":null,"label":"#%d"}`, id, id) {
				return false
			}
		}
		return len(h.rows) == 10 && h.gone == 10
	})
}

// A filter that cannot work with a table halts the function and says why.
func TestShapeThatDoesNotFit(t *testing.T) {
	t.Parallel()
	f := newFeeder(t, stream.Settings{Partitions: 2})
	name := newFunction(t, f, "$.public.orders", "filter: after.state == 1")
	start(t, name, only(newTarget(t)), nil)
	f.put(f.schema, keys(1, 2)...)
	waitFor(t, "halted", func() bool { return record(t, name).State == registry.Halted })
	if why := record(t, name).Reason; !strings.Contains(why, "undefined field 'state'") {
		t.Errorf("got %q", why)
	}
}
