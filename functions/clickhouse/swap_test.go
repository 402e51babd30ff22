package clickhouse_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/runnel-dev/runnel/functions/clickhouse"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// What a copy has filled comes in the place of the function's table once, however often and by how many it is asked for at a time: EXCHANGE
// TABLES that is sent once more would undo it.
func TestSwap(t *testing.T) {
	g := start(t)
	ctx := t.Context()
	g.query("create database swaps engine = Atomic")
	sinkOf := func(function, table string) *clickhouse.Sink {
		s, err := clickhouse.New(clickhouse.Config{Function: function, URL: g.url + "/swaps", Table: table})
		must(t, err)
		t.Cleanup(s.Close)
		return s
	}
	x := items("swapped")
	live, copied := sinkOf("analytics", "{table}"), sinkOf("analytics-copy", "{table}_v2")
	must(t, live.Handle(ctx, batch(put(x, 1, `{"order_id":1,"line":"a","price":1}`), put(x, 2, `{"order_id":2,"line":"b","price":1}`))))
	taken, err := copied.Taken(ctx, []*event.Schema{x})
	if must(t, err); len(taken) > 0 {
		t.Fatalf("taken before the copy: %v", taken)
	}
	must(t, copied.Handle(ctx, batch(put(x, 1, `{"order_id":1,"line":"a","price":7}`))))
	taken, err = copied.Taken(ctx, []*event.Schema{x})
	if must(t, err); strings.Join(taken, " ") != "swapped_v2 swapped_v2_live" {
		t.Fatalf("taken by the copy: %v", taken)
	}
	order := sink.Swap{Generation: 2, Copy: "analytics-copy", CopyGeneration: 7, Into: "{table}_v2", Schemas: []*event.Schema{x}}
	order.Marks, err = live.Marks(ctx, order)
	must(t, err)
	swap := func() error { // as the host does: again, until it works
		var err error
		for range 50 {
			if err = live.Swap(ctx, order); err == nil || sink.IsHalt(err) {
				return err
			}
		}
		return err
	}
	var several sync.WaitGroup
	failed := make([]error, 6)
	for i := range failed {
		several.Go(func() { failed[i] = swap() })
	}
	several.Wait()
	must(t, errors.Join(failed...))
	if got := g.query("select order_id, price from swaps.swapped_live order by 1"); got != "1\t7" {
		t.Errorf("the function's table has %q, want what the copy had", got)
	}
	if got := g.query("select count() from swaps.swapped_v2"); got != "2" {
		t.Errorf("the copy's table has %s rows, want those of the function's table of before", got)
	}
	if got := g.query("select name from system.tables where database = 'swaps' and name like 'swapped%' order by 1"); got != "swapped\nswapped_live\nswapped_v2" {
		t.Errorf("tables: %q", got)
	}
	after := sinkOf("analytics", "{table}")
	must(t, after.Handle(ctx, batch(put(x, 4, `{"order_id":3,"line":"c","price":3}`))))
	must(t, live.Handle(ctx, batch(put(x, 3, `{"order_id":1,"line":"a","price":8}`)))) // who was asleep writes by the name
	if got := g.query("select order_id, price from swaps.swapped_live order by 1"); got != "1\t8\n3\t3" {
		t.Errorf("the function's table has %q", got)
	}
	must(t, swap()) // by who was asleep
	g.query("drop table swaps.swapped_v2")
	must(t, swap())
	if got := g.query("select count() from swaps.swapped_live"); got != "2" {
		t.Errorf("got %s rows after a late repetition, want 2", got)
	}
}
