package e2e_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
)

// exact holds the stream against the source's own journal.
func (p *pipeline) exact() {
	p.t.Helper()
	messages, err := check.Read(p.t.Context(), p.stream(), "shop")
	if err != nil {
		p.t.Fatal(err)
	}
	if err := check.Order(messages); err != nil {
		p.t.Error(err)
	}
	journal, err := check.ReadJournal(p.t.Context(), p.source.PostgresURL())
	if err != nil {
		p.t.Fatal(err)
	}
	if wrong := check.Journal(messages, journal, p.tables(), "notes"); len(wrong) > 0 {
		p.t.Errorf("stream and journal differ:\n%s", strings.Join(wrong, "\n"))
	}
	p.t.Logf("%d messages hold the %d journalled changes", len(messages), len(journal))
}

// The main job: existing rows and traffic reach all three targets, and the stream holds each change once, in order.
func TestMainJob(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, threeTargets)
	p.fill(5000)
	p.start()
	p.slot()
	stop := p.traffic(1, 300)
	<-time.After(4 * time.Second)
	stop()
	p.equal(60 * time.Second)
	p.exact()

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
	p.exact()
	p.stop()
}
