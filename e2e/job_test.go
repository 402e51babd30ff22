package e2e_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/runnel-dev/runnel/e2e/check"
)

// watch looks at source and targets, beside whatever happens, until the returned function is called; that judges what was seen,
// and the stream against the source's own journal. Source and targets are at rest by then, and equal.
func (p *pipeline) watch() (judge func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	recorder := check.NewRecorder(nil)
	server := &check.Server{Dial: p.dial, Source: "shop"}
	warehouse, end := check.PostgresRows(p.target.PostgresURL(), "public")
	var g errgroup.Group
	for _, s := range []*check.Sampler{
		{Target: "warehouse", Rows: warehouse},
		{Target: "search", Rows: check.ElasticsearchRows(elasticsearch(), "", func(t string) string { return p.name + "-" + t })},
		{Target: "analytics", Rows: check.ClickHouseRows(clickhouse(), func(t string) string { return p.name + "_" + t })},
	} {
		s.Recorder, s.Every = recorder, time.Second
		s.Floors = func(ctx context.Context) ([]check.Floor, error) { return server.Floors(ctx, s.Target) }
		g.Go(func() error { return s.Run(ctx) })
	}
	g.Go(func() error {
		if p.flavor != "" {
			s := check.MySQLSampler{Recorder: recorder, Address: p.source.Addr, End: server.End, Every: time.Second}
			return s.Run(ctx)
		}
		s := check.SourceSampler{Recorder: recorder, URL: p.source.PostgresURL(), Slot: "runnel_shop", End: server.End, Every: time.Second}
		return s.Run(ctx)
	})
	stop := func() error {
		cancel()
		err := g.Wait()
		end()
		server.Close()
		return err
	}
	p.t.Cleanup(func() { _ = stop() })
	return func() {
		p.t.Helper()
		if err := stop(); err != nil {
			p.t.Error(err)
		}
		r := p.judged(recorder.All)
		if r.Looks == 0 || r.Floors == 0 {
			p.t.Error("nothing was seen of source and targets")
		}
	}
}

// exact holds the stream against the source's own journal.
func (p *pipeline) exact() {
	p.t.Helper()
	p.judged(nil)
}

func (p *pipeline) judged(seen check.Records) *check.Report {
	p.t.Helper()
	journal, reread := check.CommittedMySQL(p.t.Context(), p.source.Addr), []string(nil)
	if p.flavor == "" {
		journal, reread = check.Committed(p.t.Context(), p.source.PostgresURL()), []string{"notes"}
	}
	var r check.Report
	if err := r.Samples(seen); err != nil {
		p.t.Fatal(err)
	}
	err := r.Stream(check.Stream{
		Source: "shop", Messages: check.From(p.t.Context(), p.stream(), "shop"), Journal: journal,
		Tables: p.tables(), Reread: reread,
		Targets: map[string]string{"warehouse": "warehouse", "search": "search", "analytics": "analytics"},
	}, seen)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		p.t.Error(err)
	}
	p.t.Logf("%d changes, %d looks, %d checkpoints: %s", r.Events, r.Looks, r.Floors, &r)
	return &r
}

// dial connects to the JetStream that runnel embeds, as it is now.
func (p *pipeline) dial() (*nats.Conn, error) {
	b, err := os.ReadFile(p.dir + "/data/nats.json")
	if err != nil {
		return nil, err
	}
	var a struct{ URL, User, Password string }
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, err
	}
	return nats.Connect(a.URL, nats.UserInfo(a.User, a.Password), nats.NoReconnect())
}

// The main job: existing rows and traffic reach all three targets, and the stream holds each change once, in order.
func TestMainJob(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, threeTargets)
	p.fill(5000)
	judge := p.watch()
	p.start()
	p.slot()
	stop := p.traffic(1, 300)
	<-time.After(4 * time.Second)
	stop()
	p.equal(60 * time.Second)
	judge()

	c := p.connect(p.source.PostgresURL())
	if _, err := c.Exec(t.Context(), "truncate order_items; insert into order_items values (1, 1, 'after', 1, 1)"); err != nil {
		t.Fatal(err)
	}
	p.equal(30 * time.Second)

	if out, err := p.output("list"); err != nil || !strings.Contains(out, "warehouse") || !strings.Contains(out, "running") {
		t.Errorf("runnel list: %v\n%s", err, out)
	}
	p.stop()
}

// A single change on an idle pipeline is visible in PostgreSQL at once. The bound here only catches a timer in the way;
// scripts/bench measures.
func TestIdleLatency(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, oneTarget, "synchronous_commit=on") // else the WAL is written every 200 ms
	p.fill(50)
	p.start()
	p.equal(30 * time.Second)
	from, to := p.connect(p.source.PostgresURL()), p.connect(p.target.PostgresURL())
	var took []time.Duration
	for i := range 21 {
		<-time.After(50 * time.Millisecond)
		if _, err := from.Exec(t.Context(), "update orders set amount = $1 where id = 1", 1000+i); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for n := 0; n == 0; {
			if err := to.QueryRow(t.Context(), "select count(*) from orders where id = 1 and amount = $1", 1000+i).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if time.Since(began) > 10*time.Second {
				t.Fatal("the change never came")
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("visible after: median %v, slowest %v", took[len(took)/2], took[len(took)-1])
	if median := took[len(took)/2]; median > 100*time.Millisecond {
		t.Errorf("median %v: something waits", median)
	}
}

// kill -9 at 50 random moments under load: afterwards each target equals the source, and the stream holds every committed change
// exactly once, in order.
func TestKillNine(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, threeTargets)
	p.fill(5000)
	judge := p.watch()
	p.start()
	p.slot()
	stop := p.traffic(2, 150)
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		<-time.After(time.Duration(100+r.IntN(1400)) * time.Millisecond)
		p.kill()
		p.start()
	}
	n := stop()
	t.Logf("50 kills over %d transactions with %d changes", n.Transactions(), n.Changes())
	p.equal(120 * time.Second)
	judge()
	p.stop()
}
