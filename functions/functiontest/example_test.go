package functiontest_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/functiontest"
)

// A test of a handler: everything that the runtime may do to it is done, and the target holds in the end what the table holds.
func ExampleRun() {
	test := func(t *testing.T) {
		target := newTable() // a cache, a server of the test's own; its Rows are read in the end
		newCache := func(context.Context, functions.Function) (functions.Handler, error) { return typed(target), nil }
		functiontest.Run(t, newCache, target)
	}
	_ = test
}

// A test of a function: changes of the source, and what they come to in the target, also where the target is busy and a worker dies.
func ExamplePipeline() {
	test := func(t *testing.T) {
		target := newTable()
		newCache := func(context.Context, functions.Function) (functions.Handler, error) { return typed(target), nil }
		flow := functiontest.Pipeline(t, newCache, `
kind: function
name: cheap-items
from: shop.public.items
filter: after.amount < 10.0
handler: cache
`)
		one := json.Number("1")
		flow.Faults(functiontest.Busy(0), functiontest.Timeout(), functiontest.Death())
		flow.Insert("items", thing{ID: 1, Amount: &one}, `{"id":2,"name":"dear","amount":12.50}`)
		flow.Wait()
		rows, err := target.Rows(t.Context())
		if err != nil || len(rows) != 1 {
			t.Errorf("got %v, %v, want the item that is cheap", rows, err)
		}
	}
	_ = test
}
