package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestChangeInPlace: while rows change all the time, functions are given another filter, more tables, a replay, and back; each time every
// target comes to equal what the specification then says, with rows that must not be there any more gone.
func TestChangeInPlace(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, oneTarget+`---
kind: function
name: some
from: [shop.public.orders]
filter: after.id % 2 == 0
to: {postgres: {url: "${WAREHOUSE_URL}", table: "part.{table}"}}
`)
	p.fill(500)
	p.exec(p.target.PostgresURL(), "create schema part")
	p.start()
	p.equal(60 * time.Second)
	traffic := p.busy()
	p.some("orders", "id % 2 = 0", nil)
	change := func(old, now string) {
		t.Helper()
		spec, err := os.ReadFile(p.yaml)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(spec), old) {
			t.Fatalf("%s lacks %q", spec, old)
		}
		p.specify(strings.Replace(string(spec), old, now, 1))
		if out := p.runnel("deploy", p.yaml); !strings.Contains(out, "a new generation takes the place of the old one") {
			t.Error(out)
		}
	}
	change("filter: after.id % 2 == 0", "filter: after.id % 2 == 1")
	p.some("orders", "id % 2 = 1", traffic)
	traffic = p.busy()
	change("filter: after.id % 2 == 1\n", "")
	change("from: [shop.public.orders]", "from: [shop.public.orders, shop.public.order_items]")
	p.some("order_items", "true", nil)
	if out := p.runnel("replay", "some", "--from-start"); !strings.Contains(out, "done in ") {
		t.Error(out)
	}
	p.some("orders", "true", traffic)
	p.some("order_items", "true", nil)
	if out := p.runnel("replay", "warehouse", "--from-seq", "1", "--dry-run"); !strings.Contains(out, "once more, from sequence 1 on") {
		t.Error(out)
	}
	p.equal(60 * time.Second)
	p.stop()
}

// busy changes rows until the function that it gives is called.
func (p *pipeline) busy() (stop func()) {
	p.t.Helper()
	c := p.connect(p.source.PostgresURL())
	end, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				done <- nil
				return
			default:
			}
			_, err := c.Exec(p.t.Context(), fmt.Sprintf(`
				update orders set amount = amount + 1 where id %% 40 = %[1]d;
				insert into orders (id, customer_id, status, amount) values ((select max(id) + 1 from orders), 1, 'traffic', 1);
				delete from orders where id = (select min(id) from orders);
				update order_items set quantity = quantity + 1 where order_id %% 40 = %[1]d;`, i%40))
			if err != nil {
				done <- err
				return
			}
			pause()
		}
	}()
	return func() {
		close(end)
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}
}

// some waits until the table of the function some holds exactly the rows of the source for which a condition is true, once stop has ended
// what changes them; without one, until it holds none for which it is not true, and some.
func (p *pipeline) some(table, where string, stop func()) {
	p.t.Helper()
	if stop != nil {
		stop()
	}
	from, to := p.connect(p.source.PostgresURL()), p.connect(p.target.PostgresURL())
	digest := func(c *pgx.Conn, table, where string) (n int, sum string) {
		err := c.QueryRow(p.t.Context(), fmt.Sprintf(`select count(*), coalesce(md5(string_agg(md5(row_to_json(t)::text), '' order by row_to_json(t)::text)), '') from %s t where %s`, table, where)).Scan(&n, &sum)
		if err != nil {
			return -1, err.Error()
		}
		return n, sum
	}
	var got, want string
	for end := time.Now().Add(60 * time.Second); ; pause() {
		n, sum := digest(to, "part."+table, "true")
		if others, _ := digest(to, "part."+table, "not ("+where+")"); stop == nil && n > 0 && others == 0 {
			return
		}
		m, source := digest(from, table, where)
		got, want = fmt.Sprint(n, sum), fmt.Sprint(m, source)
		if stop != nil && got == want {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("part.%s holds %s, and of %s where %s there are %s", table, got, table, where, want)
		}
	}
}
