package elasticsearch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/elasticsearch"
	"github.com/runnel-dev/runnel/functions/functiontest"
	"github.com/runnel-dev/runnel/runtime/event"
)

// testConformance: histories of which an index must come out as the table is.
func testConformance(t *testing.T, g target) {
	functiontest.Suite{
		Handler: func(_ context.Context, f functions.Function) (functions.Handler, error) {
			return elasticsearch.New(elasticsearch.Config{Function: f.Name, URL: g.url, User: "elastic", Password: password, Index: "conformance-{table}"})
		},
		Target: functiontest.TargetFunc(func(context.Context) ([]string, error) { return g.sources("conformance-items") }),
		Table: functiontest.Columns("public.items",
			event.Column{Name: "id", Type: "bigint", Key: 1}, event.Column{Name: "line", Type: "text", Key: 2}, event.Column{Name: "amount", Type: "numeric(12,2)", Nullable: true},
			event.Column{Name: "doc", Type: "jsonb", Nullable: true}, event.Column{Name: "at", Type: "timestamp with time zone", Nullable: true}, event.Column{Name: "tags", Type: "text[]", Nullable: true}),
		Value: func(c event.Column, n int) string {
			if c.Name == "line" {
				return fmt.Sprintf(`"%d|%% ß"`, n)
			}
			return ""
		},
		Histories: 5,
		Patience:  30 * time.Second,
	}.Run(t)
}

// sources are all documents of an index, once they are visible.
func (g target) sources(index string) ([]string, error) {
	if status, body := g.do("POST", "/"+index+"/_refresh", ""); status != 200 && status != 404 {
		return nil, fmt.Errorf("refresh %s: %s", index, body)
	}
	status, body := g.do("GET", "/"+index+"/_search?size=10000", "")
	var found struct {
		Hits struct {
			Hits []struct {
				Source json.RawMessage `json:"_source"`
			} `json:"hits"`
		} `json:"hits"`
	}
	if err := json.Unmarshal([]byte(body), &found); err != nil || status != 200 && status != 404 {
		return nil, fmt.Errorf("search %s: %s", index, body)
	}
	var rows []string
	for _, h := range found.Hits.Hits {
		rows = append(rows, string(h.Source))
	}
	return rows, nil
}
