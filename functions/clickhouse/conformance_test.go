package clickhouse_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/clickhouse"
	"github.com/runnel-dev/runnel/functions/functiontest"
	"github.com/runnel-dev/runnel/runtime/event"
)

// testConformance: histories of which a table must come out as the source's is.
func testConformance(t *testing.T, g target) {
	functiontest.Suite{
		Handler: func(_ context.Context, f functions.Function) (functions.Handler, error) {
			return clickhouse.New(clickhouse.Config{Function: f.Name, URL: g.url + "/default"})
		},
		Target: functiontest.TargetFunc(func(context.Context) ([]string, error) {
			rows := g.query(`SELECT * FROM conformance_live ORDER BY id FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0`)
			return strings.FieldsFunc(rows, func(r rune) bool { return r == '\n' }), nil
		}),
		Table: functiontest.Columns("public.conformance",
			event.Column{Name: "id", Type: "bigint", Key: 1}, event.Column{Name: "line", Type: "text", Key: 2}, event.Column{Name: "amount", Type: "numeric(12,2)", Nullable: true},
			event.Column{Name: "born", Type: "date", Nullable: true}, event.Column{Name: "fine", Type: "boolean", Nullable: true}),
		Histories: 5,
		Patience:  30 * time.Second,
	}.Run(t)
}
