package functiontest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/functiontest"
	"github.com/runnel-dev/runnel/runtime/event"
)

type order struct {
	ID     int64   `json:"id"`
	Status *string `json:"status"`
	Total  float64 `json:"total,omitempty"`
}

func status(s string) *string { return &s }

// cache is a pipeline into a table in memory.
func cache(t *testing.T, spec string) (*functiontest.Flow, *table) {
	target := newTable()
	return functiontest.Pipeline(t, maker(right["strict"], target), spec), target
}

func (t *table) want(test *testing.T, want ...string) {
	test.Helper()
	got, _ := t.Rows(test.Context())
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		test.Errorf("-want +got\n%s", diff)
	}
}

func TestPipeline(t *testing.T) {
	t.Parallel()
	began := time.Now()
	flow, target := cache(t, "")
	t.Log("started", time.Since(began))
	flow.Insert("orders", order{1, status("new"), 1.5}, order{2, nil, 7.25}, `{"id":3,"status":"old","total":0.10}`)
	flow.Commit()
	flow.Update("public.orders", map[string]any{"id": 2, "status": "paid"})
	flow.Delete("orders", 1)
	flow.Wait()
	t.Log("done", time.Since(began))
	target.want(t, `{"id":2,"status":"paid","total":7.25}`, `{"id":3,"status":"old","total":0.10}`)
	flow.Insert("orders", json.RawMessage(`{"id":4,"note":{"a":[1]}}`)) // a column that the table did not have
	flow.Wait()
	target.want(t, `{"id":2,"status":"paid","total":7.25}`, `{"id":3,"status":"old","total":0.10}`, `{"id":4,"status":null,"total":null,"note":{"a":[1]}}`)
	if diff := cmp.Diff([]string{`{"id":2,"status":"paid","total":7.25,"note":null}`, `{"id":3,"status":"old","total":0.10,"note":null}`, `{"id":4,"status":null,"total":null,"note":{"a":[1]}}`}, flow.Rows("orders")); diff != "" {
		t.Errorf("the source's table: -want +got\n%s", diff)
	}
	if f := flow.DeadLetters(); len(f) > 0 {
		t.Errorf("got dead letters %v", f)
	}
}

func TestPipelineFaults(t *testing.T) {
	t.Parallel()
	flow, target := cache(t, "")
	var want []string
	for i := range 40 {
		flow.Faults(functiontest.Busy(time.Millisecond), functiontest.Partly(), functiontest.Away(), functiontest.Timeout())
		if i%10 == 3 {
			flow.Faults(functiontest.Death())
		}
		if i%10 == 7 {
			flow.KillWorker()
		}
		flow.Insert("orders", order{ID: int64(i + 1), Total: 1}, order{ID: int64(100 + i), Total: 1})
		want = append(want, fmt.Sprintf(`{"id":%d,"status":null,"total":1}`, i+1), fmt.Sprintf(`{"id":%d,"status":null,"total":1}`, 100+i))
		if i%5 == 0 {
			flow.Wait()
		}
		flow.Commit()
	}
	flow.Wait()
	target.want(t, want...)
}

// A worker that dies before it can note what it wrote: the next one writes it again.
func TestPipelineDeath(t *testing.T) {
	t.Parallel()
	c := &counter{counts: map[string]int{}}
	flow := functiontest.Pipeline(t, func(context.Context, functions.Function) (functions.Handler, error) { return c, nil }, "")
	flow.Faults(functiontest.Death())
	flow.Insert("orders", order{ID: 1})
	flow.Wait()
	if got, _ := c.Rows(t.Context()); got[0] != `{"rows":2}` {
		t.Errorf("got %s, want the row counted twice", got)
	}
}

func TestPipelineReplay(t *testing.T) {
	t.Parallel()
	c := &counter{counts: map[string]int{}}
	flow := functiontest.Pipeline(t, func(context.Context, functions.Function) (functions.Handler, error) { return c, nil }, "")
	want := func(n int) {
		t.Helper()
		if got, _ := c.Rows(t.Context()); got[0] != fmt.Sprintf(`{"rows":%d}`, n) {
			t.Errorf("got %s, want %d rows counted", got, n)
		}
	}
	flow.Insert("orders", order{ID: 1}, order{ID: 2})
	flow.Replay()
	want(4)
	flow.Insert("orders", order{ID: 3})
	flow.Wait()
	want(5)
	flow.Replay()
	want(8)
}

func TestPipelineSpecification(t *testing.T) {
	t.Parallel()
	flow, target := cache(t, `
kind: function
name: paid-orders
from: crm.sales.orders
filter: after.status == 'paid'
set: {cents: after.total * 100.0}
handler: cache
`)
	flow.Table(functiontest.Columns("sales.orders", event.Column{Name: "number", Type: "text", Key: 1}, event.Column{Name: "status", Type: "text"}, event.Column{Name: "total", Type: "numeric"}))
	flow.Insert("sales.orders", `{"number":"a","status":"paid","total":2}`, `{"number":"b","status":"new","total":2}`)
	flow.Insert("sales.others", `{"id":1}`)
	flow.Wait()
	target.want(t, `{"number":"a","status":"paid","total":2,"cents":200}`)
	flow.Update("sales.orders", `{"number":"a","status":"back"}`)
	flow.Wait()
	target.want(t)
}

func TestPipelineDeadLetters(t *testing.T) {
	t.Parallel()
	flow, target := cache(t, "")
	flow.Insert("orders", order{ID: 1})
	flow.Wait()
	flow.Insert("items", `{"id":1,"amount":"many"}`, `{"id":2,"amount":"2"}`)
	flow.Wait()
	target.want(t, `{"id":1,"status":null}`, `{"id":2,"amount":"2"}`)
	letters := flow.DeadLetters()
	if len(letters) != 1 || letters[0].Table != "public.items" || !strings.Contains(letters[0].Event, `"amount":"many"`) || !strings.Contains(letters[0].Reason, "many") {
		t.Errorf("got %v, want the row of key 1", letters)
	}
}

// A panic is told from the events that are well, and is a dead letter with its stack.
func TestPipelinePanics(t *testing.T) {
	t.Parallel()
	target := newTable()
	flow := functiontest.Pipeline(t, maker(each(func(t *table, key string, e *event.Event) error {
		if v, _ := e.After.Column("status"); v.Text() == "boom" {
			panic("boom")
		}
		return newest(t, key, e)
	}), target), "")
	flow.Insert("orders", order{ID: 1}, order{ID: 2, Status: status("boom")}, order{ID: 3})
	flow.Wait()
	target.want(t, `{"id":1,"status":null}`, `{"id":3,"status":null}`)
	if l := flow.DeadLetters(); len(l) != 1 || !strings.Contains(l[0].Reason, "boom") || !strings.Contains(l[0].Reason, "pipeline_test.go") {
		t.Errorf("got %v, want the stack of the panic", l)
	}
}

func TestPipelineHalts(t *testing.T) {
	t.Parallel()
	flow, target := cache(t, "")
	flow.Faults(func(context.Context, functions.Handler, functions.Batch) error {
		return functions.Halt(errors.New("no such place"))
	})
	flow.Insert("orders", order{ID: 1})
	if got := flow.Halted(); !strings.Contains(got, "no such place") {
		t.Errorf("got %q", got)
	}
	flow.Replay() // somebody has acted
	target.want(t, `{"id":1,"status":null}`)
}

func TestPipelineTruncate(t *testing.T) {
	t.Parallel()
	target := newTable()
	flow := functiontest.Pipeline(t, maker(func(t *table) functions.Handler { return sweeps{sink{t, newest}} }, target), "")
	flow.Insert("orders", order{ID: 1}, order{ID: 2}, order{ID: 3})
	flow.Truncate("orders")
	flow.Insert("orders", order{ID: 2})
	flow.Wait()
	target.want(t, `{"id":2,"status":null}`)
}
