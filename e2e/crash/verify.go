package main

import (
	"context"
	"fmt"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/shop"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// verify holds targets and stream against the source, which nobody changes any more.
func (w *World) verify(ctx context.Context, r *Report) error {
	report := &r.checked
	for _, err := range w.DB.Journal(ctx, w.Source) {
		if err != nil {
			return err
		}
		r.ledger.Events++
	}
	tables, err := w.tables(ctx)
	if err != nil {
		return err
	}
	if err := w.catchUp(ctx, tables, report); err != nil {
		return err
	}
	return w.history(ctx, tables, report)
}

// catchUp waits until every target equals the source; what differs at the end of the limit is reported.
func (w *World) catchUp(ctx context.Context, tables map[string]*equal.Table, report *check.Report) error {
	limited, cancel := context.WithTimeout(ctx, limitCatchUp)
	defer cancel()
	var wrong error
	for _, t := range w.Targets {
		for {
			var now check.Report
			if wrong = t.compare(limited, tables, &now); wrong == nil && now.Kept() {
				break
			}
			if pause(limited, time.Second) == nil {
				continue
			}
			if err := t.compare(ctx, tables, report); err != nil {
				return fmt.Errorf("compare %s: %w", t.Function, err)
			}
			break
		}
	}
	return nil
}

// compare looks at every row of every table.
func (t *Target) compare(ctx context.Context, tables map[string]*equal.Table, report *check.Report) error {
	for _, s := range shop.Tables {
		table := tables[s.Name]
		var rows equal.Rows
		var err error
		switch t.Kind {
		case "elasticsearch":
			rows, err = table.Elasticsearch(ctx, t.base(), "", "shop-"+table.Name)
		case "clickhouse":
			rows, err = table.ClickHouse(ctx, t.base(), table.Name)
		case "postgres":
			rows, err = table.Postgres(ctx, t.Server.PostgresURL(), "public", table.Name)
		}
		if err != nil {
			return err
		}
		report.Equal(table, t.Function, rows)
	}
	return nil
}

// base is the URL of a target that speaks HTTP.
func (t *Target) base() string { return "http://" + t.Server.Addr }

// history reads the stream back and holds it and the samples against the source's journal.
func (w *World) history(ctx context.Context, tables map[string]*equal.Table, report *check.Report) error {
	conn, err := w.Connect(ctx)
	if err != nil {
		return fmt.Errorf("read the stream back: %w", err)
	}
	defer conn.Close()
	s, err := stream.Open(ctx, conn, SourceName)
	if err != nil {
		return fmt.Errorf("read the stream back: %w", err)
	}
	if err := report.Samples(w.Recorder.All); err != nil {
		return err
	}
	targets := map[string]string{}
	for _, t := range w.Targets {
		targets[t.Function] = t.Function
	}
	return report.Stream(check.Stream{
		Source: SourceName, Messages: check.From(ctx, s, SourceName), Journal: w.DB.Journal(ctx, w.Source),
		Tables: tables, Reread: w.DB.Reread(tables), Targets: targets, Truncated: w.Traffic.Truncated(),
	}, w.Recorder.All)
}
