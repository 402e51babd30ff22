package pgjson_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// golden guards what every value looks like in the stream, for readers who know only the stream.
func golden(t *testing.T, tables []table, rows map[string]string) {
	t.Helper()
	var b strings.Builder
	for _, tb := range tables {
		if tb.volatile {
			continue
		}
		fmt.Fprintf(&b, "# %s\n", tb.typ)
		for id := range 1100 {
			row, ok := rows[fmt.Sprintf("%s/%d", tb.name, id)]
			if ok && len(row) < 3000 {
				b.WriteString(row + "\n")
			}
		}
	}
	const file = "testdata/values.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s (-want +got), renew with -update:\n%s", file, diff)
	}
}
