package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
)

// besides is a function that must go on whatever happens to the others.
const besides = `---
kind: function
name: besides
from: shop.public.*
to: {postgres: {url: "${WAREHOUSE_URL}", table: "besides.{table}"}}
`

// besides waits until the function of that name has copied everything.
func (p *pipeline) besides(limit time.Duration) {
	p.t.Helper()
	p.holds("besides", limit, func(t *equal.Table) (equal.Rows, error) {
		return t.Postgres(p.t.Context(), p.target.PostgresURL(), "besides", t.Name)
	})
}

// holds waits until a target has every row of the source.
func (p *pipeline) holds(target string, limit time.Duration, read func(*equal.Table) (equal.Rows, error)) {
	p.t.Helper()
	var last string
	tables := p.tables()
	for end := time.Now().Add(limit); ; pause() {
		var diffs []string
		for _, t := range tables {
			rows, err := read(t)
			if err != nil {
				diffs = append(diffs, err.Error())
				continue
			}
			diffs = append(diffs, t.Diff(target, rows, 3)...)
		}
		if last = strings.Join(diffs, "\n"); last == "" {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("after %v:\n%s", limit, last)
		}
	}
}

// change writes to every table, so that each has something that no target saw yet.
func (p *pipeline) change(step int) {
	p.t.Helper()
	p.exec(p.source.PostgresURL(),
		fmt.Sprintf(`update customers set name = 'step %d' where id %% 7 = %[1]d`, step),
		fmt.Sprintf(`insert into orders (id, customer_id, status, amount) select 500000 + %d * 1000 + i, i, 'step', i from generate_series(1, 300) i`, step),
		fmt.Sprintf(`delete from order_items where order_id %% 17 = %d`, step))
}

// A target table that cannot hold the source's rows halts its function with the statements that make it fit. They are all that
// an operator has to run; nothing is lost meanwhile, and the other function does not notice.
func TestUnfitTarget(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, oneTarget+besides)
	p.fill(500)
	p.exec(p.target.PostgresURL(), `create table orders (id bigint primary key, customer_id bigint, status text, amount date, placed_at timestamptz, owner text not null)`)
	p.start()
	p.logged("function halts", 30*time.Second)
	p.besides(30 * time.Second)
	p.change(1)
	p.besides(30 * time.Second)
	p.failedOnce("warehouse", `does not fit public.orders; run: ALTER TABLE`)

	_, entries := separate(p.failures()[0])
	_, fix, _ := strings.Cut(entries[0].Reason, "run: ")
	p.exec(p.target.PostgresURL(), fix)
	if out, err := p.output("resume", "warehouse"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.equal(30 * time.Second)
	p.stop()
}

// Elasticsearch may be down when runnel starts and may die later: its function waits and catches up, nobody else does.
func TestElasticsearchAway(t *testing.T) {
	t.Parallel()
	needServers(t)
	p := newPipeline(t, oneTarget+`---
kind: function
name: search
from: shop.public.*
to: {elasticsearch: {url: "${OWN_URL}", index: "{table}"}}
`)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // nobody is there
	p.env = append(p.env, "OWN_URL=http://"+address)
	indexed := func() {
		t.Helper()
		p.holds("elasticsearch", 90*time.Second, func(s *equal.Table) (equal.Rows, error) {
			return s.Elasticsearch(t.Context(), "http://"+address, "", s.Name)
		})
	}
	warehouse := func() {
		t.Helper()
		p.holds("postgres", 30*time.Second, func(s *equal.Table) (equal.Rows, error) {
			return s.Postgres(t.Context(), p.target.PostgresURL(), "public", s.Name)
		})
	}
	stalled := func() {
		t.Helper()
		p.eventually("search is stalled", 30*time.Second, func() bool {
			out, err := p.output("list")
			return err == nil && strings.Contains(out, "stalled")
		})
	}
	p.fill(1000)
	p.start()
	warehouse()
	stalled()
	_, port, _ := net.SplitHostPort(address)
	search := servers.Elasticsearch(t, "", "http.port="+port)
	indexed()

	stop := p.traffic(3, 100)
	<-time.After(time.Second)
	search.Kill()
	<-time.After(time.Second)
	stop()
	warehouse()
	stalled()
	search.Restart(t)
	indexed()
	if f := p.failures(); len(f) > 0 {
		t.Errorf("a target that is away is no error:\n%s", strings.Join(f, ""))
	}
	p.stop()
}

// readOnly stands between runnel and ClickHouse, and answers writes as a server does that takes none.
type readOnly struct {
	code  atomic.Int32 // 0: everything passes
	proxy *httputil.ReverseProxy
}

func (r *readOnly) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	code := r.code.Load()
	if code == 0 || q.Method == http.MethodGet {
		r.proxy.ServeHTTP(w, q)
		return
	}
	text := map[int32]string{
		242: "Table is in readonly mode (replica path: /clickhouse/tables/1). (TABLE_IS_READ_ONLY)",
		164: "default: Cannot execute query in readonly mode. (READONLY)",
	}[code]
	w.Header().Set("X-ClickHouse-Exception-Code", fmt.Sprint(code))
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = fmt.Fprintf(w, "Code: %d. DB::Exception: %s", code, text)
}

// ClickHouse without writes: a table that is read-only for a while (a replica without its Keeper) is waited for; a user who may
// only read halts the function, and is the operator's matter.
func TestClickHouseReadOnly(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, oneTarget+`---
kind: function
name: analytics
from: shop.public.*
to: {clickhouse: {url: "${OWN_URL}", table: "NAME_{table}"}}
`)
	server, err := url.Parse(clickhouse())
	if err != nil {
		t.Fatal(err)
	}
	front := &readOnly{proxy: httputil.NewSingleHostReverseProxy(server)}
	own := httptest.NewServer(front)
	t.Cleanup(own.Close)
	p.env = append(p.env, "OWN_URL="+own.URL+"/default")
	warehouse := func() {
		t.Helper()
		p.holds("postgres", 30*time.Second, func(s *equal.Table) (equal.Rows, error) {
			return s.Postgres(t.Context(), p.target.PostgresURL(), "public", s.Name)
		})
	}
	p.fill(1000)
	p.start()
	p.equal(60 * time.Second)

	front.code.Store(242)
	p.change(1)
	p.logged("look at the server's disk and Keeper", 30*time.Second)
	warehouse()
	if f := p.failures(); len(f) > 0 {
		t.Errorf("a table that is read-only for a while is no error:\n%s", strings.Join(f, ""))
	}
	front.code.Store(0)
	p.equal(60 * time.Second)

	front.code.Store(164)
	p.change(2)
	p.logged("function halts", 30*time.Second)
	warehouse()
	p.failedOnce("analytics", "code 164", "SET readonly = 0", "or use another user")
	front.code.Store(0)
	p.change(3)
	if out, err := p.output("resume", "analytics"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.equal(60 * time.Second)
	p.stop()
}
