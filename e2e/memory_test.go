package e2e_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// most is what `runnel run` may take of memory at any time, whatever comes.
const most = 200 << 20

// peak is the most memory that the running process has held so far.
func (p *pipeline) peak() int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Skipf("no /proc to read memory from: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return n << 10
		}
	}
	p.t.Fatal("no VmHWM")
	return 0
}

// Memory stays flat: a million existing rows, and two millions that one transaction writes, go through without being held, also
// while the target takes nothing for a while.
func TestMemory(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, `kind: source
name: shop
postgres: {url: "${SHOP_URL}"}
tables: [public.narrow]
---
kind: function
name: warehouse
from: shop.public.narrow
to: {postgres: {url: "${WAREHOUSE_URL}"}}
`, "max_wal_size=4GB")
	p.program = plain
	p.exec(p.source.PostgresURL(), `create table narrow (id bigint primary key, n int, note text)`,
		`insert into narrow select i, i % 100, 'row ' || i from generate_series(1, 1000000) i`, `analyze narrow`)
	began := time.Now()
	p.start()
	to := p.connect(p.target.PostgresURL())
	rows := func(want int) {
		t.Helper()
		p.eventually(fmt.Sprintf("%d rows in the target", want), 3*time.Minute, func() bool {
			<-time.After(300 * time.Millisecond) // the count is a long one
			var n int
			return to.QueryRow(t.Context(), `select count(*) from narrow`).Scan(&n) == nil && n == want
		})
		t.Logf("%d rows after %v, peak %d MB", want, time.Since(began).Round(time.Second), p.peak()>>20)
	}
	rows(1_000_000)
	p.exec(p.source.PostgresURL(), `insert into narrow select i, i % 100, 'row ' || i from generate_series(1000001, 3000000) i`)
	for range 2 {
		lock, err := to.Begin(t.Context())
		if err == nil {
			_, err = lock.Exec(t.Context(), `lock table narrow in exclusive mode`)
		}
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(4 * time.Second) // the stall itself
		if err := lock.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	rows(3_000_000)
	if got := p.peak(); got > most {
		t.Errorf("peak %d MB, want at most %d MB", got>>20, most>>20)
	}
	p.stop()
}
