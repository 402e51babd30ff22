package capture

import (
	"encoding/json"
	"testing"

	"github.com/runnel-dev/runnel/runtime/event"
)

// TestProgressFormat: what is kept in KV never changes.
func TestProgressFormat(t *testing.T) {
	t.Parallel()
	p := Progress{Table: event.Table{Schema: "public", Name: "orders"}, After: `["17"]`, Chunks: 3, Rows: 3000, Estimate: 5000,
		Sweep: true, Cutoff: 8589935616, Published: "16385.16401"}
	got, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"table":{"schema":"public","name":"orders"},"after":"[\"17\"]","chunks":3,"rows":3000,"estimate":5000,"sweep":true,"cutoff":8589935616,"done":false,"published":"16385.16401"}`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got, want := ProgressKey("shop", "63158400", event.Table{Schema: "public", Name: "order.items"}), "shop.63158400.public.order=2Eitems"; got != want {
		t.Errorf("key %s, want %s", got, want)
	}
}
