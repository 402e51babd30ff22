package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// values is a key-value store that keeps the version of each value, of what was deleted too.
type values struct {
	mu       sync.Mutex
	rows     map[string]string
	versions map[string]int64
	writes   int
}

func newValues() *values { return &values{rows: map[string]string{}, versions: map[string]int64{}} }

// set says whether it took the value, or "" for a deletion: not where a newer one was there.
func (v *values) set(key, value string, version int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.writes++
	if version < v.versions[key] {
		return false
	}
	v.versions[key] = version
	if v.rows[key] = value; value == "" {
		delete(v.rows, key)
	}
	return true
}

func (v *values) all() map[string]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.rows)
}

// count is how often it was written to.
func (v *values) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.writes
}

func byKey(rows map[string]string) []string {
	return slices.SortedFunc(maps.Keys(rows), func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
}

// overHTTP serves a store as the guide's project wants it; GET / shows all values.
func overHTTP(t *testing.T, v *values) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			rows := v.all()
			for _, key := range byKey(rows) {
				fmt.Fprintln(w, rows[key])
			}
			return
		}
		body, err := io.ReadAll(r.Body)
		version, err2 := strconv.ParseInt(r.Header.Get("Version"), 10, 64)
		switch {
		case err != nil || err2 != nil:
			http.Error(w, "expected a version and a row", http.StatusBadRequest)
		case !v.set(strings.TrimPrefix(r.URL.Path, "/"), string(body), version):
			http.Error(w, "newer already", http.StatusConflict)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// overRESP serves a store in the protocol of Redis (https://redis.io/docs/latest/develop/reference/protocol-spec): HGETALL, DEL, and
// EVAL of the guide's script, which sets a value unless there is a newer one.
func overRESP(t *testing.T, v *values) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			open.Go(func() {
				defer c.Close()
				_ = serveRESP(c, v) // the other side is gone
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		open.Wait()
	})
	return l.Addr().String()
}

func serveRESP(c net.Conn, v *values) error {
	in, out := bufio.NewReader(c), bufio.NewWriter(c)
	for {
		args, err := readRESP(in)
		if err != nil {
			return err
		}
		switch {
		case args[0] == "EVAL" && len(args) == 8 && strings.Contains(args[1], "HSET"):
			version, _ := strconv.ParseInt(args[6], 10, 64)
			took := 0
			if v.set(args[5], args[7], version) {
				took = 1
			}
			fmt.Fprintf(out, ":%d\r\n", took)
		case args[0] == "HGETALL":
			rows := v.all()
			fmt.Fprintf(out, "*%d\r\n", 2*len(rows))
			for _, key := range byKey(rows) {
				fmt.Fprintf(out, "$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(rows[key]), rows[key])
			}
		case args[0] == "DEL":
			v.mu.Lock()
			clear(v.rows)
			clear(v.versions)
			v.mu.Unlock()
			out.WriteString(":1\r\n")
		default:
			fmt.Fprintf(out, "-ERR unknown command '%s'\r\n", args[0])
		}
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

// readRESP reads a command: an array of strings.
func readRESP(in *bufio.Reader) ([]string, error) {
	number := func(mark byte) (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line[0] != mark {
			return 0, fmt.Errorf("expected %c, found %q", mark, line)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	if err != nil || n < 1 {
		return nil, fmt.Errorf("a command of %d parts: %w", n, err)
	}
	args := make([]string, n)
	for i := range args {
		size, err := number('$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		args[i] = string(text[:size])
	}
	return args, nil
}
