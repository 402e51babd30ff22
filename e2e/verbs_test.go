package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/runnel-dev/runnel/runtime/stream"
)

var verbsFor = flag.Duration("verbs", 30*time.Second, "how long TestVerbsUnderLoad drives verbs and kills workers")

// exactlyOnce are functions whose target has a history that is judged.
const exactlyOnce = `kind: source
name: shop
postgres: {url: "${SHOP_URL}", heartbeat: 1s}
tables: [public.customers, public.orders, public.order_items, public.ticks]
---
kind: function
name: warehouse
from: [shop.public.customers, shop.public.orders, shop.public.order_items]
to: {postgres: {url: "${WAREHOUSE_URL}"}}
---
kind: function
name: ticks
from: shop.public.ticks
to: {postgres: {url: "${WAREHOUSE_URL}"}}
`

// underLoad has more functions, whose verbs may let a target in PostgreSQL go back for a while.
const underLoad = exactlyOnce + `---
kind: function
name: part
from: shop.public.orders
filter: after.id % DIVISOR == 0
set: {share: 100 / after.customer_id}
to: {postgres: {url: "${WAREHOUSE_URL}", table: "part.{table}"}}
---
kind: function
name: search
from: [shop.public.customers, shop.public.orders, shop.public.order_items]
to: {elasticsearch: {url: "${SEARCH_URL}", index: "NAME-{table}"}}
---
kind: function
name: analytics
from: [shop.public.customers, shop.public.orders, shop.public.order_items]
to: {clickhouse: {url: "${ANALYTICS_URL}", table: "NAME_{table}"}}
`

// history notes in the target, in the same transaction, each row that is written or deleted there: what became of it, in order.
var history = []string{
	`create schema part`,
	`create table applied (id bigserial primary key, at timestamptz not null default clock_timestamp(), tbl text not null, key text not null, change bigint)`,
	`create function note() returns trigger language plpgsql as $$ begin
		insert into public.applied (tbl, key, change) values (tg_table_name,
			case tg_table_name when 'order_items' then (to_jsonb(new)->>'order_id') || '/' || (to_jsonb(new)->>'line') else to_jsonb(new)->>'id' end,
			(to_jsonb(new)->>'change')::bigint);
		return null;
	end $$`,
}

// fleet is several processes of one Runnel around a JetStream of their own.
type fleet struct {
	*pipeline
	r       *rand.Rand
	workers []*pipeline
	all     []*pipeline
}

// newFleet makes a JetStream, and the pipeline without any process.
func newFleet(t *testing.T, yaml string) *fleet {
	t.Helper()
	f := &fleet{pipeline: newPipeline(t, yaml), r: rand.New(rand.NewPCG(1, 2))}
	f.program = plain // four workers under the race detector need more than two processors
	server, err := stream.Start(stream.Embedded{Dir: f.dir + "/nats", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	f.env = append(f.env, "RUNNEL_NATS_URL="+server.ClientURL(), "RUNNEL_NATS_SYNC_INTERVAL=100ms", "RUNNEL_HTTP=none")
	err = os.Mkdir(f.dir+"/data", 0o755)
	if err == nil { // where the harness finds it
		err = os.WriteFile(f.dir+"/data/nats.json", fmt.Appendf(nil, `{"url": %q}`, server.ClientURL()), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range f.all {
			if p.cmd != nil {
				p.kill()
			}
			if t.Failed() {
				log := p.log.String()
				t.Logf("a process:\n%s", log[max(0, len(log)-4000):])
			}
		}
	})
	return f
}

// process begins one.
func (f *fleet) process(args ...string) *pipeline {
	f.t.Helper()
	p := &pipeline{t: f.t, env: f.env, dir: f.dir, program: f.program}
	p.command(args...)
	f.all = append(f.all, p)
	return p
}

// begun waits until a worker says something: before, a signal would just end it.
func (p *pipeline) begun() {
	p.t.Helper()
	p.eventually("a worker begins", 60*time.Second, func() bool { return p.log.String() != "" })
}

// scale starts or stops workers until there are n.
func (f *fleet) scale(n int) {
	f.t.Helper()
	for len(f.workers) < n {
		f.workers = append(f.workers, f.process("worker"))
	}
	var stopping sync.WaitGroup
	for _, w := range f.workers[n:] {
		w.begun()
		stopping.Go(w.stop)
	}
	stopping.Wait()
	f.workers = f.workers[:n]
}

// verb runs a command that must succeed.
func (f *fleet) verb(args ...string) string {
	f.t.Helper()
	out, err := f.output(args...)
	if err != nil {
		f.t.Fatalf("runnel %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// noted lets each row that is written into tables of the target be noted.
func (f *fleet) noted(tables ...string) {
	f.t.Helper()
	for _, table := range tables {
		f.exec(f.target.PostgresURL(), "create trigger note after insert or update on "+table+" for each row execute function note()")
	}
}

// inOrder judges the target's history: no row's version came twice, and none after a newer one.
func (f *fleet) inOrder() {
	f.t.Helper()
	rows, err := f.connect(f.target.PostgresURL()).Query(f.t.Context(), `select tbl, key, before, change from
		(select tbl, key, change, lag(change) over (partition by tbl, key order by id) as before from applied) h where change <= before limit 5`)
	if err != nil {
		f.t.Fatal(err)
	}
	var table, key string
	var before, after int64
	if _, err := pgx.ForEachRow(rows, []any{&table, &key, &before, &after}, func() error {
		f.t.Errorf("%s %s: change %d was written after %d", table, key, after, before)
		return nil
	}); err != nil {
		f.t.Fatal(err)
	}
	var changes int
	if err := f.connect(f.target.PostgresURL()).QueryRow(f.t.Context(), `select count(*) from applied`).Scan(&changes); err != nil || changes == 0 {
		f.t.Errorf("%d rows were noted, %v", changes, err)
	}
	f.t.Logf("%d rows were written", changes)
}

// tick inserts a row at a time until the returned function is called, which says how many.
func (f *fleet) tick() (stop func() int) {
	ctx, cancel := context.WithCancel(f.t.Context())
	c := f.connect(f.source.PostgresURL())
	done := make(chan int, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				done <- n
				return
			case <-time.After(5 * time.Millisecond):
			}
			if _, err := c.Exec(context.WithoutCancel(ctx), `insert into ticks (id, change) values ($1, $1)`, n); err != nil {
				f.t.Error(err)
				cancel()
			}
		}
	}()
	return func() int {
		cancel()
		return <-done
	}
}

// once judges that each tick was written exactly once.
func (f *fleet) once(ticks int) {
	f.t.Helper()
	var written, rows, most int
	err := f.connect(f.target.PostgresURL()).QueryRow(f.t.Context(), `select count(*), count(distinct key), coalesce(max(n), 0) from
		(select key, count(*) over (partition by key) as n from applied where tbl = 'ticks') x`).Scan(&written, &rows, &most)
	if err != nil || written != ticks || rows != ticks || most > 1 {
		f.t.Errorf("%d ticks: %d were written, of %d rows, one of them %d times, %v", ticks, written, rows, most, err)
	}
}

// slowest is the longest time that a tick took, of those from one on.
func (f *fleet) slowest(from int) time.Duration {
	f.t.Helper()
	var seconds float64
	err := f.connect(f.target.PostgresURL()).QueryRow(f.t.Context(), `select coalesce(extract(epoch from max(a.at - t.at)), 0)::float8
		from applied a join ticks t on t.id = a.key::bigint where a.tbl = 'ticks' and t.id >= $1`, from).Scan(&seconds)
	if err != nil {
		f.t.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}

// ticked is how many ticks have come.
func (f *fleet) ticked() int {
	f.t.Helper()
	var n int
	if err := f.connect(f.target.PostgresURL()).QueryRow(f.t.Context(), `select count(*) from ticks`).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// filled begins source and functions, and waits until all that there is already has come.
func (f *fleet) filled(workers int) {
	f.t.Helper()
	f.exec(f.target.PostgresURL(), history...)
	f.fill(1000)
	f.exec(f.source.PostgresURL(), `create table ticks (id bigint primary key, change bigint, at timestamptz not null default clock_timestamp())`)
	f.exec(f.target.PostgresURL(), `create table ticks (id bigint primary key, change bigint, at timestamptz)`)
	f.noted("ticks")
	f.verb("deploy", f.yaml)
	f.process("capture", "shop")
	f.scale(workers)
	f.equal(90 * time.Second)
	f.noted("customers", "orders", "order_items")
}

// owners are how many workers have partitions of a function.
func (f *fleet) owners(function string) int {
	var lines []struct {
		Name    string
		Workers int
	}
	if err := json.Unmarshal([]byte(f.verb("list", "--json")), &lines); err != nil {
		f.t.Fatal(err)
	}
	for _, l := range lines {
		if l.Name == function {
			return l.Workers
		}
	}
	return 0
}

// Worker processes come and go under load: 1, 4, 2, and one of them is killed. Nothing is lost, written twice or out of order.
func TestScaleOut(t *testing.T) {
	t.Parallel()
	f := newFleet(t, exactlyOnce)
	f.filled(1)
	stop, ticks := f.traffic(7, 150), f.tick()
	shared := func(n int) {
		t.Helper()
		f.eventually(fmt.Sprintf("%d workers share the partitions", n), 60*time.Second, func() bool { return f.owners("warehouse") == n && f.owners("ticks") == n })
	}
	for _, n := range []int{4, 2, 4} {
		f.scale(n)
		shared(n)
	}
	if d := f.slowest(0); d > 10*time.Second { // it is about one, on a machine that is not busy
		t.Errorf("a tick took %v while workers came and went", d)
	} else {
		t.Logf("the slowest tick took %v while workers came and went", d)
	}
	killed := f.ticked()
	f.workers[1].kill()
	shared(3)
	stop()
	n := ticks()
	f.equal(60 * time.Second)
	f.eventually("all ticks have come", 60*time.Second, func() bool { return f.ticked() == n })
	t.Logf("the slowest tick took %v with a worker killed", f.slowest(killed))
	f.inOrder()
	f.once(n)
}

// Everything that can be done with a function is done under load, while workers are killed: each target ends as its source is, and where
// nothing was read again on purpose, every change was written once, in order.
func TestVerbsUnderLoad(t *testing.T) {
	t.Parallel()
	divisor := 2
	f := newFleet(t, underLoad)
	deploy := func() {
		f.specify(strings.ReplaceAll(underLoad, "DIVISOR", strconv.Itoa(divisor)))
		f.verb("deploy", f.yaml)
	}
	f.specify(strings.ReplaceAll(underLoad, "DIVISOR", strconv.Itoa(divisor)))
	f.filled(4)
	stop, ticks := f.traffic(11, 60), f.tick()
	again := []string{"part", "search", "analytics"} // functions that may read again
	all := append([]string{"warehouse", "ticks"}, again...)
	one := func(of []string) string { return of[f.r.IntN(len(of))] }
	did, refused, poisoned := map[string]int{}, map[string]string{}, 60_000_000
	try := func(what string, args ...string) { // it may be refused while another verb is not over
		if out, err := f.output(args...); err != nil {
			refused[what] = out
		} else {
			did[what]++
		}
	}
	copies := 0
	copying := func() []string {
		copies++
		return []string{"backfill", "search", "--into", fmt.Sprintf("copy%d-%d-{table}", time.Now().UnixNano(), copies)}
	}
	rest := func() { <-time.After(time.Duration(f.r.IntN(800)) * time.Millisecond) } // of traffic
	verbs := []func(){
		func() { f.verb("scale", one(all), "--max", strconv.Itoa(f.r.IntN(5))); did["scale"]++ },
		func() {
			name := one(append(all, "shop"))
			f.verb("pause", name)
			rest()
			f.verb("resume", name)
			did["pause"]++
		},
		func() { divisor = 2 + (divisor-1+f.r.IntN(3))%4; deploy(); did["deploy"]++ }, // another one than before
		func() { try("backfill", "backfill", one(again), "--detach") },
		func() { try("replay", "replay", one(again), "--from-start", "--detach") },
		func() { // the copy of the round before comes in its place, and another one is begun
			try("swap", "replay", "search", "--swap", "--detach")
			try("copy", append(copying(), "--detach")...)
		},
		func() { f.verb("rollback", "part"); did["rollback"]++ },
		func() { // an order on which the function's expression fails, until it is put right
			poisoned += 60 // of any divisor
			f.exec(f.source.PostgresURL(), fmt.Sprintf(`insert into orders (id, customer_id, status, amount) values (%d, 0, 'poison', 1)`, poisoned))
			rest()
			f.exec(f.source.PostgresURL(), fmt.Sprintf(`update orders set customer_id = 5 where id = %d`, poisoned))
			did["poison"]++
			try("dlq", "dlq", "redrive", "part", "--detach")
		},
		func() { // a worker stops, and another one comes
			i := f.r.IntN(len(f.workers))
			f.workers[i].begun()
			f.workers[i].stop()
			f.workers[i] = f.process("worker")
			did["stop"]++
		},
	}
	for i, end := 0, time.Now().Add(*verbsFor); time.Now().Before(end) || i < 2*len(verbs); i++ {
		verbs[i%len(verbs)]()
		rest()
		if f.r.IntN(2) == 0 { // in the midst of what was begun
			k := f.r.IntN(len(f.workers))
			f.workers[k].kill()
			f.workers[k] = f.process("worker")
			did["kill"]++
		}
	}
	stop()
	n := ticks()
	for _, name := range all {
		f.verb("scale", name, "--max", "0")
	}
	deploy() // rollbacks change it too
	t.Logf("done: %v; refused: %v", did, refused)
	for _, verb := range []string{"backfill", "replay", "dlq"} {
		if did[verb] == 0 {
			t.Errorf("%s was always refused: %s", verb, refused[verb])
		}
	}
	f.equal(120 * time.Second)
	f.filtered(120*time.Second, divisor)
	f.eventually("no copy goes on", 60*time.Second, func() bool {
		out, err := f.output("replay", "search", "--cancel")
		return err == nil && strings.Contains(out, "and no copy")
	})
	if out := f.verb(append(copying(), "--swap")...); !strings.Contains(out, "is an alias now") {
		t.Errorf("swapped: %s", out)
	}
	f.equal(60 * time.Second)
	if letters := f.verb("dlq", "list", "part"); letters != "no dead letters\n" {
		f.verb("dlq", "redrive", "part")
		if letters = f.verb("dlq", "list", "part"); letters != "no dead letters\n" {
			t.Errorf("after they were given to the function again: %s", letters)
		}
	}
	f.eventually("all ticks have come", 60*time.Second, func() bool { return f.ticked() == n })
	f.inOrder()
	f.once(n)
}

// filtered waits until the filtered table equals the source, filtered.
func (f *fleet) filtered(limit time.Duration, divisor int) {
	f.t.Helper()
	orders := f.tables()["orders"]
	for key := range orders.Rows {
		if id, err := strconv.Atoi(key); err != nil || id%divisor != 0 {
			delete(orders.Rows, key)
		}
	}
	for end := time.Now().Add(limit); ; <-time.After(300 * time.Millisecond) {
		rows, err := orders.Postgres(f.t.Context(), f.target.PostgresURL(), "part", "orders")
		if err != nil {
			f.t.Fatal(err)
		}
		diffs := orders.Diff("part", rows, 5)
		if len(diffs) == 0 {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("filtered by %d, after %v:\n%s", divisor, limit, strings.Join(diffs, "\n"))
		}
	}
}
