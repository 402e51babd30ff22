package elasticsearch_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/elasticsearch"
	"github.com/runnel-dev/runnel/runtime/event"
)

// What is shown is what is sent, to the byte; and showing it sends nothing.
func TestPreview(t *testing.T) {
	t.Parallel()
	var sent, asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.Path)
		switch {
		case r.URL.Path == "/_bulk":
			sent = append(sent, r.Method+" "+r.RequestURI+"\n"+string(body))
			items := strings.Count(string(body), `"_index"`)
			_ = json.NewEncoder(w).Encode(map[string]any{"errors": false, "items": make([]map[string]any, items)})
		case strings.HasSuffix(r.URL.Path, "/_mapping"):
			http.Error(w, "{}", http.StatusNotFound)
		case strings.Contains(r.URL.Path, "/_settings"):
			_, _ = io.WriteString(w, `{"shop-items":{"settings":{"index":{"uuid":"u"}}}}`)
		}
	}))
	t.Cleanup(server.Close)
	s, err := elasticsearch.New(elasticsearch.Config{Function: "search", URL: server.URL, Index: "shop-{table}"})
	must(t, err)
	t.Cleanup(s.Close)
	b := batch(put(1, 1, "a|b", `,"price":1.10,"doc":{"a":[1, 2]}`), del(2, 2, "ß"), put(3, 1, "a|b", `,"price":2`))
	text, err := s.Preview(t.Context(), b)
	must(t, err)
	if len(asked) > 0 {
		t.Errorf("the preview asked %v", asked)
	}
	must(t, s.Handle(t.Context(), b))
	if len(sent) != 1 || sent[0] != string(text) {
		t.Errorf("sent\n%s\nshown\n%s", sent, text)
	}

	keyless := put(4, 3, "x", "")
	keyless.After = event.RowOf([]byte(`{"order_id":3}`))
	text, err = s.Preview(t.Context(), batch(keyless, put(5, 4, "y", "")))
	var failed *functions.BatchError
	if !errors.As(err, &failed) || len(failed.Failed) != 1 || failed.Failed[0].Event != 0 || !strings.Contains(string(text), `"4|y"`) {
		t.Errorf("got %v and %s, want event 0 as a failure, and the other one", err, text)
	}
}
