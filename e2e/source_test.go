package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A slot that was dropped while nobody ran is a gap: capture halts and says the way out, functions go on with what the stream
// holds. Once it is passed the targets equal the source again, without the rows that were deleted meanwhile.
func TestSlotDropped(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, oneTarget)
	p.fill(1000)
	p.start()
	p.equal(30 * time.Second)
	p.stop()
	p.exec(p.source.PostgresURL(), `select pg_drop_replication_slot('runnel_shop')`)
	p.change(1)
	p.gap()

	// A second process may be the one that passes it.
	p.start()
	p.eventually("the gap is met again", 30*time.Second, func() bool { return len(p.failures()) == 2 })
	other := &pipeline{t: t, program: p.program, env: p.env, dir: p.dir}
	other.command("capture", "shop", "--resnapshot", "--data", p.dir+"/data")
	t.Cleanup(func() {
		if other.cmd != nil {
			other.kill()
		}
	})
	p.equal(60 * time.Second)
	p.eventually("the source is listed as running", 10*time.Second, func() bool {
		out, err := p.output("list")
		return err == nil && !strings.Contains(out, "halted")
	})
	other.stop()
	p.change(2)
	p.equal(30 * time.Second)
	p.stop()
}

// A source that was restored to an older state is a gap too, also if it has gone on since with other changes.
func TestSourceRestored(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, oneTarget)
	p.fill(1000)
	p.start()
	p.equal(30 * time.Second)
	p.change(1)
	p.equal(30 * time.Second)
	p.stop()

	data, copied := filepath.Join(p.source.Dir, "data"), filepath.Join(p.source.Dir, "copy")
	p.source.Stop(syscall.SIGINT)
	if out, err := exec.Command("cp", "-a", data, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.source.Restart(t)
	p.start()
	p.change(2)
	p.equal(30 * time.Second)
	p.stop()

	p.source.Stop(syscall.SIGINT)
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, data); err != nil {
		t.Fatal(err)
	}
	p.source.Restart(t)
	p.gap()
	p.resnapshot()
}

// gap: runnel does not go on past it.
func (p *pipeline) gap() {
	p.t.Helper()
	p.start()
	p.logged("capture halted", 30*time.Second)
	p.eventually("the source is listed as halted", 10*time.Second, func() bool {
		out, err := p.output("list")
		return err == nil && strings.Contains(out, "halted") && strings.Contains(out, "warehouse  running")
	})
	p.failedOnce("gap: ", "run once with --resnapshot")
	p.stop()
}

// resnapshot goes on past the gap and loads everything again, once.
func (p *pipeline) resnapshot() {
	p.t.Helper()
	before := strings.Count(p.log.String(), "load finished")
	loads := func() int { return strings.Count(p.log.String(), "load finished") - before }
	p.flags = []string{"--resnapshot"}
	p.start()
	p.equal(60 * time.Second)
	p.eventually("the load is finished", 30*time.Second, func() bool { return loads() == 1 })
	for _, verb := range []string{"pause", "resume"} {
		if out, err := p.output(verb, "shop"); err != nil {
			p.t.Fatalf("%v: %s", err, out)
		}
	}
	p.change(5)
	p.equal(30 * time.Second)
	p.stop()
	p.flags = nil
	p.start()
	p.change(6)
	p.equal(30 * time.Second)
	p.stop()
	if n := loads(); n != 1 {
		p.t.Errorf("everything was loaded %d times, want once", n)
	}
}

// A row far above the largest message arrives, from the load as from the log.
func TestLargeRow(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, oneTarget)
	p.fill(50)
	from, to := p.connect(p.source.PostgresURL()), p.connect(p.target.PostgresURL())
	digest := func(c *pgx.Conn, id int) (size int, sum string) { // comparing the rows themselves takes too long
		if err := c.QueryRow(t.Context(), `select length(notes), md5(row_to_json(c)::text) from customers c where id = $1`, id).Scan(&size, &sum); err != nil {
			return 0, ""
		}
		return size, sum
	}
	arrives := func(id, large int) {
		t.Helper()
		size, sum := digest(from, id)
		if size < large {
			t.Fatalf("row %d has %d bytes", id, size)
		}
		p.eventually("the large row arrives", 90*time.Second, func() bool {
			_, got := digest(to, id)
			return got == sum
		})
	}
	p.exec(p.source.PostgresURL(), `update customers set notes = repeat(md5('before'), 400000) where id = 1`)
	p.start()
	arrives(1, 12_000_000)
	p.exec(p.source.PostgresURL(), `update customers set notes = repeat(md5('after'), 940000) where id = 2`, `update customers set vip = not vip where id = 1`)
	arrives(2, 30_000_000)
	arrives(1, 12_000_000)
	if f := p.failures(); len(f) > 0 {
		t.Errorf("a large row is no error:\n%s", strings.Join(f, ""))
	}
	p.stop()
}
