package http_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/functiontest"
	httpsink "github.com/runnel-dev/runnel/functions/http"
	"github.com/runnel-dev/runnel/runtime/event"
	"github.com/runnel-dev/runnel/runtime/sink"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var orders = event.NewSchema("shop", "postgresql", "shop", event.Table{Schema: "public", Name: "orders"}, []event.Column{
	{Name: "id", Type: "bigint", Key: 1}, {Name: "note", Type: "text"},
})

// batch has an insert of each note, and a delete at the end.
func batch(notes ...string) functions.Batch {
	span := functions.Span{Partition: 3}
	for n, note := range notes {
		span.Events = append(span.Events, event.Event{
			Op: event.Create, Source: "shop", Table: orders.Table, Schema: orders, After: event.RowOf(fmt.Appendf(nil, `{"id":%d,"note":%q}`, n+1, note)),
			Version: 514<<33 + event.Version(n+1)<<10 + 1, CommitMS: 1763719200123,
		})
	}
	span.Events = append(span.Events, event.Event{
		Op: event.Delete, Source: "shop", Table: orders.Table, Schema: orders, Before: event.RowOf([]byte(`{"id":1}`)), Version: 514<<33 + 100<<10, CommitMS: 1763719201000,
	})
	return functions.Batch{Function: "orders-hook", Generation: 1, Partitions: 8, Spans: []functions.Span{span}}
}

// endpoint answers as answer says, and keeps what it was asked.
type endpoint struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func newEndpoint(t *testing.T, answer http.HandlerFunc) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(e.keep(answer))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) keep(answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.requests, e.bodies = append(e.requests, r), append(e.bodies, string(body))
		e.mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		answer(w, r)
	}
}

func ok(http.ResponseWriter, *http.Request) {}

func open(t *testing.T, c httpsink.Config) *httpsink.Sink {
	t.Helper()
	c.Function, c.Now = "orders-hook", func() time.Time { return time.Unix(1763719205, 0) }
	s, err := httpsink.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// What is posted, byte for byte.
func TestBodies(t *testing.T) {
	t.Parallel()
	for _, format := range []string{httpsink.JSON, httpsink.CloudEvents} {
		e := newEndpoint(t, ok)
		s := open(t, httpsink.Config{URL: e.URL + "/hook?key=1", Format: format})
		if err := s.Handle(t.Context(), batch("a", `b"ß`)); err != nil {
			t.Fatal(err)
		}
		r := e.requests[0]
		got := fmt.Sprintf("%s %s\nContent-Type: %s\n\n%s", r.Method, r.URL, r.Header.Get("Content-Type"), e.bodies[0])
		file := "testdata/" + format + ".txt"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if d := cmp.Diff(string(want), got); d != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, d)
		}
		page, err := os.ReadFile("../../docs/targets.md")
		if shown := "    " + strings.ReplaceAll(strings.TrimSuffix(e.bodies[0], "\n"), "\n", "\n    "); err != nil || !strings.Contains(string(page), shown) {
			t.Errorf("docs/targets.md does not show (%v)\n%s", err, shown)
		}
		if !json.Valid([]byte(e.bodies[0])) {
			t.Error("it is no JSON")
		}
		preview, err := s.Preview(t.Context(), batch("a", `b"ß`))
		if err != nil || !strings.HasPrefix(string(preview), "POST "+e.URL+"\n") || !strings.HasSuffix(string(preview), e.bodies[0]) {
			t.Errorf("%v, the preview is\n%s", err, preview)
		}
	}
}

// A request is signed as Standard Webhooks are: the same body has the same ID again, and a receiver with the key can tell that nobody
// else sent it.
func TestSignature(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef01234567")
	for _, secret := range []string{string(key), "whsec_" + base64.StdEncoding.EncodeToString(key)} {
		e := newEndpoint(t, ok)
		s := open(t, httpsink.Config{URL: e.URL, Secret: secret})
		for _, b := range []functions.Batch{batch("a"), batch("a"), batch("b")} {
			if err := s.Handle(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		var ids []string
		for n, r := range e.requests {
			id, at := r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp")
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(id + "." + at + "." + e.bodies[n]))
			if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); r.Header.Get("Webhook-Signature") != want || at != "1763719205" {
				t.Errorf("got signature %s at %s, want %s", r.Header.Get("Webhook-Signature"), at, want)
			}
			ids = append(ids, id)
		}
		if ids[0] != ids[1] || ids[1] == ids[2] || ids[0] == "" {
			t.Errorf("got IDs %v", ids)
		}
	}
	e := newEndpoint(t, ok)
	if err := open(t, httpsink.Config{URL: e.URL}).Handle(t.Context(), batch()); err != nil || e.requests[0].Header.Get("Webhook-Signature") != "" {
		t.Errorf("%v, signed without a secret", err)
	}
}

// class is how an error counts.
func class(err error) string {
	var after interface{ RetryAfter() time.Duration }
	switch {
	case err == nil:
		return "done"
	case sink.IsHalt(err):
		return "halt"
	case sink.IsPermanent(err):
		return "permanent"
	case errors.As(err, &after):
		return "after " + after.RetryAfter().String()
	}
	return "again"
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		header string
		want   string
	}{
		{200, "", "done"}, {202, "", "done"}, {204, "", "done"},
		{301, "https://elsewhere", "halt"}, {307, "https://elsewhere", "halt"},
		{400, "", "permanent"}, {422, "", "permanent"}, {413, "", "permanent"},
		{401, "", "halt"}, {403, "", "halt"}, {404, "", "halt"}, {405, "", "halt"}, {410, "", "halt"}, {415, "", "halt"},
		{408, "", "again"}, {409, "", "again"}, {425, "", "again"}, {429, "", "again"}, {500, "", "again"}, {502, "", "again"}, {503, "", "again"},
		{429, "7", "after 7s"}, {503, "Fri, 21 Nov 2025 10:00:35 GMT", "after 30s"}, {503, "Fri, 21 Nov 2025 09:00:00 GMT", "after 0s"},
		{503, "999999999", "after 1h0m0s"}, {503, "soon", "again"}, {503, "-1", "again"},
	} {
		e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", c.header)
			w.Header().Set("Location", c.header)
			w.WriteHeader(c.status)
			if c.status >= 300 {
				_, _ = io.WriteString(w, "because\nof this")
			}
		})
		err := open(t, httpsink.Config{URL: e.URL + "/services/s3cr3t"}).Handle(t.Context(), batch())
		if got := class(err); got != c.want {
			t.Errorf("%d %s: got %s, want %s: %v", c.status, c.header, got, c.want, err)
		}
		if text := fmt.Sprint(err); err != nil && (!strings.Contains(text, fmt.Sprint(c.status)) || !strings.Contains(text, "because of this") || strings.Contains(text, "s3cr3t")) {
			t.Errorf("%d: got %s", c.status, text)
		}
	}
}

// An answer may name the events that are not done; the others are.
func TestResults(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		``: "done", `not json`: "done", `{"accepted":3}`: "done", `[1]`: "done", `{"failed":[]}`: "done", `{"failed":[{"event":0,"status":204}]}`: "done",
		`{"failed":[{"event":1,"status":422,"error":"no such customer"}]}`:             "0/1 permanent http: %s answers 422 Unprocessable Entity to one event: no such customer",
		` {"failed":[{"event":0},{"event":2,"status":429}]}`:                           "0/0 again http: %[1]s answers 500 Internal Server Error to one event, 0/2 after 5s http: %[1]s answers 429 Too Many Requests to one event",
		`{"failed":[{"event":3,"status":422}]}`:                                        "halt",
		`{"failed":[{"event":-1}]}`:                                                    "halt",
		`{"failed":[{"event":1,"status":403}]}`:                                        "0/1 halt http: %s answers 403 Forbidden to one event; check token, user, password, secret and headers of the target",
		`{"failed":[{"event":0,"error":"` + strings.Repeat("x", 5<<20) + `"}], "a":1}`: "halt",
	} {
		e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.Header().Set("Retry-After", "5")
			_, _ = io.WriteString(w, answer)
		})
		err := open(t, httpsink.Config{URL: e.URL}).Handle(t.Context(), batch("a", "b"))
		got := class(err)
		var partial *functions.BatchError
		if errors.As(err, &partial) {
			var all []string
			for _, f := range partial.Failed {
				all = append(all, fmt.Sprintf("%d/%d %s %v", f.Span, f.Event, class(f.Err), f.Err))
			}
			got = strings.Join(all, ", ")
		}
		if strings.Contains(want, "%") {
			want = fmt.Sprintf(want, e.URL)
		}
		if got != want {
			t.Errorf("%.80s: got %s, want %s", answer, got, want)
		}
	}
}

// What is too large for the endpoint comes in halves; one event that is, is given up.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); len(body) > 400 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	s := open(t, httpsink.Config{URL: e.URL})
	if err := s.Handle(t.Context(), batch("a", "b", "c", "d", "e")); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, body := range e.bodies {
		if len(body) <= 400 {
			seen += strings.Count(body, `{"op"`)
		}
	}
	if seen != 6 {
		t.Errorf("%d events were taken", seen)
	}
	if err := s.Handle(t.Context(), batch(strings.Repeat("x", 500))); class(err) != "permanent" {
		t.Errorf("got %v", err)
	}
}

// How a request is authorized, and which certificates are believed.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	e := &endpoint{}
	server := httptest.NewUnstartedServer(e.keep(ok))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]httpsink.Config{
		"Bearer t0ken":         {Token: "t0ken"},
		"Basic bWU6c2VjcmV0":   {User: "me", Password: "secret"},
		"ApiKey from a header": {Headers: map[string]string{"Authorization": "ApiKey from a header", "X-Zone": "eu"}},
		"":                     {},
	} {
		c.URL, c.CAFile = server.URL, ca
		s := open(t, c)
		if err := errors.Join(s.Check(t.Context(), nil), s.Handle(t.Context(), batch())); err != nil {
			t.Fatal(err)
		}
		for _, r := range e.requests[len(e.requests)-2:] {
			if got := r.Header.Get("Authorization"); got != want || r.Header.Get("X-Zone") != c.Headers["X-Zone"] {
				t.Errorf("%s: got %q, want %q", r.Method, got, want)
			}
		}
	}
	s := open(t, httpsink.Config{URL: server.URL})
	for what, err := range map[string]error{"Check": s.Check(t.Context(), nil), "Handle": s.Handle(t.Context(), batch())} {
		if class(err) != "halt" || !strings.Contains(err.Error(), "ca_file") {
			t.Errorf("%s believes any certificate: %v", what, err)
		}
	}
}

// Any answer says that the endpoint is there; none says that it is tried again.
func TestCheck(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) })
	s := open(t, httpsink.Config{URL: e.URL + "/s3cr3t"})
	if err := s.Check(t.Context(), nil); err != nil {
		t.Error(err)
	}
	e.Close()
	if err := s.Check(t.Context(), nil); class(err) != "again" || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("got %v", err)
	}
	for _, c := range []httpsink.Config{{URL: "ftp://a"}, {URL: "http://"}, {URL: "http://a", Format: "xml"}, {URL: "http://a", Secret: "whsec_?"}, {URL: "http://a", CAFile: "none"}, {URL: "http://a", CertFile: "none", KeyFile: "none"}} {
		if _, err := httpsink.New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// store is an endpoint that keeps the newest version of each row, also of those that are gone.
type store struct {
	mu       sync.Mutex
	rows     map[string]json.RawMessage
	versions map[string]string
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		return
	}
	var body struct {
		Events []struct {
			Table, ID, Version string
			After              json.RawMessage
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range body.Events {
		key := e.Table + "/" + e.ID
		if e.Version < s.versions[key] {
			continue
		}
		s.versions[key], s.rows[key] = e.Version, e.After
	}
}

func (s *store) Rows(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []string
	for _, row := range s.rows {
		if string(row) != "null" {
			rows = append(rows, string(row))
		}
	}
	return slices.Sorted(slices.Values(rows)), nil
}

// An endpoint that compares versions ends as the source's table, whatever comes twice, late or in other batches.
func TestConformance(t *testing.T) {
	s := &store{rows: map[string]json.RawMessage{}, versions: map[string]string{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	functiontest.Suite{
		Handler: func(_ context.Context, f functions.Function) (functions.Handler, error) {
			return httpsink.New(httpsink.Config{Function: f.Name, URL: server.URL})
		},
		Target: s,
	}.Run(t)
}

// An endpoint that refuses a whole request for one event in it gets all others, and again what it could not take for a while.
func TestPipeline(t *testing.T) {
	t.Parallel()
	s := &store{rows: map[string]json.RawMessage{}, versions: map[string]string{}}
	var busy atomic.Int64
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method != http.MethodPost:
		case busy.Add(1) == 1:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		case strings.Contains(string(body), `"poison"`):
			http.Error(w, "no such customer", http.StatusUnprocessableEntity)
		default:
			r.Body = io.NopCloser(bytes.NewReader(body))
			s.ServeHTTP(w, r)
		}
	})
	flow := functiontest.Pipeline(t, func(_ context.Context, f functions.Function) (functions.Handler, error) {
		return httpsink.New(httpsink.Config{Function: f.Name, URL: e.URL})
	}, "")
	for n := range 40 {
		note := "fine"
		if n == 23 {
			note = "poison"
		}
		flow.Insert("orders", map[string]any{"id": n, "note": note})
	}
	flow.Wait()
	rows, err := s.Rows(t.Context())
	if err != nil || len(rows) != 39 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	dead := flow.DeadLetters()
	if len(dead) != 1 || !strings.Contains(dead[0].Event, "poison") || !strings.Contains(dead[0].Reason, "422 Unprocessable Entity") || !strings.Contains(dead[0].Reason, "no such customer") {
		t.Errorf("got %+v", dead)
	}
}
