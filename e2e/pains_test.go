package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const wide = `kind: source
name: shop
postgres: {url: "${SHOP_URL}"}
tables: [public.wide]
snapshot: {chunk_rows: 8192}
---
kind: function
name: warehouse
from: shop.public.wide
to: {postgres: {url: "${WAREHOUSE_URL}"}}
`

// TestWideRowsAreBoundedInBytes: rows of 2 MB, from a load whose chunks may have 8,192 rows, which would be 16 GB, and from one
// transaction of 337 MB, by a server that drops who is silent for 5 s. Both are far more than runnel may hold.
func TestWideRowsAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, wide, "wal_sender_timeout=5s")
	p.program = plain
	const loaded, all, size = 80, 80 + 169, 2 << 20
	insert := func(from, to int) string {
		return fmt.Sprintf(`insert into wide select i, repeat(md5(i::text), %d) from generate_series(%d, %d) i`, size/32, from, to)
	}
	p.exec(p.source.PostgresURL(), `create table wide (id int primary key, v text); alter table wide alter v set storage external`, insert(1, loaded))
	from, to := p.connect(p.source.PostgresURL()), p.connect(p.target.PostgresURL())
	arrive := func(n int) {
		t.Helper()
		p.eventually(fmt.Sprintf("%d rows in the target", n), 8*time.Minute, func() bool {
			var got int
			return to.QueryRow(t.Context(), `select count(*) from wide`).Scan(&got) == nil && got == n
		})
		t.Logf("%d rows, peak %d MB", n, p.peak()>>20)
	}
	p.start()
	arrive(loaded)
	var before, after string
	session := `select pid::text || backend_start::text from pg_stat_replication`
	if err := from.QueryRow(t.Context(), session).Scan(&before); err != nil {
		t.Fatal(err)
	}
	p.exec(p.source.PostgresURL(), insert(loaded+1, all))
	arrive(all)
	if err := from.QueryRow(t.Context(), session).Scan(&after); err != nil || after != before {
		t.Errorf("the server ended the replication session: %v", err)
	}
	if got := p.peak(); got > most {
		t.Errorf("peak %d MB, want at most %d MB", got>>20, most>>20)
	}
	const sum = `select md5(string_agg(md5(v), '' order by id)) from wide`
	var want, got string
	if err := from.QueryRow(t.Context(), sum).Scan(&want); err != nil {
		t.Fatal(err)
	}
	if err := to.QueryRow(t.Context(), sum).Scan(&got); err != nil || got != want {
		t.Errorf("the target holds other rows: %v", err)
	}
	p.stop()
}

// TestJetStreamRolledBack: the store is put back to an older copy, after functions have read what it lost. The source still has
// that part of its log, since the stream is not old enough to be relied on, so nothing is missing and nothing goes backwards.
func TestJetStreamRolledBack(t *testing.T) {
	t.Parallel()
	p := newPipeline(t, oneTarget+besides)
	p.fill(1000)
	p.start()
	p.equal(30 * time.Second)
	p.change(1)
	p.equal(30 * time.Second)
	p.kill()
	data, copied := filepath.Join(p.dir, "data"), filepath.Join(p.dir, "copy")
	if out, err := exec.Command("cp", "-a", data, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.start()
	p.change(2)
	p.exec(p.source.PostgresURL(), `update orders set comment = 'lost and sent again' where id < 100`)
	p.equal(30 * time.Second)
	p.besides(30 * time.Second)
	p.kill()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, data); err != nil {
		t.Fatal(err)
	}
	p.exec(p.source.PostgresURL(), `update orders set comment = 'newer' where id < 50`)
	p.start()
	p.change(3)
	p.equal(30 * time.Second)
	p.besides(30 * time.Second)
	p.exact()
	p.stop()
}
