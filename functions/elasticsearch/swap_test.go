package elasticsearch_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// The name of the function's index becomes an alias of the copy's, once, however often and by how many it is asked for; and a second copy takes
// the place of the first.
func TestSwap(t *testing.T) {
	g := start(t)
	ctx := t.Context()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	live := g.sink("swap-{table}")
	must(t, live.Handle(ctx, batch(put(1, 1, "a", `,"price":1`), put(2, 2, "b", `,"price":1`))))
	all := []*event.Schema{schema}
	exchange := func(into string, n uint64) {
		t.Helper()
		copied := g.sink(into)
		taken, err := copied.Taken(ctx, all)
		if must(t, err); len(taken) > 0 {
			t.Fatalf("taken before the copy: %v", taken)
		}
		must(t, copied.Handle(ctx, batch(put(n, 1, "a", `,"price":7`))))
		order := sink.Swap{Generation: int64(n), Copy: "search-copy", CopyGeneration: 7, Into: into, Schemas: all}
		order.Marks, err = live.Marks(ctx, order)
		must(t, err)
		swap := func() (err error) { // as the host does: again, until it works
			for range 50 {
				if err = live.Swap(ctx, order); err == nil || sink.IsHalt(err) {
					return err
				}
			}
			return err
		}
		var several sync.WaitGroup
		failed := make([]error, 4)
		for i := range failed {
			several.Go(func() { failed[i] = swap() })
		}
		several.Wait()
		must(t, errors.Join(failed...))
		must(t, swap())
	}
	exchange("swap-{table}-v2", 3)
	if got := g.source("swap-items", "1%7Ca"); !strings.Contains(got, `"price":7`) {
		t.Errorf("the function's name shows %s", got)
	}
	if got := g.source("swap-items", "2%7Cb"); got != "" {
		t.Errorf("the older index is still there: %s", got)
	}
	after := g.sink("swap-{table}")
	must(t, after.Handle(ctx, batch(put(4, 3, "c", `,"price":3`))))
	if got := g.source("swap-items-v2", "3%7Cc"); got == "" {
		t.Error("what the function writes is not in the copy's index")
	}
	exchange("swap-{table}-v3", 5)
	if got := g.source("swap-items", "3%7Cc"); got != "" {
		t.Errorf("the second copy did not come in its place: %s", got)
	}
	if status, _ := g.do("GET", "/swap-items-v2", ""); status != 404 {
		t.Errorf("the first copy's index: status %d, want it deleted", status)
	}
}
