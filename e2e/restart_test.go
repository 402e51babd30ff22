package e2e_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var messages = flag.Int("messages", 0, "TestRestart: how many messages the stream holds")

// After a kill -9 the pipeline works again at once: nothing waits for a lease or a lock of the dead process, however much the stream
// holds. With many messages:
//
//	go test ./e2e -run TestRestart -messages 5000000 -timeout 30m -v
func TestRestart(t *testing.T) {
	t.Parallel()
	yaml := oneTarget
	if *messages > 0 { // of a table that is in no target: that would only take longer
		yaml = strings.NewReplacer("public.order_items]", "public.order_items, public.filler]", "from: shop.public.*", "from: shop.public.orders").Replace(yaml)
	}
	p := newPipeline(t, yaml, "max_wal_size=4GB")
	p.program = plain // the race detector's time is nobody's
	p.fill(1000)
	p.exec(p.source.PostgresURL(), `create table filler (id int primary key)`)
	p.start()
	from, to := p.connect(p.source.PostgresURL()), p.connect(p.target.PostgresURL())
	p.eventually("the rows are in the target", time.Minute, func() bool {
		var n int
		return to.QueryRow(t.Context(), `select count(*) from orders`).Scan(&n) == nil && n == 400
	})
	if *messages > 0 {
		const part = 1000 // the last transaction is read again until the source has released it
		p.exec(p.source.PostgresURL(), fmt.Sprintf(`do $$ begin for n in 0 .. %d loop
			insert into filler select generate_series(n * %d + 1, least((n + 1) * %[2]d, %d)); commit; end loop; end $$`, (*messages-1)/part, part, *messages))
		p.exec(p.source.PostgresURL(), `update orders set comment = 'behind all messages' where id = 2`)
		p.eventually("all messages are in the stream", 25*time.Minute, func() bool {
			var here bool
			return to.QueryRow(t.Context(), `select comment is not null from orders where id = 2`).Scan(&here) == nil && here
		})
		p.eventually("the source has released them", 5*time.Minute, func() bool {
			var kept int64
			_, err := from.Exec(t.Context(), `select pg_log_standby_snapshot()`) // restart_lsn moves from one to the next
			return err == nil && from.QueryRow(t.Context(), `select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint from pg_replication_slots`).Scan(&kept) == nil && kept < 1<<20
		})
		end, err := p.stream().End(t.Context())
		t.Logf("the stream holds %d messages (%v)", end.Messages, err)
	}
	took := make([]time.Duration, 20)
	for i := range took {
		p.kill()
		if _, err := from.Exec(t.Context(), `update orders set amount = $1 where id = 1`, i); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p.start()
		p.eventually("the first change after the restart", time.Minute, func() bool {
			var here bool
			return to.QueryRow(t.Context(), `select amount = $1 from orders where id = 1`, i).Scan(&here) == nil && here
		})
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	median := took[len(took)/2]
	t.Logf("%d messages: the first change after %v (median), %v (slowest of %d)", *messages, median.Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(took))
	if median > 3*time.Second {
		t.Errorf("median %v: something waits", median)
	}
	if *messages == 0 {
		p.equal(30 * time.Second)
	}
	p.stop()
}
