package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/runnel-dev/runnel/functions"
	"github.com/runnel-dev/runnel/functions/functiontest"
	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/event"
)

func init() { cases["Conformance"] = testConformance }

func testConformance(t *testing.T, w *world) {
	functiontest.Suite{
		Handler: func(_ context.Context, f functions.Function) (functions.Handler, error) {
			return postgres.New(postgres.Config{URL: w.url, Function: f.Name, Table: "copy.{schema}_{table}"})
		},
		Target: functiontest.TargetFunc(func(ctx context.Context) ([]string, error) {
			return w.rows(`SELECT row_to_json(i)::text FROM copy."public_odd ""items""" i`), nil
		}),
		Table: functiontest.Columns(`public.odd "items"`,
			event.Column{Name: "amount", Type: "numeric(12,2)", Nullable: true}, event.Column{Name: `li"ne\`, Type: "text", Key: 2}, event.Column{Name: "id", Type: "bigint", Key: 1},
			event.Column{Name: "doc", Type: "jsonb", Nullable: true}, event.Column{Name: "at", Type: "timestamp with time zone", Nullable: true}, event.Column{Name: "tags", Type: "text[]", Nullable: true}),
		Histories: 5,
		Patience:  30 * time.Second,
	}.Run(t)
}
