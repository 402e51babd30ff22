package elasticsearch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/servers"
	"github.com/runnel-dev/runnel/e2e/shop"
	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/elasticsearch"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "secret-word"

var schema = event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "items"}, []event.Column{
	{Name: "order_id", Type: "bigint", Key: 1}, {Name: "line", Type: "text", Key: 2}, {Name: "price", Type: "numeric(10,2)", Nullable: true},
	{Name: "at", Type: "timestamp with time zone", Nullable: true}, {Name: "doc", Type: "jsonb", Nullable: true}})

var w = event.Writer{Epoch: 3, Base: 512}

func version(n uint64) event.Version { return w.Version(512+n, 1) }

func put(n uint64, order int, line, rest string) event.Event {
	raw := fmt.Sprintf(`{"order_id":%d,"line":%s%s}`, order, event.AppendJSONString(nil, line), rest)
	return event.Event{Op: event.Update, Table: schema.Table, Schema: schema, After: event.RowOf([]byte(raw)), Version: version(n)}
}

func del(n uint64, order int, line string) event.Event {
	raw := fmt.Sprintf(`{"order_id":%d,"line":%q}`, order, line)
	return event.Event{Op: event.Delete, Table: schema.Table, Schema: schema, Before: event.RowOf([]byte(raw)), Version: version(n)}
}

func batch(events ...event.Event) functions.Batch {
	return functions.Batch{Function: "search", Generation: 1, Partitions: 8, Spans: []functions.Span{{Events: events}}}
}

type target struct {
	t   *testing.T
	url string
}

func start(t *testing.T) target {
	s := servers.Elasticsearch(t, password)
	return target{t, "http://" + s.Addr}
}

func (g target) sink(index string) *elasticsearch.Sink {
	g.t.Helper()
	s, err := elasticsearch.New(elasticsearch.Config{Function: "search", URL: g.url, User: "elastic", Password: password, Index: index})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(s.Close)
	return s
}

func (g target) do(method, path, body string) (int, string) {
	g.t.Helper()
	req, _ := http.NewRequestWithContext(context.Background(), method, g.url+path, strings.NewReader(body))
	req.SetBasicAuth("elastic", password)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

func (g target) source(index, id string) string {
	g.t.Helper()
	status, body := g.do("GET", "/"+index+"/_doc/"+id, "")
	if status == 404 {
		return ""
	}
	var d struct {
		Source json.RawMessage `json:"_source"`
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		g.t.Fatal(body)
	}
	return string(d.Source)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSink(t *testing.T) {
	g := start(t)
	ctx := t.Context()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)

	t.Run("Conformance", func(t *testing.T) { testConformance(t, g) })

	t.Run("NeverBackwards", func(t *testing.T) {
		s := g.sink("never-{table}")
		must(t, s.Handle(ctx, batch(put(1, 1, "a", `,"price":1.10`), put(2, 1, "a", `,"price":2.20`), put(3, 2, "b|%", ``))))
		must(t, s.Handle(ctx, batch(put(1, 1, "a", `,"price":1.10`))))
		if got, want := g.source("never-items", "1%7Ca"), `{"order_id":1,"line":"a","price":2.20}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := g.source("never-items", "2%7Cb%257C%2525"); got == "" {
			t.Error("the escaped id is not there")
		}
		must(t, s.Handle(ctx, batch(del(5, 1, "a"))))
		must(t, s.Handle(ctx, batch(put(4, 1, "a", `,"price":4`), del(9, 77, "none"))))
		if got := g.source("never-items", "1%7Ca"); got != "" {
			t.Errorf("an older write raised the dead: %s", got)
		}
	})

	// The value of a large column that did not change, and is not known, never goes missing.
	t.Run("Unavailable", func(t *testing.T) {
		s := g.sink("unavailable-{table}")
		e := put(2, 1, "a", ``)
		e.Unavailable = []string{"doc"}
		must(t, s.Handle(ctx, batch(put(1, 1, "a", `,"doc":"large"`), e)))
		if got := g.source("unavailable-items", "1%7Ca"); !strings.Contains(got, `"doc":"large"`) {
			t.Errorf("got %s, want the value that is known", got)
		}
	})

	t.Run("MalformedStaysInSource", func(t *testing.T) {
		s := g.sink("malformed-{table}")
		must(t, s.Handle(ctx, batch(put(1, 1, "a", `,"price":"NaN","at":"infinity","doc":[1,{"a":2},"x"]`), put(2, 1, "b", `,"price":1234567890123456789012345678901234567890.5,"at":"0044-03-15T00:00:00+00:00 BC","doc":7`))))
		if got := g.source("malformed-items", "1%7Ca"); !strings.Contains(got, `"at":"infinity"`) {
			t.Errorf("got %s", got)
		}
	})

	t.Run("EveryTypeIsExact", func(t *testing.T) {
		pg := servers.Postgres(t, 17)
		c, err := pgx.Connect(ctx, pg.PostgresURL())
		must(t, err)
		defer c.Close(context.WithoutCancel(ctx))
		_, err = c.Exec(ctx, shop.Types)
		must(t, err)
		_, err = c.Exec(ctx, `set timezone to 'UTC'; update types set j = null where id = 6`) // Elasticsearch refuses repeated names
		must(t, err)
		table, err := equal.Source(ctx, pg.PostgresURL(), "types", []string{"id"})
		must(t, err)
		var columns []event.Column
		for _, name := range table.Columns {
			columns = append(columns, event.Column{Name: name, Type: table.Types[name], Base: shop.TypesBase[table.Types[name]], Nullable: true})
		}
		columns[0].Key = 1
		x := event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "types"}, columns)
		rows, err := c.Query(ctx, "select row_to_json(_row)::text from types _row order by id")
		must(t, err)
		docs, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		var events []event.Event
		for i, d := range docs {
			events = append(events, event.Event{Op: event.Read, Table: x.Table, Schema: x, After: event.RowOf([]byte(d)), Version: version(uint64(i + 1))})
		}
		must(t, g.sink("exact-{table}").Handle(ctx, batch(events...)))
		got, err := table.Elasticsearch(ctx, g.url, "elastic:"+password, "exact-types")
		must(t, err)
		if diffs := table.Diff("elasticsearch", got, 50); len(diffs) > 0 {
			t.Errorf("differences:\n%s", strings.Join(diffs, "\n"))
		}
	})

	t.Run("OneBadDocument", func(t *testing.T) {
		s := g.sink("bad-{table}")
		must(t, s.Handle(ctx, batch(put(1, 1, "x", ``))))
		err := s.Handle(ctx, batch(put(2, 1, "a", ``), put(3, 1, "b", `,"doc":{"k":1,"k":2}`), put(4, 1, "c", ``)))
		var be *functions.BatchError
		if !errors.As(err, &be) || len(be.Failed) != 1 || be.Failed[0].Event != 1 || !sink.IsPermanent(be.Failed[0].Err) {
			t.Fatalf("got %v, want event 1 as a permanent failure", err)
		}
		if g.source("bad-items", "1%7Ca") == "" || g.source("bad-items", "1%7Cc") == "" {
			t.Error("a bad document took its neighbours along")
		}
	})

	t.Run("Sweep", func(t *testing.T) {
		s := g.sink("sweep-{table}")
		var events []event.Event
		for i := range 200 {
			events = append(events, put(uint64(i+1), i, "l", ""))
		}
		must(t, s.Handle(ctx, batch(events...)))
		for range 2 { // a sweep may come again
			for p := range 4 {
				must(t, s.Sweep(ctx, functions.Sweep{Function: "search", Schema: schema, Partition: p, Partitions: 4, Older: version(101)}))
			}
		}
		must(t, s.Handle(ctx, batch(events[:50]...)))
		g.do("POST", "/sweep-items/_refresh", "")
		if _, body := g.do("GET", "/sweep-items/_count", ""); !strings.Contains(body, `"count":100,`) {
			t.Errorf("got %s, want the 100 newer documents", body)
		}
	})

	t.Run("NewColumn", func(t *testing.T) {
		s := g.sink("grow-{table}")
		must(t, s.Handle(ctx, batch(put(1, 1, "a", ``))))
		wider := event.NewSchema("shop", "postgresql", "shop", schema.Table, append(append([]event.Column{}, schema.Columns...), event.Column{Name: "note", Type: "text", Nullable: true}))
		e := put(2, 1, "a", `,"note":"hello"`)
		e.Schema = wider
		must(t, s.Handle(ctx, batch(e)))
		if _, body := g.do("GET", "/grow-items/_mapping", ""); !strings.Contains(body, `"note":{"type":"text"`) {
			t.Errorf("got %s, want the new column", body)
		}
		other := append([]event.Column{}, schema.Columns...)
		other[2].Type = "text"
		e.Schema = event.NewSchema("shop", "postgresql", "shop", schema.Table, other)
		if err := s.Handle(ctx, batch(e)); !sink.IsHalt(err) || !strings.Contains(err.Error(), "price") {
			t.Errorf("got %v, want a halt that names the column", err)
		}
	})

	t.Run("ReadOnly", func(t *testing.T) { // documents and structure wait until the index takes writes again
		s := g.sink("locked-{table}")
		must(t, s.Handle(ctx, batch(put(1, 1, "a", ``))))
		block := func(value string) {
			t.Helper()
			if status, body := g.do("PUT", "/locked-items/_settings", `{"index.blocks.read_only": `+value+`}`); status != 200 {
				t.Fatal(body)
			}
		}
		block("true")
		wider := put(2, 1, "a", `,"note":"hello"`)
		wider.Schema = event.NewSchema("shop", "postgresql", "shop", schema.Table, append(append([]event.Column{}, schema.Columns...), event.Column{Name: "note", Type: "text", Nullable: true}))
		for _, e := range []event.Event{put(2, 1, "a", ``), wider} {
			err := s.Handle(ctx, batch(e))
			var be *functions.BatchError
			if errors.As(err, &be) {
				err = be.Failed[0].Err
			}
			if err == nil || sink.IsHalt(err) || sink.IsPermanent(err) || !strings.Contains(err.Error(), "read-only") {
				t.Errorf("got %v, want an error that is retried", err)
			}
		}
		block("null")
		must(t, s.Handle(ctx, batch(wider)))
	})

	t.Run("Dropped", func(t *testing.T) {
		s := g.sink("dropped-{table}")
		must(t, s.Handle(ctx, batch(put(1, 1, "a", ``))))
		g.do("DELETE", "/dropped-items", "")
		var err error
		for n, end := uint64(2), time.Now().Add(90*time.Second); err == nil && time.Now().Before(end); n++ { // it is looked at now and then
			err = s.Handle(ctx, batch(put(n, 2, "b", ``)))
		}
		for _, want := range []string{"index dropped-items was deleted or replaced", "DELETE /dropped-items", "runnel delete search", "runnel deploy"} {
			if !sink.IsHalt(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want a halt with %s", err, want)
			}
		}
		g.do("PUT", "/_cluster/settings", `{"persistent":{"action.auto_create_index":"-closed-*"}}`)
		s = g.sink("closed-{table}")
		must(t, s.Handle(ctx, batch(put(1, 1, "a", ``))))
		g.do("DELETE", "/closed-items", "")
		if err := s.Handle(ctx, batch(put(2, 1, "a", ``))); !sink.IsHalt(err) || !strings.Contains(err.Error(), "closed-items was deleted") {
			t.Errorf("got %v, want a halt at once", err)
		}
		g.do("PUT", "/_cluster/settings", `{"persistent":{"action.auto_create_index":null}}`)
	})

	t.Run("Drop", func(t *testing.T) {
		g.do("PUT", "/behind", `{"aliases":{"away-items":{}}}`)
		for _, index := range []string{"drop-{table}", "away-{table}"} {
			s := g.sink(index)
			must(t, s.Handle(ctx, batch(put(1, 1, "a", ``))))
			name := map[string]string{"drop-{table}": "drop-items", "away-{table}": "behind"}[index]
			for i, want := range []string{name, name, ""} { // a look, then the deed, which may be repeated
				dropped, kept, err := s.Drop(ctx, []*event.Schema{schema}, i == 0)
				if err != nil || strings.Join(dropped, " ") != want || len(kept) > 0 {
					t.Errorf("%s: dropped %v, kept %v, %v; want %q", index, dropped, kept, err, want)
				}
			}
		}
	})

	// An alias may move to another index that somebody filled from the first one.
	t.Run("Alias", func(t *testing.T) {
		g.do("PUT", "/first", `{"aliases":{"alias-items":{}}}`)
		s := g.sink("alias-{table}")
		must(t, s.Handle(ctx, batch(put(1, 1, "a", ``))))
		if g.source("first", "1%7Ca") == "" {
			t.Error("the document is not in the alias' index")
		}
	})

	// What cannot even be sent keeps nothing else from being written.
	t.Run("NoKey", func(t *testing.T) {
		s := g.sink("nokey-{table}")
		bad := put(2, 1, "b", ``)
		bad.After = event.RowOf([]byte(`{"order_id":1,"price":1}`))
		err := s.Handle(ctx, batch(put(1, 1, "a", ``), bad, put(3, 1, "c", ``)))
		var be *functions.BatchError
		if !errors.As(err, &be) || len(be.Failed) != 1 || be.Failed[0].Event != 1 || !sink.IsPermanent(be.Failed[0].Err) {
			t.Fatalf("got %v, want the second event to fail", err)
		}
		if g.source("nokey-items", "1%7Ca") == "" || g.source("nokey-items", "1%7Cc") == "" {
			t.Error("the others are not there")
		}
	})

	t.Run("Settings", func(t *testing.T) {
		must(t, g.sink("settings").Check(ctx, []*event.Schema{schema}))
		if _, body := g.do("GET", "/settings/_settings", ""); !strings.Contains(body, `"gc_deletes":"1h"`) {
			t.Errorf("got %s, want gc_deletes of one hour", body)
		}
	})

	t.Run("WrongPassword", func(t *testing.T) {
		s, err := elasticsearch.New(elasticsearch.Config{URL: g.url, User: "elastic", Password: "another-secret"})
		must(t, err)
		t.Cleanup(s.Close)
		err = s.Check(ctx, nil)
		if !sink.IsHalt(err) || strings.Contains(err.Error(), "another-secret") {
			t.Errorf("got %v, want a halt without the password", err)
		}
	})

	t.Run("IllegalName", func(t *testing.T) {
		if err := g.sink("Big_{table}").Handle(ctx, batch(put(1, 1, "a", ""))); !sink.IsHalt(err) || !strings.Contains(err.Error(), "index") {
			t.Errorf("got %v, want a halt that explains the name", err)
		}
	})

	t.Run("Racing", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 8 {
			s := g.sink("racing-{table}")
			all.Go(func() {
				if err := s.Handle(ctx, batch(put(uint64(i+1), i, "a", ""))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

// Elasticsearch keeps the version of a document that was deleted in memory. Killed, it reads them again from its log. Stopped in
// order it forgets them: then what comes again comes in order, with the delete at its end.
func TestTombstonesAfterANodeRestart(t *testing.T) {
	t.Parallel()
	node := servers.Elasticsearch(t, "")
	g := target{t, "http://" + node.Addr}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	s := g.sink("{table}")
	b := batch(put(1, 1, "a", ``), put(2, 1, "a", ``), del(3, 1, "a"))
	must(t, s.Handle(t.Context(), b))
	node.Kill()
	node.Restart(t)
	eventually(t, func() error { return s.Handle(t.Context(), batch(put(2, 1, "a", ``))) })
	if got := g.source("items", "1%7Ca"); got != "" {
		t.Errorf("an older write raised the dead after a kill: %s", got)
	}
	node.Stop(syscall.SIGTERM)
	node.Restart(t)
	eventually(t, func() error { return s.Handle(t.Context(), b) })
	if got := g.source("items", "1%7Ca"); got != "" {
		t.Errorf("a batch that came again raised the dead: %s", got)
	}
}

// eventually tries while the server comes up.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); ; <-time.After(50 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if sink.IsHalt(err) || sink.IsPermanent(err) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestUnreachableIsRetried(t *testing.T) {
	t.Parallel()
	s, err := elasticsearch.New(elasticsearch.Config{URL: "http://127.0.0.1:1"})
	must(t, err)
	if err := s.Handle(t.Context(), batch(put(1, 1, "a", ""))); err == nil || sink.IsHalt(err) || sink.IsPermanent(err) {
		t.Errorf("got %v, want an error that is retried", err)
	}
}

// Answers that a real server cannot be made to give on demand.
func TestBusyServer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var sizes []int
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Elastic-Product", "Elasticsearch")
		rw.Header().Set("Content-Type", "application/json")
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/items/_mapping":
			_, _ = io.WriteString(rw, `{"items":{"mappings":{"properties":{"order_id":{},"line":{},"price":{},"at":{},"doc":{}}}}}`)
		case strings.HasPrefix(r.URL.Path, "/items/_settings"):
			_, _ = io.WriteString(rw, `{"items":{"settings":{"index":{"uuid":"u"}}}}`)
		case strings.Contains(string(body), "later"):
			rw.Header().Set("Retry-After", "7")
			rw.WriteHeader(429)
		case len(body) > 250:
			rw.WriteHeader(413)
		default:
			mu.Lock()
			sizes = append(sizes, strings.Count(string(body), "\n")/2)
			mu.Unlock()
			_, _ = io.WriteString(rw, `{"errors":true,"items":[`+strings.TrimSuffix(strings.Repeat(`{"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"full"}}},`, strings.Count(string(body), "\n")/2), ",")+`]}`)
		}
	}))
	t.Cleanup(srv.Close)
	s, err := elasticsearch.New(elasticsearch.Config{URL: srv.URL})
	must(t, err)
	t.Cleanup(s.Close)
	err = s.Handle(t.Context(), batch(put(1, 1, "a", ""), put(2, 1, "b", ""), put(3, 1, "c", "")))
	var be *functions.BatchError
	if !errors.As(err, &be) || len(be.Failed) != 3 || sink.IsPermanent(be.Failed[0].Err) {
		t.Errorf("got %v, want three failures that are retried", err)
	}
	if len(sizes) < 2 {
		t.Errorf("requests had %v items, want the batch cut after 413", sizes)
	}
	err = s.Handle(t.Context(), batch(put(1, 1, "later", "")))
	var after interface{ RetryAfter() time.Duration }
	if !errors.As(err, &after) || after.RetryAfter() != 7*time.Second {
		t.Errorf("got %v, want a pause of 7 s", err)
	}
}
