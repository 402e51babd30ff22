package agent_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/e2e/servers"
)

// TestFailover: the primary is killed under load and its standby promoted. A url with both hosts is all that the agent needs: the slot
// was synced, and the stream is that of the new primary's history, without a gap or a duplicate.
func TestFailover(t *testing.T) {
	for _, major := range []int{17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			primary := servers.Postgres(t, major, servers.Durable...)
			w := newWorldOn(t, primary, setup)
			standby := primary.Standby(t)
			w.url = fmt.Sprintf("postgres://postgres@%s,%s/postgres?sslmode=disable&target_session_attrs=primary", primary.Addr, standby.Addr)
			w.start()
			w.loaded()
			standby.Synced(t, primary, "runnel_shop")

			busy := w.connect(primary.PostgresURL())
			time.AfterFunc(time.Second, primary.Kill)
			reported := changeUntilCut(t.Context(), busy)
			standby.Promote(t)
			w.db = w.connect(standby.PostgresURL())
			if n := w.number(`SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'runnel_shop' AND synced`); n != 1 {
				t.Error("the slot of the new primary is not the one that was synced")
			}
			w.exec(`UPDATE orders SET note = 'after' WHERE id % 10 = 0; INSERT INTO audit VALUES (0, 'after')`)
			w.settled()
			w.stop()
			if diff := w.differences("orders", "items", "audit"); diff != "" {
				t.Error(diff)
			}
			t.Logf("%d commits were reported, the standby had %d", reported, w.number(`SELECT max(n) FROM orders`))
		})
	}
}

// changeUntilCut numbers its commits, and says how many the server reported.
func changeUntilCut(ctx context.Context, c *pgx.Conn) (reported int) {
	for {
		sql := fmt.Sprintf(`UPDATE orders SET n = %d WHERE id BETWEEN %[2]d AND %[2]d + 3; INSERT INTO audit VALUES (%[1]d, 'during')`, reported+1, 1+reported*7%4000)
		if _, err := c.Exec(ctx, sql); err != nil {
			return reported
		}
		reported++
	}
}
