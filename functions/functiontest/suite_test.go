package functiontest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/functiontest"
)

var update = flag.Bool("update", false, "write the golden files")

func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func TestRight(t *testing.T) {
	for name, handler := range right {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := newTable()
			functiontest.Run(t, maker(handler, target), target)
		})
	}
}

func TestWrong(t *testing.T) {
	for name, handler := range wrong {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := newTable()
			golden(t, name, functiontest.Suite{Handler: maker(handler, target), Target: target, Patience: 50 * time.Millisecond})
		})
	}
	t.Run("counts", func(t *testing.T) {
		t.Parallel()
		c := &counter{}
		golden(t, "counts", functiontest.Suite{Handler: func(context.Context, functions.Function) (functions.Handler, error) { return c, nil }, Target: c,
			Expect: func(rows []string) []string { return []string{fmt.Sprintf(`{"rows":%d}`, len(rows))} }})
	})
}

func maker(handler func(*table) functions.Handler, target *table) functions.Maker {
	return func(context.Context, functions.Function) (functions.Handler, error) { return handler(target), nil }
}

// golden compares the report of a suite that fails.
func golden(t *testing.T, name string, s functiontest.Suite) {
	t.Helper()
	err := s.Check(t.Context())
	var f *functiontest.Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a failure", err)
	}
	if (f.Stack != "") != (name == "panics") {
		t.Errorf("got the stack %q", f.Stack)
	}
	f.Stack = ""
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(f.Error()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if f.Error() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", f, want)
	}
}
