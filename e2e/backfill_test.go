package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBackfill: retention passes three functions while they are paused, and rows are deleted behind their backs. They halt, the command
// that they name heals each of them, deleted rows included, across a kill -9. A function that is deployed then gets all rows by itself.
func TestBackfill(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, strings.Replace(threeTargets, "tables: [", "stream: {max_bytes: 12MiB}\ntables: [", 1))
	p.fill(500)
	p.start()
	p.equal(60 * time.Second)
	functions := []string{"search", "analytics", "warehouse"}
	p.runnel(append([]string{"pause"}, functions...)...)
	source := p.source.PostgresURL()
	before := p.held().Last
	p.exec(source, "delete from order_items where order_id % 5 = 0", "delete from customers where id % 7 = 0 and not exists (select from orders where customer_id = customers.id)")
	for i := 0; p.held().First <= before+20; i++ {
		p.exec(source, fmt.Sprintf("update customers set notes = repeat(md5((id * 100 + %d)::text), 400)", i))
	}
	p.change(1)
	p.runnel(append([]string{"resume"}, functions...)...)
	for _, f := range functions {
		p.eventually(f+" halts", 30*time.Second, func() bool { return strings.Contains(p.runnel("describe", f), "`runnel backfill "+f+"`") })
	}
	if out := p.runnel("backfill", "search", "--dry-run"); !strings.Contains(out, "public.customers") || !strings.Contains(out, "dry run") {
		t.Error(out)
	}
	for _, f := range functions[:2] {
		p.runnel("backfill", f, "--detach")
	}
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
	p.start()
	p.listening()
	if out := p.runnel("backfill", "warehouse"); !strings.Contains(out, "done: ") {
		t.Error(out)
	}
	p.change(2)
	tables := p.equal(60 * time.Second)

	spec, err := os.ReadFile(p.yaml)
	if err != nil {
		t.Fatal(err)
	}
	p.specify(string(spec) + "---\nkind: function\nname: late\nfrom: shop.public.*\nto: {postgres: {url: \"${WAREHOUSE_URL}\", table: \"late.{table}\"}}\n")
	p.exec(p.target.PostgresURL(), "create schema late")
	p.runnel("deploy", p.yaml)
	late := func() (diffs []string) {
		for _, table := range tables {
			rows, err := table.Postgres(t.Context(), p.target.PostgresURL(), "late", table.Name)
			if err != nil {
				return []string{err.Error()}
			}
			diffs = append(diffs, table.Diff("late", rows, 5)...)
		}
		return diffs
	}
	for end := time.Now().Add(60 * time.Second); ; pause() {
		diffs := late()
		if len(diffs) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal(strings.Join(diffs, "\n"))
		}
	}
	p.stop()
}

// held is what the source's stream holds.
func (p *pipeline) held() (s struct{ First, Last uint64 }) {
	p.t.Helper()
	var shown struct{ Stream *struct{ First, Last uint64 } }
	if err := json.Unmarshal([]byte(p.runnel("describe", "shop", "--kind", "source", "--json")), &shown); err != nil || shown.Stream == nil {
		p.t.Fatal(err)
	}
	return *shown.Stream
}

// runnel runs a command that must succeed, and come to an end.
func (p *pipeline) runnel(args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.program, append(args, "--data", p.dir+"/data")...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("runnel %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// listening waits until other commands find the process.
func (p *pipeline) listening() {
	p.t.Helper()
	p.eventually("commands reach it", 30*time.Second, func() bool { _, err := p.output("list"); return err == nil })
}
