package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A worker of 20 functions that all have a backlog holds no more of it than it may: what a function has not written stays in the stream.
func TestWorkerMemory(t *testing.T) {
	t.Parallel()
	const functions, rows = 20, 500_000
	var yaml strings.Builder
	yaml.WriteString(`kind: source
name: shop
postgres: {url: "${SHOP_URL}"}
tables: [public.narrow]
`)
	for i := range functions {
		fmt.Fprintf(&yaml, `---
kind: function
name: f%d
from: shop.public.narrow
to: {postgres: {url: "${WAREHOUSE_URL}", table: "copy%d.{table}"}}
`, i, i)
	}
	f := newFleet(t, yaml.String())
	f.exec(f.source.PostgresURL(), `create table narrow (id bigint primary key, n int, note text)`)
	f.specify(yaml.String())
	f.verb("deploy", f.yaml)
	agent := f.process("capture", "shop")
	f.eventually("the load is done", 60*time.Second, func() bool { return strings.Contains(f.verb("describe", "shop"), "public.narrow: done") })
	f.exec(f.source.PostgresURL(), fmt.Sprintf(`insert into narrow select i, i %% 100, 'row ' || i || repeat('x', 200) from generate_series(1, %d) i`, rows))
	f.eventually("a backlog is in the stream", 120*time.Second, func() bool {
		var shown struct{ Stream struct{ Bytes int64 } }
		if err := json.Unmarshal([]byte(f.verb("describe", "shop", "--json")), &shown); err != nil {
			t.Fatal(err)
		}
		return shown.Stream.Bytes > rows*200
	})
	agent.stop()
	worker := f.process("worker")
	to := f.connect(f.target.PostgresURL())
	f.eventually("every function has written much, and has much to write", 150*time.Second, func() bool {
		<-time.After(300 * time.Millisecond) // the counts are long ones
		for i := range functions {
			var n int
			if err := to.QueryRow(t.Context(), fmt.Sprintf(`select count(*) from copy%d.narrow`, i)).Scan(&n); err != nil || n < rows/20 {
				return false
			}
		}
		return true
	})
	got := worker.peak()
	t.Logf("peak of a worker with %d functions: %d MB", functions, got>>20)
	if got > most {
		t.Errorf("peak %d MB, want at most %d MB", got>>20, most>>20)
	}
	worker.kill()
}
