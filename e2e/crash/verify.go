package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/runnel-dev/runnel/e2e/check"
	"github.com/runnel-dev/runnel/e2e/crash/ledger"
	"github.com/runnel-dev/runnel/e2e/equal"
	"github.com/runnel-dev/runnel/e2e/shop"
	"github.com/runnel-dev/runnel/runtime/stream"
)

// verify holds targets and stream against the source, which nobody changes any more.
func (w *World) verify(ctx context.Context, r *Report) error {
	tables := map[string]*equal.Table{}
	for _, s := range shop.Tables {
		t, err := equal.Source(ctx, w.Source.PostgresURL(), s.Name, s.Key)
		if err != nil {
			return err
		}
		tables[s.Name] = t
	}
	if diffs := w.catchUp(ctx, tables); len(diffs) > 0 {
		r.find(ledger.Counts{Differing: len(diffs)}, diffs...)
	}
	return w.history(ctx, tables, r)
}

// catchUp waits until every target equals the source; it gives the differences that stay.
func (w *World) catchUp(ctx context.Context, tables map[string]*equal.Table) []string {
	c, cancel := context.WithTimeout(ctx, limitCatchUp)
	defer cancel()
	for {
		var diffs []string
		for _, t := range w.Targets {
			diffs = append(diffs, t.differences(c, tables)...)
		}
		if len(diffs) == 0 {
			return nil
		}
		if pause(c, time.Second) != nil {
			return diffs
		}
	}
}

// differences of each table, a few of each.
func (t *Target) differences(ctx context.Context, tables map[string]*equal.Table) (all []string) {
	for _, s := range shop.Tables {
		table := tables[s.Name]
		var rows equal.Rows
		var err error
		switch t.Kind {
		case "elasticsearch":
			rows, err = table.Elasticsearch(ctx, "http://"+t.Server.Addr, "", "shop-"+table.Name)
		case "clickhouse":
			rows, err = table.ClickHouse(ctx, "http://"+t.Server.Addr, table.Name)
		case "postgres":
			rows, err = table.Postgres(ctx, t.Server.PostgresURL(), "public", table.Name)
		}
		if err != nil {
			all = append(all, fmt.Sprintf("%s: %s: %v", t.Function, table.Name, err))
			continue
		}
		all = append(all, table.Diff(t.Function, rows, 5)...)
	}
	return all
}

// history reads the stream back and holds it against the journal.
func (w *World) history(ctx context.Context, tables map[string]*equal.Table, r *Report) error {
	conn, err := w.Connect(ctx)
	if err != nil {
		return fmt.Errorf("read the stream back: %w", err)
	}
	defer conn.Close()
	s, err := stream.Open(ctx, conn, SourceName)
	if err != nil {
		return fmt.Errorf("read the stream back: %w", err)
	}
	messages, err := check.Read(ctx, s, SourceName)
	if err != nil {
		return fmt.Errorf("read the stream back: %w", err)
	}
	journal, err := check.ReadJournal(ctx, w.Source.PostgresURL())
	if err != nil {
		return err
	}
	r.ledger.Events = int64(len(journal))
	if err := check.Order(messages); err != nil {
		r.find(ledger.Counts{Disordered: 1}, "stream: "+err.Error())
	}
	for _, line := range check.Journal(messages, journal, tables, "notes") {
		r.find(countsOf(line), "stream: "+line)
	}
	return nil
}

// countsOf files what check.Journal says under one of the counters.
func countsOf(line string) ledger.Counts {
	kind, _, _ := strings.Cut(line, ":")
	switch kind {
	case "gap":
		return ledger.Counts{Lost: 1}
	case "duplicate":
		return ledger.Counts{Duplicated: 1}
	case "order":
		return ledger.Counts{Disordered: 1}
	}
	return ledger.Counts{Differing: 1}
}

