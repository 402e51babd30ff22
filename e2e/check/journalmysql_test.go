package check_test

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
)

// The journal of MySQL and MariaDB is exact: what existed, with its entries in their order, gives every row and value of the tables, and each
// transaction's changes stand together.
func TestJournalOfMySQL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		start func(servers.TB, ...string) *servers.Server
	}{{"MySQL", servers.MySQL8}, {"MariaDB", servers.MariaDB}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := tt.start(t, "--default-time-zone=+05:30")
			if err := shop.CreateMySQL(t.Context(), s.Addr, 5000); err != nil {
				t.Fatal(err)
			}
			rows := sourceTables(t, s.Addr)
			ctx, cancel := context.WithCancel(t.Context())
			traffic := shop.Traffic{URL: s.Addr, Seed: 1}
			ended := make(chan error, 1)
			go func() { ended <- traffic.RunMySQL(ctx) }()
			for traffic.Transactions() < 500 && ctx.Err() == nil {
				select {
				case err := <-ended:
					t.Fatal(err)
				case <-time.After(20 * time.Millisecond):
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			want := sourceTables(t, s.Addr)
			n := play(t, check.CommittedMySQL(t.Context(), s.Addr), rows, want)
			t.Logf("%d entries of %d transactions", n, traffic.Transactions())
			for _, table := range want {
				for _, diff := range table.Diff("journal", rows[table.Name].Rows, 5) {
					t.Error(diff)
				}
			}
		})
	}
}

func sourceTables(t *testing.T, address string) map[string]*equal.Table {
	t.Helper()
	all := map[string]*equal.Table{}
	for _, s := range shop.Tables {
		table, err := equal.MySQL(t.Context(), address, "shop", s.Name, s.Key)
		if err != nil {
			t.Fatal(err)
		}
		all[s.Name] = table
	}
	return all
}

// play does to rows what the journal says, in the order of its entries' numbers.
func play(t *testing.T, journal check.Entries, rows, like map[string]*equal.Table) (entries int) {
	t.Helper()
	var all []check.Entry
	for e, err := range journal {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b check.Entry) int { return cmp.Compare(a.ID, b.ID) })
	for _, e := range all {
		table, into := like[e.Table], rows[e.Table].Rows
		if e.Old != nil {
			old, err := table.Canonical(e.Old)
			if err != nil {
				t.Fatal(err)
			}
			delete(into, table.KeyOf(old))
		}
		if e.New != nil {
			row, err := table.Canonical(e.New)
			if err != nil {
				t.Fatal(err)
			}
			into[table.KeyOf(row)] = row
		}
	}
	return len(all)
}
